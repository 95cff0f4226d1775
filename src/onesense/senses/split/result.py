"""Settings and result of a split."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from onesense.errors import ConfigurationError
from onesense.sae.dictionary import Dictionary
from onesense.senses.split.accept import Candidate, Refusal
from onesense.senses.split.refine import RefineSettings
from onesense.senses.split.split_text import deal_documents


@dataclass(frozen=True, slots=True)
class SplitSettings:
    """How features are split.

    Attributes:
        tokens: Tokens that the activity was given at most.
        context_size: Tokens of its windows.
        unit_set: Name of the dictionary's features in the activity.
        held_out: Share of the text on which splits are judged.
        choice: Share of the text on which the fit is chosen.
        fvu_tolerance: What all splits together may add to the fraction of variance unexplained.
        cross_entropy_tolerance: By which share they may raise the cross-entropy.
        cross_entropy_tokens: Of held-out text to measure it on, about.
        contexts: Of a unit whose senses are judged.
        one_sense: Whether every child must have one sense; else fewer than the parent is enough.
        refine: The fine-tune.
        seed: Of documents and samples.
    """

    tokens: int = 250_000
    context_size: int = 128
    unit_set: str = "features"
    held_out: float = 0.3
    choice: float = 0.15
    fvu_tolerance: float = 0.001
    cross_entropy_tolerance: float = 0.001
    cross_entropy_tokens: int = 20_000
    contexts: int = 128
    one_sense: bool = True
    refine: RefineSettings = field(default_factory=RefineSettings)
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.held_out, self.choice) <= 0 or self.held_out + self.choice >= 1:
            raise ConfigurationError(
                "The shares of the text that are held out and chosen on must be above 0 and below 1 together."
            )
        if min(self.fvu_tolerance, self.cross_entropy_tolerance) < 0:
            raise ConfigurationError("A tolerance cannot be negative.")

    def deal(self, document: NDArray[np.integer]) -> NDArray[np.int8]:
        """What each position is used for, by its document; see ``deal_documents``."""
        return deal_documents(document, held_out=self.held_out, choice=self.choice, seed=self.seed)


@dataclass(frozen=True, slots=True)
class Quality:
    """A dictionary on held-out text.

    Attributes:
        fvu: Fraction of variance unexplained.
        l0: Active latents per token.
        cross_entropy: Of the model with its reconstruction spliced in, in nats per token.
    """

    fvu: float
    l0: float
    cross_entropy: float


@dataclass(frozen=True, slots=True, eq=False)
class Split:
    """A dictionary some of whose features were split.

    Attributes:
        dictionary: The new one. The parent's place has its first child, the others come behind all features.
        parent_fingerprint: Of the one that was split.
        accepted: By parent id.
        children: Ids of the children of each parent.
        refused: Features that stay as they are.
        before: The dictionary that was split, on held-out text.
        after: The new one.
        settings: How.
    """

    dictionary: Dictionary
    parent_fingerprint: str
    accepted: dict[int, Candidate]
    children: dict[int, tuple[int, ...]]
    refused: tuple[Refusal, ...]
    before: Quality
    after: Quality
    settings: SplitSettings
