"""Features of which some words are known, in a run's catalogue, and questions about them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from explain.endpoint.asking import KEY
from onesense.explain.asking import Asking, Prices
from onesense.explain.endpoint.settings import EndpointSettings
from onesense.explain.evidence import FeatureEvidence
from onesense.explain.interpret import Questions
from onesense.explain.llm import evidence_of_words
from onesense.store.catalog import Catalog, FeatureRow
from onesense.store.run_folder import RunFolder

WORDS = ("nurse", "she", "hospital")


class Words:
    """Evidence of words alone."""

    def evidence(self, feature: int) -> FeatureEvidence:
        return evidence_of_words(feature, [*WORDS, f"word{feature}"])


class AskedRun:
    """A run of some features, and calls that ask about them.

    Args:
        folder: Where it goes.
        features: How many.
        base_url: Where the language model is.
    """

    def __init__(self, folder: Path, features: int, base_url: str) -> None:
        self.run = RunFolder.create_or_resume(
            folder / "run", command="extract", configuration={}, provenance={}
        )
        self.catalog = Catalog(self.run.catalog_path)
        self.catalog.replace_features(
            [FeatureRow(feature, top_tokens=(*WORDS, f"word{feature}")) for feature in range(features)]
        )
        self.features = features
        self.cache = folder / "replies.sqlite"
        self.base_url = base_url

    def asking(self, prices: Prices | None = None, **settings: Any) -> Asking:
        given = {"base_url": self.base_url, "model": "m", "api_key": KEY, "cache": self.cache, **settings}
        return Asking(EndpointSettings(**given), prices or Prices(), None)

    def questions(self, asking: Asking, features: int | None = None, **given: Any) -> Questions:
        return Questions(
            Words(),
            range(self.features if features is None else features),
            self.catalog,
            asking.made_from,
            asking.settings.model,
            lexical={},
            **given,
        )
