"""Features of a run of debias as the page shows them: evidence, edit, tokens, contexts and prompts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from onesense.debias.results import EditedFeature, FeatureContext, FeatureEvidence
from onesense.report import wording
from onesense.report.debias_wording import percent, small, visible

_LINES = {"\n": "↵", "\r": "↵", "\t": " "}
_DIGITS = 3


@dataclass(frozen=True, slots=True)
class ContextView:
    """A context: every field is text.

    Attributes:
        activation: The latent at the peak.
        tokens: Each token, its class (``peak``, ``fires`` or nothing) and its latent.
    """

    activation: str
    tokens: list[tuple[str, str, str]]


@dataclass(frozen=True, slots=True)
class FeatureView:
    """A feature, and its edit if it has one: every field is text, or a list of it; ``href`` may be None.

    ``contexts`` is None where nobody looked for them, and empty where the feature never fires.
    """

    hook_point: str
    feature: int
    factor: str
    threshold: str
    without_spread: str
    without_kl: str
    bias: str
    toward: str
    fact: str
    kl: str
    density: str
    senses: str
    swapped: str
    gender_words: str
    promoted: list[str]
    suppressed: list[str]
    contexts: list[ContextView] | None
    prompts: list[tuple[str, str]]
    href: str | None = None


def feature_view(
    found: FeatureEvidence, edit: EditedFeature | None = None, href: str | None = None
) -> FeatureView:
    """A feature as text.

    Args:
        found: What is known of it.
        edit: What is done to it; None for a candidate.
        href: Address of its page; None where it has none.
    """
    without = None if edit is None else edit.without
    return FeatureView(
        hook_point=wording.clean(found.hook_point),
        feature=found.feature,
        factor="" if edit is None else f"× {wording.number(edit.factor, 2)}",
        threshold="" if edit is None or edit.threshold == 0 else f"less {wording.number(edit.threshold, 3)}",
        without_spread=_optional(None if without is None else without.spread, percent),
        without_kl=_optional(None if without is None else without.kl, small),
        bias=wording.number(found.bias, 3),
        toward=wording.number(found.toward_women, 2, signed=True),
        fact=wording.number(found.fact, 3, signed=True),
        kl=small(found.kl),
        density=percent(found.density, 2),
        senses="" if found.senses is None else str(found.senses),
        swapped=_optional(found.swapped, lambda value: wording.number(value, 2, signed=True)),
        gender_words=wording.probability(found.gender_words),
        promoted=[visible(token) for token in found.promoted],
        suppressed=[visible(token) for token in found.suppressed],
        contexts=None if edit is None else [_context(one) for one in edit.contexts],
        prompts=[(wording.clean(text), wording.number(nats, 2, signed=True)) for text, nats in found.prompts],
        href=href,
    )


def _context(context: FeatureContext) -> ContextView:
    tokens = []
    for place, (token, height) in enumerate(zip(context.tokens, context.activations, strict=True)):
        css = "peak" if place == context.peak else "fires" if height > 0 else ""
        text = "".join(_LINES.get(character, character) for character in token)
        word = text.lstrip(" ")
        if place == 0 and word:
            text = word
        if css and word:
            # The blank belongs to the token, but a mark under it would look like a slip.
            tokens.append((text[: len(text) - len(word)], "", ""))
            text = word
        tokens.append((text, css, _height(height) if css else ""))
    return ContextView(_height(context.activations[context.peak]), tokens)


def _height(latent: float) -> str:
    """A latent with three digits: its scale is another for every dictionary."""
    return f"{latent:.{_DIGITS}g}".replace("-", wording.MINUS)


def _optional(value: float | None, shown: Callable[[float], str]) -> str:
    return wording.NOTHING if value is None else shown(value)
