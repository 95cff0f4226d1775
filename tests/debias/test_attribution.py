"""Attributions: the first-order effect of scaling a latent, and the KL divergence that it makes to second order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from onesense.bias.scoring.requests import Request
from onesense.bias.scoring.scorer import ModelScorer
from onesense.debias.attribution import contrast_attributions, fisher_scores
from onesense.debias.contrasts import Contrast
from onesense.errors import ConfigurationError
from onesense.model.language_model import LanguageModel
from onesense.sae.dictionary import Origin
from onesense.steer.edit import Edit, Operation
from onesense.steer.intervention import EditGroup
from small_recipes import dictionary_at

PROMPTS = ["The nurse said that", "A baker asked whether", "The pilot of the old plane told us"]
POINTS = ("blocks.0.hook_resid_post", "blocks.1.hook_resid_post")


def _contrasts() -> list[Contrast]:
    return [Contrast(prompt, "she", "he", prompt, prompt, "all", 0) for prompt in PROMPTS]


def _log_odds(model: LanguageModel, group: EditGroup | None) -> torch.Tensor:
    """Of the first token in which the words differ, as attributions count it."""
    scorer = ModelScorer(model)
    with torch.no_grad():
        found = []
        for prompt in PROMPTS:
            ids = (256, *scorer.token_ids(prompt + " "))
            words = [scorer.token_ids(word)[0] for word in ("s", "h")]
            requests = [Request("", ids=(*ids, word), start=len(ids)) for word in words]
            one, other = ModelScorer(model, [None if group is None else [group]]).score(requests)[0]
            found.append(one.logprob - other.logprob)
    return torch.tensor(found)


@pytest.mark.parametrize("family", ["gpt2", "llama", "gpt_neox", "gemma2"])
def test_effects_are_what_a_small_scaling_does(
    tiny_model: Callable[[str], LanguageModel], family: str
) -> None:
    model = tiny_model(family)
    dictionaries = [dictionary_at(point) for point in POINTS]
    found = contrast_attributions(model, dictionaries, _contrasts())
    torch.testing.assert_close(found.values, _log_odds(model, None).float(), rtol=1e-4, atol=1e-5)
    step = 0.02
    for dictionary, sparse in zip(dictionaries, found.effects, strict=True):
        effects = torch.from_numpy(sparse.toarray())
        feature = int(effects.abs().mean(0).argmax())
        sides = [
            _log_odds(
                model,
                EditGroup(
                    dictionary, [Edit(feature=feature, operation=Operation.SCALE, value=1 + way * step)]
                ),
            )
            for way in (1, -1)
        ]
        slope = ((sides[0] - sides[1]) / (2 * step)).float()
        torch.testing.assert_close(effects[:, feature], slope, rtol=0.05, atol=2e-3)


def test_half_the_mean_square_of_scores_is_the_divergence(tiny_llama: LanguageModel) -> None:
    dictionary = dictionary_at(POINTS[0])
    generator = torch.Generator().manual_seed(0)
    passages = [
        Request("x", ids=tuple(torch.randint(250, (24,), generator=generator).tolist())) for _ in range(160)
    ]
    scores = fisher_scores(tiny_llama, [dictionary], passages, seed=0)
    costs = (scores.effects[0].toarray() ** 2).sum(0) / 2 / float(scores.tokens.sum())
    feature = int(costs.argmax())
    step = 0.2
    group = EditGroup(dictionary, [Edit(feature=feature, operation=Operation.SCALE, value=1 + step)])
    divergences = ModelScorer(tiny_llama, [None, [group]]).divergence(passages)[1]
    kl = sum(one.kl for one in divergences) / sum(one.positions for one in divergences)
    assert float(costs[feature]) * step**2 == pytest.approx(kl, rel=0.35)


def test_the_scores_follow_their_seed(tiny_llama: LanguageModel) -> None:
    dictionary = dictionary_at(POINTS[0])
    passages = [Request("x", ids=tuple(range(20, 40)))]
    first, again, other = (
        fisher_scores(tiny_llama, [dictionary], passages, seed=seed).effects[0].toarray()
        for seed in (1, 1, 2)
    )
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_firing_is_counted_without_special_tokens(tiny_gpt2: LanguageModel) -> None:
    dictionary = dictionary_at(POINTS[0])
    found = contrast_attributions(tiny_gpt2, [dictionary], _contrasts())
    assert float(found.fired[0].max()) <= float(found.tokens.sum())
    # A byte is a token: the prompt, and the space before the word.
    assert found.tokens.tolist() == [len(prompt) + 1 for prompt in PROMPTS]


def test_two_equal_words_are_refused(tiny_gpt2: LanguageModel) -> None:
    same = [Contrast("The nurse said that", "she", "she", "nurse", "nurse", "all", 0)]
    with pytest.raises(ConfigurationError, match="begin with the same tokens"):
        contrast_attributions(tiny_gpt2, [dictionary_at(POINTS[0])], same)


def test_few_firing_latents_are_counted_as_many_are(
    tiny_llama: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    dictionaries = [dictionary_at(point) for point in POINTS]
    found = []
    for share in (0.0, 1.0):
        monkeypatch.setattr("onesense.debias.attribution._SPARSE", share)
        found.append(contrast_attributions(tiny_llama, dictionaries, _contrasts()))
    dense, sparse = found
    for one, other in zip(dense.effects, sparse.effects, strict=True):
        np.testing.assert_allclose(one.toarray(), other.toarray(), rtol=1e-5, atol=1e-6)
    for name in ("fired", "latents"):
        for mine, others in zip(getattr(dense, name), getattr(sparse, name), strict=True):
            torch.testing.assert_close(mine, others, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_texts_in_many_batches_keep_their_order(
    tiny_llama: LanguageModel, monkeypatch: pytest.MonkeyPatch, share: float
) -> None:
    monkeypatch.setattr("onesense.debias.attribution._SPARSE", share)
    dictionaries = [dictionary_at(point) for point in POINTS]
    together = contrast_attributions(tiny_llama, dictionaries, _contrasts())
    monkeypatch.setattr("onesense.debias.attribution.TOKENS_ON_CPU", 1)
    monkeypatch.setattr("onesense.debias.attribution._FIRINGS_AT_ONCE", 5)
    apart = contrast_attributions(tiny_llama, dictionaries, list(reversed(_contrasts())))
    for one, other in zip(together.effects, apart.effects, strict=True):
        np.testing.assert_allclose(one.toarray(), other.toarray()[::-1], rtol=1e-4, atol=1e-6)
    for one, other in zip(together.latents, apart.latents, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


def test_effects_take_memory_for_what_fires_and_not_for_the_width(tiny_llama: LanguageModel) -> None:
    narrow = dictionary_at(POINTS[0])
    still = {
        "W_enc": torch.cat([narrow.W_enc, *[torch.zeros_like(narrow.W_enc)] * 7], dim=1),
        "b_enc": torch.cat([narrow.b_enc, *[torch.full_like(narrow.b_enc, -1.0)] * 7]),
        "W_dec": torch.cat([narrow.W_dec] * 8),
    }
    wide = replace(narrow, **still, origin=Origin())
    one, other = (
        contrast_attributions(tiny_llama, [dictionary], _contrasts()).effects[0]
        for dictionary in (narrow, wide)
    )
    assert other.shape == (len(PROMPTS), 8 * narrow.d_sae)
    assert 0 < one.nnz == other.nnz
    sizes = [(found.data.nbytes, found.indices.nbytes, found.indptr.nbytes) for found in (one, other)]
    assert sizes[0] == sizes[1]
    np.testing.assert_allclose(one.toarray(), other.toarray()[:, : narrow.d_sae], rtol=1e-5, atol=1e-6)
