"""Units with planted numbers."""

from __future__ import annotations

from typing import Any

import numpy as np

from onesense.study.units import UnitTable


def unit_table(
    *, units: int | None = None, seed: int = 0, name: str = "features", **planted: Any
) -> UnitTable:
    """Units whose numbers are independent of each other but for those that are given."""
    size = len(next(iter(planted.values()))) if units is None else units
    generator = np.random.default_rng([seed, 17])
    several = generator.uniform(size=size)
    given = {
        "density": 10 ** generator.uniform(-4, -1, size),
        "norm": np.exp(generator.normal(size=size)),
        "number": np.where(several > 0.8, 2.0, 1.0),
        "effective": 1 + several,
        "several": several,
        "separation": np.where(several > 0.8, 0.2, np.nan),
        "token_entropy": generator.uniform(size=size),
        "bias": np.exp(generator.normal(size=size)),
        "stereotype": generator.normal(size=size),
        "fact": np.exp(generator.normal(size=size)),
        "kl": np.exp(generator.normal(size=size)),
    }
    given |= {key: np.array(value, dtype=np.float64) for key, value in planted.items()}
    return UnitTable(name, **given)
