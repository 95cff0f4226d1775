"""What a feature, or one sense of it, is said to be."""

from __future__ import annotations

from dataclasses import dataclass, field

from onesense.explain.endpoint.chat import Usage
from onesense.store.catalog import ExplanationStatus
from onesense.store.explanations import WHOLE, ExplanationRow, Method

__all__ = ["WHOLE", "Explanation"]


@dataclass(frozen=True, slots=True)
class Explanation:
    """An explanation, or why there is none.

    Attributes:
        feature: Id of the latent.
        sense: Number of the sense, or ``WHOLE``.
        method: ``lexical``, or ``llm``.
        model: Name of the language model that wrote it; empty for ``lexical``.
        status: ``ok``, or why there is no text.
        text: The explanation; empty unless the status is ``ok``.
        detail: What went wrong, for people; empty where nothing did.
        usage: Tokens that it took.
    """

    feature: int
    text: str
    status: ExplanationStatus = "ok"
    sense: int = WHOLE
    method: Method = "llm"
    model: str = ""
    detail: str = ""
    usage: Usage = field(default_factory=Usage)

    def row(self, made_from: str) -> ExplanationRow:
        """What the catalogue keeps of it.

        Args:
            made_from: Digest of the settings that it was asked with.
        """
        return ExplanationRow(
            self.feature,
            self.sense,
            self.method,
            self.model,
            self.status,
            self.text,
            self.detail,
            self.usage.prompt_tokens,
            self.usage.completion_tokens,
            made_from,
        )
