"""Erasures against their formulas and their libraries."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from concept_erasure import LeaceEraser
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from onesense.debias.controls.activations import LabelledActivations
from onesense.debias.controls.erasures import (
    difference_of_means,
    encoder_projection,
    inlp,
    leace,
    sentence_debias,
)
from onesense.errors import ConfigurationError, NotFoundError
from onesense.model.language_model import LanguageModel
from onesense.sae.dictionary import Normalization
from onesense.steer.intervention import EditGroup
from tiny_dictionaries import prepared, random_dictionary

Apply = Callable[[LanguageModel, EditGroup, Tensor], Tensor]


def _same(data: LabelledActivations) -> LabelledActivations:
    return replace(data, women=data.men)


@pytest.mark.parametrize("centred", [True, False])
@pytest.mark.parametrize("strength", [0.0, 0.4, 1.0])
def test_difference_of_means_by_its_formula(
    tiny_llama: LanguageModel, data: LabelledActivations, apply: Apply, centred: bool, strength: float
) -> None:
    difference = data.women.mean(0) - data.men.mean(0)
    unit = difference / difference.norm()
    origin = data.values.mean(0) if centred else torch.zeros(32)
    expected = data.values - strength * ((data.values - origin) @ unit)[:, None] * unit
    erasure = difference_of_means(data, centred=centred)
    assert erasure.rank == 1
    new = apply(tiny_llama, erasure.group(strength), data.values)
    torch.testing.assert_close(new, expected, atol=1e-5, rtol=1e-5)
    gone = new[: len(data.women)].mean(0) - new[len(data.women) :].mean(0)
    torch.testing.assert_close(gone, (1 - strength) * difference, atol=1e-5, rtol=0)


def test_leace_is_the_library_s(tiny_llama: LanguageModel, data: LabelledActivations, apply: Apply) -> None:
    eraser = LeaceEraser.fit(data.values.double(), data.labels)
    erasure = leace(data)
    new = apply(tiny_llama, erasure.group(), data.values)
    torch.testing.assert_close(new, eraser(data.values.double()).float(), atol=1e-5, rtol=1e-5)
    halves = new.chunk(2)
    torch.testing.assert_close(halves[0].mean(0), halves[1].mean(0), atol=1e-5, rtol=0)
    half = apply(tiny_llama, erasure.group(0.5), data.values)
    torch.testing.assert_close(half, 0.5 * (new + data.values), atol=1e-5, rtol=1e-5)


def test_leace_is_oblique_and_guards_against_a_linear_classifier(
    tiny_llama: LanguageModel, data: LabelledActivations, apply: Apply
) -> None:
    erasure = leace(data)
    reads, writes = erasure.dictionary.W_enc[:, 0], erasure.dictionary.W_dec[0]
    assert torch.cosine_similarity(reads, writes, dim=0) < 0.99
    assert float(reads @ writes) == pytest.approx(1, abs=1e-5)
    new = apply(tiny_llama, erasure.group(), data.values)
    labels = data.labels.numpy()
    assert (
        LogisticRegression(max_iter=1000).fit(data.values.numpy(), labels).score(data.values.numpy(), labels)
        > 0.9
    )
    fitted = LogisticRegression(max_iter=1000, C=1e6).fit(new.numpy(), labels)
    assert abs(fitted.score(new.numpy(), labels) - 0.5) < 0.05


def test_inlp_is_a_projection_that_leaves_nothing_to_classify(
    tiny_llama: LanguageModel, data: LabelledActivations, apply: Apply
) -> None:
    erasure = inlp(data)
    assert 1 <= erasure.rank <= 20
    rows = erasure.dictionary.W_dec[0::2]
    torch.testing.assert_close(rows @ rows.T, torch.eye(erasure.rank), atol=1e-5, rtol=0)
    once = apply(tiny_llama, erasure.group(), data.values)
    torch.testing.assert_close(apply(tiny_llama, erasure.group(), once), once, atol=1e-4, rtol=1e-4)
    inside = (once - data.mean) @ rows.T
    torch.testing.assert_close(inside, torch.zeros_like(inside), atol=1e-4, rtol=0)
    first = LogisticRegression(max_iter=1000).fit(data.values.numpy(), data.labels.numpy()).coef_[0]
    left = first - rows.numpy().T @ (rows.numpy() @ first)
    assert np.linalg.norm(left) < 0.5 * np.linalg.norm(first)


def test_inlp_ends_at_chance_or_after_its_rounds(data: LabelledActivations) -> None:
    generator = torch.Generator().manual_seed(0)
    only = torch.zeros(32)
    only[0] = 10.0
    noise = torch.randn(240, 32, generator=generator)
    one_direction = replace(data, women=noise[:120] + only, men=noise[120:] - only)
    erasure = inlp(one_direction)
    assert erasure.rank < 6
    assert abs(float(erasure.dictionary.W_dec[0, 0])) > 0.9
    assert inlp(data, rounds=2).rank == 2
    assert (
        inlp(data, seed=1).dictionary.origin.fingerprint == inlp(data, seed=1).dictionary.origin.fingerprint
    )


@pytest.mark.parametrize("k", [1, 3])
def test_sentence_debias_by_pca_of_centred_pairs(
    tiny_llama: LanguageModel, data: LabelledActivations, apply: Apply, k: int
) -> None:
    middle = 0.5 * (data.women + data.men)
    within = torch.cat([data.women - middle, data.men - middle]).double().numpy()
    components = torch.from_numpy(PCA(k).fit(within).components_).float()
    new = apply(tiny_llama, sentence_debias(data, k=k, centred=False).group(), data.values)
    torch.testing.assert_close(
        new, data.values - data.values @ components.T @ components, atol=1e-4, rtol=1e-4
    )


@pytest.mark.parametrize("normalization", [Normalization.NONE, Normalization.LAYER_NORM])
@pytest.mark.parametrize("center", [True, False])
def test_encoder_projection_silences_the_encoders(
    tiny_llama: LanguageModel,
    data: LabelledActivations,
    apply: Apply,
    normalization: Normalization,
    center: bool,
) -> None:
    dictionary = prepared(
        random_dictionary(d_in=32), normalization=normalization, center=center, subtract_b_dec=False
    )
    erasure = encoder_projection(dictionary, [5, 9, 5, 30])
    assert erasure.rank == 3
    new = apply(tiny_llama, erasure.group(), data.values)
    assert (dictionary.encode(data.values)[:, [5, 9, 30]] > dictionary.b_enc[[5, 9, 30]].relu() + 1e-3).any()
    silent = dictionary.b_enc[[5, 9, 30]].relu().expand(len(new), 3)
    torch.testing.assert_close(dictionary.encode(new)[:, [5, 9, 30]], silent, atol=1e-4, rtol=1e-4)


def test_encoder_projection_counts_dependent_encoders_once(data: LabelledActivations) -> None:
    dictionary = random_dictionary(d_in=32)
    doubled = dictionary.W_enc.clone()
    doubled[:, 1] = -2 * doubled[:, 0]
    erasure = encoder_projection(replace(dictionary, W_enc=doubled), [0, 1], mean=data.mean)
    assert erasure.rank == 1
    assert torch.equal(erasure.dictionary.b_dec, data.mean)


@pytest.mark.parametrize("fit", [difference_of_means, leace, inlp, sentence_debias])
def test_no_difference_is_told(
    data: LabelledActivations, fit: Callable[[LabelledActivations], object]
) -> None:
    with pytest.raises(ConfigurationError, match="no difference between women and men"):
        fit(_same(data))


def test_bad_arguments_are_refused(data: LabelledActivations) -> None:
    dictionary = random_dictionary(d_in=32)
    with pytest.raises(ConfigurationError, match="No feature"):
        encoder_projection(dictionary, [])
    with pytest.raises(NotFoundError, match="no feature 99"):
        encoder_projection(dictionary, [99])
    with pytest.raises(ConfigurationError, match="cannot be found"):
        sentence_debias(data, k=33)
    with pytest.raises(ConfigurationError, match="one round"):
        inlp(data, rounds=0)
    with pytest.raises(ConfigurationError, match="about one word"):
        inlp(replace(data, families=("one",) * 120))
    for strength in (-0.1, float("nan"), float("inf")):
        with pytest.raises(ConfigurationError, match="strength"):
            difference_of_means(data).group(strength)
