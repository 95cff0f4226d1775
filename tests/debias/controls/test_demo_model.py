"""The controls on the real demo model."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from torch import Tensor

from onesense.bias.benchmark import Split
from onesense.bias.benchmarks.gender_facts import load_facts
from onesense.bias.scoring.scorer import ModelScorer
from onesense.debias.controls.activations import labelled_activations
from onesense.debias.controls.bases import neuron_basis
from onesense.debias.controls.calibrate import at_divergence, divergence_of
from onesense.debias.controls.documents import calibration_requests
from onesense.debias.controls.erasures import difference_of_means, encoder_projection, leace
from onesense.debias.controls.reconstruction import ReconstructionOnly
from onesense.debias.controls.signed_pairs import scaled
from onesense.model.hook_points import HookPoint
from onesense.model.language_model import LanguageModel
from onesense.sae.load import load_dictionary
from onesense.steer.intervention import EditGroup

Apply = Callable[[LanguageModel, EditGroup, Tensor], Tensor]
POINT = HookPoint(15, "hook_resid_post")


def test_every_kind_of_control(demo_model: LanguageModel, apply: Apply) -> None:
    data = labelled_activations(demo_model, [POINT], load_facts(Split.TUNE)[:60])[POINT]
    assert data.women.shape[1] == 576
    erasure = leace(data)
    assert erasure.rank == 1
    women, men = apply(demo_model, erasure.group(), data.values).chunk(2)
    size = (data.women.mean(0) - data.men.mean(0)).norm()
    assert (women.mean(0) - men.mean(0)).norm() < 1e-3 * size

    requests = calibration_requests(demo_model, passages=2, tokens=24)
    dictionary = load_dictionary(release="demo", sae_id=POINT.name)
    neurons = neuron_basis(demo_model, 15)
    assert neurons.d_sae == 2 * 1536
    projection = encoder_projection(dictionary, [1, 2, 3], mean=data.mean)
    variants = [
        None,
        [scaled(neurons, range(0, 200), 1.0)],
        [ReconstructionOnly(demo_model, dictionary)],
        [projection.group()],
    ]
    base, same, reconstructed, projected = ModelScorer(demo_model, variants).divergence(requests)
    assert same == base
    assert all(1e-3 < one.kl / one.positions < 2 for one in reconstructed)
    assert all(one.kl > 0 for one in projected)


def test_a_peer_at_the_cost_of_a_recipe(demo_model: LanguageModel) -> None:
    data = labelled_activations(demo_model, [POINT], load_facts(Split.TUNE)[:60])[POINT]
    requests = calibration_requests(demo_model, passages=2, tokens=24)
    erasure = difference_of_means(data)
    found = at_divergence(
        lambda strength: divergence_of(demo_model, requests, [erasure.group(strength)]), 0.003, highest=2.0
    )
    assert found.reached
    assert found.kl == pytest.approx(0.003, rel=0.05)
