"""From attributions to what is said of a feature: its effects, its tokens, the prompts where it acts."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray

from onesense.bias.benchmarks.own import packaged_table
from onesense.debias.find import Found
from onesense.debias.results import FeatureEvidence
from onesense.debias.sense_screen import SenseScreen
from onesense.features.enrichment import enrichment
from onesense.model.language_model import LanguageModel
from onesense.model.unembedding import unembedding
from onesense.sae.dictionary import Dictionary

_TOKENS = 8
_ENRICHED = 50
_PROMPTS = 3
_PRONOUNS = ("she", "her", "hers", "herself", "he", "him", "his", "himself")


def strongest(found: Found, number: int) -> list[int]:
    """Columns of the features whose bias is largest, the strongest first; screened ones are not among them."""
    bias = np.where(found.allowed, found.evidence.bias, -1.0)
    return [int(column) for column in np.argsort(-bias, kind="stable")[:number] if bias[column] > 0]


def describe(
    model: LanguageModel,
    dictionaries: Sequence[Dictionary],
    found: Found,
    columns: Sequence[int],
    screen: SenseScreen | None = None,
) -> list[FeatureEvidence]:
    """What is known of some features.

    Args:
        model: The model.
        dictionaries: The dictionaries, in the order of ``find``.
        found: What finding gave.
        columns: The features as columns of the evidence.
        screen: How many senses features have.
    """
    W_U = unembedding(model)
    gendered = _gendered(model.vocabulary())
    described = [_one(model, dictionaries, found, column, W_U, gendered) for column in columns]
    if screen is None:
        return described
    return [
        replace(one, senses=screen.senses(column)) for one, column in zip(described, columns, strict=True)
    ]


def _one(
    model: LanguageModel,
    dictionaries: Sequence[Dictionary],
    found: Found,
    column: int,
    W_U: torch.Tensor,
    gendered: NDArray[np.bool_],
) -> FeatureEvidence:
    evidence = found.evidence
    feature = evidence.feature(column)
    dictionary = dictionaries[feature.dictionary]
    row = dictionary.decoder_rows(torch.tensor([feature.id], device=dictionary.device))[0]
    logits = (row.to(W_U.device) @ W_U).cpu()
    high, low = logits.topk(_ENRICHED).indices.tolist(), (-logits).topk(_ENRICHED).indices.tolist()
    effects = evidence.neutral_effects[:, column]
    swapped = float(found.swapped[column])
    return FeatureEvidence(
        hook_point=dictionary.hook_point.name,
        feature=feature.id,
        bias=float(evidence.bias[column]),
        toward_women=_correlation(effects, evidence.neutral),
        fact=float(evidence.fact[column]),
        kl=float(evidence.cost[column]),
        density=float(found.density[column]),
        swapped=None if np.isnan(swapped) else swapped,
        promoted=tuple(model.token_strings(high[:_TOKENS])),
        suppressed=tuple(model.token_strings(low[:_TOKENS])),
        gender_words=_enrichment([*high, *low], gendered),
        prompts=_prompts(found, effects),
    )


def _prompts(found: Found, effects: NDArray[np.float64]) -> tuple[tuple[str, float], ...]:
    """The people for whom the feature moves the pronoun most, in their first prompt."""
    people = list(dict.fromkeys(one.person for one in found.neutral))
    first = {one.person: one.prompt for one in reversed(found.neutral)}
    order = np.argsort(-np.abs(effects), kind="stable")[:_PROMPTS]
    return tuple((first[people[at]], float(effects[at])) for at in order if effects[at] != 0)


def _correlation(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    if one.std() == 0 or other.std() == 0:
        return 0.0
    return float(np.corrcoef(one, other)[0, 1])


def _enrichment(tokens: Sequence[int], gendered: NDArray[np.bool_]) -> float:
    """The p of so many gender words among so many tokens by chance."""
    return float(enrichment(gendered[None], np.array([list(dict.fromkeys(tokens))])).p[0, 0])


@cache
def gender_words() -> frozenset[str]:
    """Words about women or men in small letters: pronouns, titles, nouns; no names."""
    rows = packaged_table("gender_words.tsv", ("group", "family", "women", "men"))
    named = [row[side] for row in rows if row["group"] != "names" for side in ("women", "men")]
    words = {word.lower() for text in named for word in re.findall(r"[A-Za-z]+", text)}
    return frozenset((words | set(_PRONOUNS)) - {"the", "my", "a", "an", "of", "in", "law"})


def _gendered(vocabulary: Sequence[str]) -> NDArray[np.bool_]:
    words = gender_words()
    return np.array([token.strip(" Ġ▁").lower() in words for token in vocabulary])
