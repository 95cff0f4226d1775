"""Judges of fewer unions: what is tested here is what is made of them."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import pytest

from onesense.senses import ruler
from onesense.senses.judge import fit_judge


@pytest.fixture(scope="module", autouse=True)
def quick_judge() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ruler, "fit_judge", partial(fit_judge, unions=200))
        yield
