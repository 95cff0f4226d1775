"""Reconstruction only: everywhere but at special tokens and padding, in every machinery that takes edits."""

from __future__ import annotations

import pytest
import torch

from onesense.bias.scoring.requests import Request
from onesense.bias.scoring.scorer import ModelScorer, ScoringSettings
from onesense.debias.controls.reconstruction import ReconstructionOnly
from onesense.debias.controls.signed_pairs import signed_pairs
from onesense.errors import ConfigurationError, IncompatibleError
from onesense.model.capture import capture, forward_arguments
from onesense.model.hook_points import HookPoint
from onesense.model.language_model import LanguageModel
from onesense.model.tokens import pad_batch
from onesense.sae.dictionary import Normalization
from onesense.steer.apply import applied
from onesense.steer.where import Where
from tiny_dictionaries import prepared, random_dictionary

POINT = HookPoint(1, "hook_resid_post")
ROWS = [[256, 72, 101, 32, 115], [256, 72, 257, 9]]
REQUESTS = [Request("The nurse said that she was tired."), Request("The doctor", context="Here is ")]


@pytest.mark.parametrize("normalization", [Normalization.NONE, Normalization.LAYER_NORM])
def test_activations_become_their_reconstruction(
    tiny_llama: LanguageModel, normalization: Normalization
) -> None:
    dictionary = prepared(random_dictionary(d_in=32, hook_point=POINT), normalization=normalization)
    batch = pad_batch(tiny_llama, ROWS, side="left")
    before = capture(tiny_llama, batch, [POINT])[POINT]
    with (
        torch.no_grad(),
        applied(tiny_llama, [ReconstructionOnly(tiny_llama, dictionary)], warn=False) as report,
    ):
        tiny_llama.hf(**forward_arguments(batch))
        after = capture(tiny_llama, batch, [POINT])[POINT]
    expected = torch.where(batch.content[..., None], dictionary.reconstruct(before), before)
    torch.testing.assert_close(after, expected, atol=1e-5, rtol=1e-5)
    assert torch.equal(after[~batch.content], before[~batch.content])
    assert report.positions == 2 * int(batch.content.sum())
    assert report.doses[0].relative is not None


def test_it_is_a_variant_of_a_scorer(tiny_llama: LanguageModel) -> None:
    exact = signed_pairs(POINT, torch.eye(32), torch.eye(32))
    lossy = random_dictionary(d_in=32, hook_point=POINT)
    variants = [None, [ReconstructionOnly(tiny_llama, exact)], [ReconstructionOnly(tiny_llama, lossy)]]
    scorer = ModelScorer(tiny_llama, variants)
    plain, same, other = (sum(one.kl for one in found) for found in scorer.divergence(REQUESTS))
    assert plain == 0
    assert same < 1e-6
    assert other > 0.01
    settings = ScoringSettings(trees=False, resume=False, batch_tokens=1)
    alone = ModelScorer(tiny_llama, variants, settings=settings).score(REQUESTS)[2]
    for one, wanted in zip(scorer.score(REQUESTS)[2], alone, strict=True):
        assert one.logprob == pytest.approx(wanted.logprob, abs=1e-4)


def test_only_where_it_is_told(tiny_llama: LanguageModel) -> None:
    dictionary = random_dictionary(d_in=32, hook_point=POINT)
    batch = pad_batch(tiny_llama, ROWS[:1])
    first = ReconstructionOnly(tiny_llama, dictionary, where=Where(first=2))
    with torch.no_grad(), applied(tiny_llama, [first], warn=False) as report:
        tiny_llama.hf(**forward_arguments(batch))
    assert report.positions == 1


def test_what_cannot_be_is_refused(tiny_llama: LanguageModel) -> None:
    with pytest.raises(IncompatibleError, match="width"):
        ReconstructionOnly(tiny_llama, random_dictionary(d_in=12))
    dictionary = random_dictionary(d_in=32, hook_point=POINT)
    with pytest.raises(ConfigurationError, match="no amounts"):
        ReconstructionOnly(tiny_llama, dictionary).with_amounts(torch.ones(1))
