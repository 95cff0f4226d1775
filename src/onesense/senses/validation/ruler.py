"""The ruler of senses in validations: refused where it would say nothing, and its answers as numbers."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from onesense.errors import ConfigurationError
from onesense.senses.activity import Activity, Firings, Floats
from onesense.senses.ruler import Ruler
from onesense.senses.sampling import sample_all


def check_documents(activity: Activity) -> None:
    """Refuse a text of one document.

    Raises:
        ConfigurationError: It is one.
    """
    if len(activity) and activity.document.min() == activity.document.max():
        raise ConfigurationError(
            "The text is one document: its contexts are alike whatever fires there.",
            hint="Give a text of many documents with --text.",
        )


def count_senses(
    firings: Firings, directions: Floats, ruler: Ruler, contexts: int, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Number and effective number of senses of each unit, [units]; 0 and NaN where it has too few contexts.

    Args:
        firings: Of the units.
        directions: What each writes, of norm 1, [units, d_model].
        ruler: What senses are measured with.
        contexts: Taken of each unit at most.
        seed: Of the draw of contexts.
    """
    senses = ruler.senses(sample_all(firings, contexts, seed=seed), directions)
    number = np.array([0 if one is None else one.number for one in senses], np.int64)
    return number, np.array([np.nan if one is None else one.effective for one in senses])
