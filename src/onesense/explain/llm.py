"""Explain a feature by asking a language model."""

from __future__ import annotations

from collections.abc import Iterable

from onesense.explain.endpoint.answers import well_formed
from onesense.explain.endpoint.chat import Endpoint
from onesense.explain.evidence import FeatureEvidence
from onesense.explain.explanation import Explanation
from onesense.explain.prompts import explain_request


async def explain(
    endpoint: Endpoint, evidence: FeatureEvidence, *, model: str = "", lexical: str | None = None
) -> Explanation:
    """Ask once what a feature is.

    Args:
        endpoint: Whom to ask.
        evidence: What is known of the feature; its contexts for scoring are not shown.
        model: Name of the language model, to be kept.
        lexical: Enriched word sets in one line, where there are.

    Returns:
        The explanation; without a text where the answer could not be used, and why.

    Raises:
        EndpointError: Asking on is of no use.
        BudgetReachedError: The question could cost more than is left.
    """
    reply = await endpoint.ask(explain_request(evidence, lexical=lexical))
    return Explanation(
        evidence.feature,
        "" if reply.value is None else reply.value.explanation,
        status=reply.status,
        sense=evidence.sense,
        model=model,
        detail=reply.detail,
        usage=reply.usage,
    )


def evidence_of_words(feature: int, words: Iterable[str]) -> FeatureEvidence:
    """Evidence where promoted tokens are all that is known, as in the original project's JSON.

    Args:
        feature: Id of the latent.
        words: Text of promoted tokens, strongest first.
    """
    return FeatureEvidence(
        feature,
        promoted=tuple(well_formed(word) for word in words if word),
        note="Only its tokens are known.",
    )
