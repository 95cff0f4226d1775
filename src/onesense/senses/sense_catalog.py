"""Measured senses as rows of the catalogue, and as text that a person reads."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from onesense.model.language_model import LanguageModel
from onesense.senses.activity import Activity
from onesense.senses.measure import Measured
from onesense.senses.sampling import Sample
from onesense.senses.sense_table import SenseTable
from onesense.store.catalog import Catalog
from onesense.store.senses import SenseRow, replace_senses

_TOKENS = 5
_BEFORE, _AFTER = 12, 6


class SenseContext(NamedTuple):
    """One context of a sense.

    Attributes:
        before: Text in front of the token.
        token: The token at which the unit fires.
        after: Text behind it.
        activation: The latent.
    """

    before: str
    token: str
    after: str
    activation: float


def write_sense_catalog(measured: Measured, model: LanguageModel) -> None:
    """Put every unit into the catalogue of the run.

    Raises:
        StorageError: It cannot be written.
    """
    with Catalog(measured.run.catalog_path) as catalog:
        replace_senses(catalog, _rows(measured, model))


def top_tokens(activity: Activity, sample: Sample, number: int = _TOKENS) -> list[int]:
    """Token ids that carry most of the activation of some contexts, strongest first."""
    tokens, place = np.unique(activity.token[sample.position], return_inverse=True)
    mass = np.bincount(place, weights=sample.value.astype(np.float64), minlength=len(tokens))
    return [int(tokens[at]) for at in np.argsort(-mass, kind="stable")[:number]]


def contexts_of(
    model: LanguageModel, activity: Activity, table: SenseTable, unit: int, sense: int, number: int
) -> list[SenseContext]:
    """The strongest contexts of one sense, as text.

    Args:
        model: Its tokenizer.
        activity: The text.
        table: The senses of the unit's set.
        unit: Which.
        sense: Which of its senses, 0 for the largest.
        number: How many.
    """
    found = []
    sample = table.sense(unit, sense)
    for position, value in zip(sample.position[:number], sample.value[:number], strict=True):
        own = np.flatnonzero(activity.window == activity.window[position])
        at = int(np.searchsorted(own, position))
        ids = activity.token[own].tolist()
        before, after = ids[max(0, at - _BEFORE) : at], ids[at + 1 : at + 1 + _AFTER]
        found.append(
            SenseContext(model.decode(before), model.decode([ids[at]]), model.decode(after), float(value))
        )
    return found


def _rows(measured: Measured, model: LanguageModel) -> Iterator[SenseRow]:
    activity = measured.measurement.activity
    for name, table in measured.tables.items():
        senses = [
            [top_tokens(activity, table.sense(unit, which)) for which in range(max(1, int(number)))]
            for unit, number in enumerate(table.number)
        ]
        ids = sorted({token for unit in senses for sense in unit for token in sense})
        spelled = dict(zip(ids, model.token_strings(ids), strict=True)) if model.tokenizer else {}
        for unit, number in enumerate(table.number):
            known = bool(number > 0)
            yield SenseRow(
                name,
                unit,
                number=int(number) if known else None,
                effective=float(table.effective[unit]),
                several=float(table.several[unit]),
                separation=float(table.separation[unit]),
                token_entropy=float(table.token_entropy[unit]),
                density=float(table.density[unit]),
                documents=int(table.documents[unit]),
                tokens=[[spelled.get(token, str(token)) for token in sense] for sense in senses[unit]],
            )
