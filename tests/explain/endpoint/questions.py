"""Questions that tests ask."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from onesense.explain.endpoint.chat import ChatRequest


class Said(BaseModel):
    """An answer of one text."""

    model_config = ConfigDict(extra="forbid")

    explanation: str


def question(
    user: str = "she, her, woman", *, system: str = "Explain.", max_tokens: int = 50
) -> ChatRequest[Said]:
    return ChatRequest(system=system, user=user, answer=Said, max_tokens=max_tokens)
