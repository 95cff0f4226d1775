"""What finding gave, kept in a run folder."""

from __future__ import annotations

import numpy as np
import torch

from onesense.debias.contrasts import fact_contrasts
from onesense.debias.find import FindSettings, Found, neutral_prompts
from onesense.debias.selection import Evidence
from onesense.store.run_folder import RunFolder

_NAME = "evidence"
_EFFECTS = ("neutral", "neutral_effects", "margins", "fact_effects", "scores")
_OF_FEATURES = ("density", "typical", "swapped")


def write_found(run: RunFolder, found: Found) -> None:
    """Keep it as a result of the run, in float32.

    Raises:
        StorageError: It cannot be written.
    """
    arrays = {name: getattr(found.evidence, name) for name in _EFFECTS}
    arrays |= {name: getattr(found, name) for name in _OF_FEATURES}
    tensors = {name: torch.from_numpy(array).float() for name, array in arrays.items()}
    tensors["widths"] = torch.tensor(found.evidence.widths)
    tensors["allowed"] = torch.from_numpy(found.allowed)
    run.write_result(_NAME, tensors)


def read_found(run: RunFolder, settings: FindSettings) -> Found | None:
    """What was kept, or None; the same bits whether it was just written or long ago.

    Raises:
        FormatError: The file is damaged.
    """
    if not run.has_result(_NAME):
        return None
    arrays = run.read_result(_NAME)
    numbers = {name: np.asarray(arrays[name], dtype=np.float64) for name in (*_EFFECTS, *_OF_FEATURES)}
    evidence = Evidence(
        **{name: numbers[name] for name in _EFFECTS}, widths=tuple(int(width) for width in arrays["widths"])
    )
    return Found(
        neutral=tuple(neutral_prompts(settings)),
        facts=tuple(fact_contrasts()),
        evidence=evidence,
        **{name: numbers[name] for name in _OF_FEATURES},
        allowed=np.asarray(arrays["allowed"], dtype=np.bool_),
    )
