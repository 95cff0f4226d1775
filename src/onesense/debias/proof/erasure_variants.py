"""Linear erasures at the recipe's hook points: what its peers reach there."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch

from onesense.bias.benchmark import Split
from onesense.bias.benchmarks.gender_facts import load_facts
from onesense.debias.controls.activations import LabelledActivations, activations_of_pairs
from onesense.debias.controls.documents import documents_outside_audits
from onesense.debias.controls.erasures import (
    Erasure,
    difference_of_means,
    encoder_projection,
    inlp,
    leace,
    sentence_debias,
)
from onesense.debias.controls.text_pairs import TextPair, fact_pairs, shuffled_pairs, swapped_sentences
from onesense.debias.proof.variants import ERASURE, Variant
from onesense.errors import ConfigurationError
from onesense.model.hook_points import HookPoint
from onesense.model.language_model import LanguageModel
from onesense.steer.apply import Edits
from onesense.steer.intervention import EditGroup

_SENTENCES = 200
_SHUFFLED = "Fitted on labels that mean nothing: women and men exchanged in half of the families."
_EVERYWHERE = "Fitted at each hook point on the unedited model."

Fit = Callable[[HookPoint], Erasure]


@dataclass(frozen=True, slots=True)
class _Method:
    """An erasure, how it is fitted at one hook point, and whether it is tried at the main one alone too."""

    name: str
    fit: Fit
    alone: bool = True
    note: str = ""


def erasure_pairs(model: LanguageModel) -> list[TextPair]:
    """What erasures are fitted on: gender facts of the tune split, and swapped sentences that no audit reads.

    Args:
        model: The model; its tokenizer says which text audits take.
    """
    sentences = swapped_sentences(documents_outside_audits(model), limit=_SENTENCES)
    return [*fact_pairs(load_facts(Split.TUNE)), *sentences]


def erasure_variants(
    model: LanguageModel,
    groups: Sequence[EditGroup],
    pairs: Sequence[TextPair],
    *,
    seed: int,
    only: Sequence[str] = (),
) -> tuple[list[Variant], list[str]]:
    """Erasures at the hook point where the recipe edits most, and at all of its hook points.

    Difference of means, LEACE, INLP, SentenceDebias, the projection of the encoders of the recipe's features,
    and the first two with shuffled labels (at all hook points only).

    Args:
        model: The model.
        groups: The edits of the recipe.
        pairs: Texts to fit on (see ``erasure_pairs``).
        seed: Of what INLP holds back, and of the shuffled labels.
        only: Beginnings of names; methods of which none is wanted are not fitted. Empty for all.

    Returns:
        The variants, and why an erasure was left out.

    Raises:
        ConfigurationError: There are too few pairs.
        NumericalError: An activation is NaN or infinite.
    """
    edited = _features(groups)
    points = list(edited)
    data = activations_of_pairs(model, points, pairs)
    shuffled = {point: _shuffled(one, pairs, seed) for point, one in data.items()}
    main = max(points, key=lambda point: len(edited[point]))
    variants: list[Variant] = []
    notes: list[str] = []
    for method in _methods(groups, edited, data, shuffled, seed):
        if only and not any(name.startswith(method.name) or method.name.startswith(name) for name in only):
            continue
        fitted = _fitted(method, points, notes)
        if len(fitted) > 1 and method.alone and main in fitted:
            variants.append(_variant(f"{method.name} at {main}", [fitted[main]], method.note))
        if len(fitted) > 1:
            everywhere = f"{method.note} {_EVERYWHERE}".strip()
            variants.append(_variant(f"{method.name}, all points", list(fitted.values()), everywhere))
        elif fitted:
            (point,) = fitted
            variants.append(_variant(f"{method.name} at {point}", [fitted[point]], method.note))
    return variants, notes


def _methods(
    groups: Sequence[EditGroup],
    edited: Mapping[HookPoint, Sequence[int]],
    data: Mapping[HookPoint, LabelledActivations],
    shuffled: Mapping[HookPoint, LabelledActivations],
    seed: int,
) -> list[_Method]:
    dictionaries = {group.point: group.dictionary for group in groups}
    return [
        _Method("difference of means", lambda point: difference_of_means(data[point])),
        _Method("LEACE", lambda point: leace(data[point])),
        _Method("INLP", lambda point: inlp(data[point], seed=seed)),
        _Method("SentenceDebias", lambda point: sentence_debias(data[point])),
        _Method(
            "encoder projection",
            lambda point: encoder_projection(dictionaries[point], edited[point], mean=data[point].mean),
            note="The encoders of the recipe's features, projected out.",
        ),
        _Method(
            "shuffled labels, difference of means",
            lambda point: difference_of_means(shuffled[point]),
            alone=False,
            note=_SHUFFLED,
        ),
        _Method("shuffled labels, LEACE", lambda point: leace(shuffled[point]), alone=False, note=_SHUFFLED),
    ]


def _shuffled(data: LabelledActivations, pairs: Sequence[TextPair], seed: int) -> LabelledActivations:
    """The activations of ``shuffled_pairs``, without reading them again."""
    others = shuffled_pairs(pairs, seed)
    exchanged = {one.family for one, other in zip(pairs, others, strict=True) if one.woman != other.woman}
    swap = torch.tensor([family in exchanged for family in data.families])[:, None]
    women, men = data.women, data.men
    return replace(data, women=torch.where(swap, men, women), men=torch.where(swap, women, men))


def _features(groups: Sequence[EditGroup]) -> dict[HookPoint, list[int]]:
    """The features of the recipe at each hook point, each once."""
    edited: dict[HookPoint, list[int]] = {}
    for group in groups:
        mine = edited.setdefault(group.point, [])
        mine.extend(dict.fromkeys(edit.feature for edit in group.edits if edit.feature not in mine))
    return {point: features for point, features in edited.items() if features}


def _fitted(method: _Method, points: Sequence[HookPoint], notes: list[str]) -> dict[HookPoint, Erasure]:
    found = {}
    for point in points:
        try:
            found[point] = method.fit(point)
        except ConfigurationError as error:
            notes.append(f"{method.name} was left out at {point}: {error.message}")
    return found


def _variant(name: str, erasures: Sequence[Erasure], note: str) -> Variant:
    # Bound here, because a function made in a loop would see the last round's erasures.
    group = partial(_groups, tuple(erasures))
    return Variant(name, ERASURE, sum(one.rank for one in erasures), group, note=note)


def _groups(erasures: Sequence[Erasure], strength: float) -> Edits:
    return [one.group(strength) for one in erasures]
