"""What is known of every unit of a set: its senses, and what it does to the model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from onesense.errors import ConfigurationError, IncompatibleError
from onesense.senses.measure import FEATURES, Measured
from onesense.senses.sense_table import SenseTable
from onesense.senses.unit_sets import UnitSet

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class StudiedSet:
    """Units with their senses.

    Attributes:
        units: The units.
        senses: Their senses, in the same order.
    """

    units: UnitSet
    senses: SenseTable

    def __post_init__(self) -> None:
        if len(self.senses.number) != self.units.n_units:
            raise IncompatibleError(
                f"{self.units.name}: senses of {len(self.senses.number)} units do not belong to "
                f"{self.units.n_units} units.",
                hint="Measure the senses of this dictionary again (onesense senses measure).",
            )

    @property
    def name(self) -> str:
        """Name of the set."""
        return self.units.name


@dataclass(frozen=True, slots=True, eq=False)
class UnitTable:
    """One row a unit; NaN where nobody knows. Effects are those of scaling the unit to zero, to first order.

    Attributes:
        name: Name of the set.
        density: Share of the positions of a text at which the unit fires, [units].
        norm: Mean latent at its contexts times the norm of what it writes into the residual stream, [units].
        number: Senses; 0 where nobody knows, [units].
        effective: Effective number of senses, [units].
        several: How much its contexts look like more than one sense, 0 to 1, [units].
        separation: Mean cosine within senses minus between them; NaN for one sense, [units].
        token_entropy: Of the tokens at its contexts, nats, [units].
        bias: Standard deviation over neutral prompts of its effect on the log-odds of “she” against “he”,
            nats, [units].
        stereotype: How much of that goes along with the model's own leaning, nats: above 0 the unit drives it,
            below 0 it works against it, [units].
        fact: Mean absolute effect on the margins of gender facts, nats, [units].
        kl: KL divergence per token of ordinary text, nats, [units].
    """

    name: str
    density: Floats
    norm: Floats
    number: Floats
    effective: Floats
    several: Floats
    separation: Floats
    token_entropy: Floats
    bias: Floats
    stereotype: Floats
    fact: Floats
    kl: Floats

    def __len__(self) -> int:
        """Units."""
        return len(self.bias)

    @property
    def bias_per_kl(self) -> Floats:
        """Bias over the root of KL: both grow in step with the change, so the size of the unit cancels, [units]."""
        return _over(self.bias, np.sqrt(self.kl))

    @property
    def fact_per_bias(self) -> Floats:
        """Fact over bias, [units]."""
        return _over(self.fact, self.bias)


COLUMNS = (
    "density",
    "norm",
    "number",
    "effective",
    "several",
    "separation",
    "token_entropy",
    "bias",
    "stereotype",
    "fact",
    "kl",
)
"""The columns of ``UnitTable``, in the order of its files."""


def studied_sets(measured: Sequence[Measured]) -> list[StudiedSet]:
    """The sets of one or more measurements of senses, each with a name of its own.

    Features of several dictionaries are told apart by their width. Neurons and coordinates that several
    measurements hold are taken from the first of them.

    Args:
        measured: One for each dictionary.

    Raises:
        ConfigurationError: There is none, or two dictionaries have the same width.
    """
    found: dict[str, StudiedSet] = {}
    for one in measured:
        for units in one.measurement.unit_sets:
            name = units.name
            if name == FEATURES and len(measured) > 1:
                name = f"{FEATURES}, {units.n_units:,} wide"
                if name in found:
                    raise ConfigurationError(
                        f"Two dictionaries have {units.n_units:,} features: they would have the same name.",
                        hint="Study them one after the other.",
                    )
            if name not in found:
                found[name] = StudiedSet(replace(units, name=name), one.tables[units.name])
    if not found:
        raise ConfigurationError(
            "There are no units to study.", hint="Measure senses first: onesense senses measure."
        )
    return list(found.values())


def mean_latent(senses: SenseTable) -> Floats:
    """Mean latent over the contexts of each unit; NaN for a unit that has none, [units]."""
    there = senses.position >= 0
    total = np.where(there, senses.value, 0).sum(axis=1, dtype=np.float64)
    return _over(total, there.sum(axis=1).astype(np.float64))


def _over(above: Floats, below: Floats) -> Floats:
    """Their ratio; NaN where there is nothing below."""
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = above / below
    return np.where(below > 0, ratio, np.nan)
