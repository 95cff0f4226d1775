"""A planted run, and the demo model behind a real endpoint, each made once."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from explain.planted import Planted
from explain.serving import ServedModel, served
from onesense.model.language_model import LanguageModel


@pytest.fixture(scope="session")
def served_demo(demo_model: LanguageModel, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedModel]:
    """The demo model behind a real endpoint; started once, by the first test that needs it."""
    with served(demo_model, tmp_path_factory.mktemp("serve")) as endpoint:
        yield endpoint


@pytest.fixture(scope="session")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Planted:
    """A run whose features follow known rules."""
    return Planted(tmp_path_factory.mktemp("planted"))
