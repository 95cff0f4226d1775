"""The screen by senses: features with several of them are left out of what may be edited."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from onesense.errors import IncompatibleError
from onesense.sae.dictionary import Dictionary
from onesense.senses.measure import FEATURES, result_name
from onesense.senses.sense_table import SenseTable
from onesense.store.run_folder import RunFolder


@dataclass(frozen=True, slots=True, eq=False)
class SenseScreen:
    """How many senses the features of some dictionaries have.

    Attributes:
        number: Senses of each feature, those of the first dictionary first; 0 where nobody knows, [features].
        fingerprints: Of the runs that measured them.
    """

    number: NDArray[np.int32]
    fingerprints: tuple[str, ...]

    @property
    def polysemantic(self) -> NDArray[np.bool_]:
        """Features with more than one sense, [features]; those that nobody knows are not among them."""
        return self.number > 1

    def senses(self, column: int) -> int | None:
        """Senses of one feature; None where nobody knows."""
        return int(self.number[column]) or None


def read_screen(runs: Sequence[str], dictionaries: Sequence[Dictionary]) -> SenseScreen:
    """The senses that ``onesense senses measure`` found.

    Args:
        runs: Run folders, in any order; none for no screen.
        dictionaries: Whose features are screened; one without a run is not screened.

    Raises:
        NotFoundError: A folder is no run, or holds no senses.
        IncompatibleError: A run is of a dictionary that is not among these.
    """
    measured: dict[str, NDArray[np.int32]] = {}
    fingerprints = []
    for name in runs:
        run = RunFolder.open(Path(name))
        own = dict(run.provenance.get("inputs", {})).get("dictionary", {}).get("fingerprint")
        if own not in {one.origin.fingerprint for one in dictionaries}:
            raise IncompatibleError(
                f"The senses in {run.path} are those of {run.configuration.get('dictionary', 'nothing known')}, "
                "which is none of the dictionaries that are edited.",
                hint="Measure the senses of these: onesense senses measure.",
            )
        measured[str(own)] = SenseTable.from_tensors(run.read_result(result_name(FEATURES))).number
        fingerprints.append(run.fingerprint)
    unknown = [np.zeros(one.d_sae, np.int32) for one in dictionaries]
    numbers = [
        measured.get(str(one.origin.fingerprint), none)
        for one, none in zip(dictionaries, unknown, strict=True)
    ]
    return SenseScreen(np.concatenate(numbers), tuple(fingerprints))
