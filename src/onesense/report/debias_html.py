"""A run of debias as one page that needs nothing else: no network, no script, no other file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import takewhile

from markupsafe import Markup

from onesense.bias.results import MetricResult
from onesense.debias.results import Continuation, DebiasResult, EditedFeature, FeatureEvidence, FrontPoint
from onesense.report import debias_svg, wording
from onesense.report import debias_wording as words
from onesense.report.audit_html import audit_body
from onesense.report.debias_features import FeatureView, feature_view
from onesense.report.debias_forest import control_sections
from onesense.report.debias_wording import percent, small
from onesense.report.pages import encodable, page_environment
from onesense.report.wording import Row

_TEXTS_AT_ONCE = 2
_FEATURES_AT_ONCE = 12
_CANDIDATES = 30
_NO_INTERVAL = "tune split, one measurement: no interval"
_QUESTIONS = (
    (
        "Gender bias",
        "How much “she” against “he” depends on the occupation, where nothing tells the gender. 0 is best.",
    ),
    (
        "Gender facts",
        "Whether it still knows who is a woman and who a man: queens, fathers, actresses. Higher is better.",
    ),
    (
        "Price",
        "How far it drifts from the unedited model on ordinary text. KL 0 is not at all; lower is better.",
    ),
)


@dataclass(frozen=True, slots=True)
class _Figure:
    """A number of the first screen: every field is text."""

    label: str
    before: str
    before_interval: str
    after: str
    after_interval: str
    unit: str
    difference: str
    said: str
    css: str


@dataclass(frozen=True, slots=True)
class _Card:
    """One question of the first screen, and the numbers that answer it."""

    title: str
    meaning: str
    figures: list[_Figure]


@dataclass(frozen=True, slots=True)
class _Text:
    """A continuation before and after, cut where the two part."""

    prompt: str
    shared: str
    before: str
    after: str
    same: bool


@dataclass(frozen=True, slots=True)
class _Point:
    """A recipe of the front: every field is text."""

    number: int
    chosen: bool
    budget: str
    kl: str
    spread: str
    slope: str
    facts: str
    features: str
    recipe: str
    href: str | None
    content_hash: str


def _nowhere(hook_point: str, feature: int) -> str | None:
    del hook_point, feature
    return None


@dataclass(frozen=True, slots=True)
class DebiasLinks:
    """Where what is shown of a run leads: an address, or None for nowhere.

    Attributes:
        recipe: Of a recipe of the front, by its file; the file itself where nothing else is said.
        feature: Of a feature, by hook point and number; nowhere where nothing else is said.
    """

    recipe: Callable[[str], str | None] = debias_svg.recipe_link
    feature: Callable[[str, int], str | None] = _nowhere


def debias_page(result: DebiasResult) -> str:
    """The whole run as a standalone page of HTML.

    It loads nothing and runs nothing: style and plots are inline, and its content security policy refuses the
    rest. Names, tokens and texts are escaped; blanks and characters that nobody sees are shown in tokens. The
    only addresses in it are those of the recipes, relative to the page.
    """
    page = (
        page_environment()
        .get_template("debias.html.j2")
        .render(
            result=result,
            title=f"Gender bias of {wording.clean(result.model)}, before and after",
            places=len({one.evidence.hook_point for one in result.edited}),
            body=debias_body(result),
        )
    )
    return encodable(page)


def debias_body(result: DebiasResult, links: DebiasLinks | None = None) -> Markup:
    """What the page of a run has between its heading and its footer, for this page and for others.

    The style is that of ``audit.css`` and ``debias.css``. Names, tokens and texts are escaped.

    Args:
        result: The run.
        links: Where recipes and features lead; to the files of recipes beside the page where None.
    """
    links = links or DebiasLinks()
    # The page opens on what a reader can see: texts that the recipe changed come first.
    texts = [_text(pair) for pair in sorted(result.texts, key=lambda pair: pair.before == pair.after)]
    edited = [_feature(one.evidence, one, links) for one in result.edited]
    candidates = [_feature(one, None, links) for one in result.candidates[:_CANDIDATES]]
    return Markup(
        page_environment()
        .get_template("debias_body.html.j2")
        .render(
            result=result,
            verdict=words.verdict(result),
            point=words.chosen_point(result),
            cards=_cards(result),
            texts=texts[:_TEXTS_AT_ONCE],
            more_texts=texts[_TEXTS_AT_ONCE:],
            front=debias_svg.front(result.front, result.chosen, links.recipe) if result.front else None,
            points=[
                _point(k, point, links.recipe(point.recipe), chosen=k == result.chosen)
                for k, point in enumerate(result.front)
            ],
            edited=edited[:_FEATURES_AT_ONCE],
            more_edited=edited[_FEATURES_AT_ONCE:],
            weakest_link=words.weakest_link(result),
            candidates=candidates,
            controls=control_sections(result),
            findings=words.control_findings(result),
            collateral=words.collateral(result),
            audit=None if result.audit is None else audit_body(result.audit),
            settings={key: words.setting(value) for key, value in result.settings.items()},
            seconds={key: wording.number(value, 1) for key, value in result.seconds.items()},
            small=small,
            percent=percent,
        )
    )


def _feature(found: FeatureEvidence, edit: EditedFeature | None, links: DebiasLinks) -> FeatureView:
    return feature_view(found, edit, links.feature(found.hook_point, found.feature))


def _cards(result: DebiasResult) -> list[_Card]:
    audit, point = result.audit, words.chosen_point(result)
    rows = [
        [words.bias_row(audit)],
        [words.facts_row(audit)],
        [words.kl_row(audit), words.perplexity_row(audit)],
    ]
    figures = [[_figure(row) for row in several if row is not None] for several in rows]
    if audit is None and point is not None:
        figures = [
            [_tuned("spread left on tune occupations", percent(point.spread))],
            [_tuned("margin of tune facts kept", percent(point.facts))],
            [_tuned("KL, nats per token", small(point.kl))],
        ]
    return [_Card(*question, found) for question, found in zip(_QUESTIONS, figures, strict=True)]


def _figure(row: Row) -> _Figure:
    metric, after, change = row.metric, row.metric.after, row.metric.change
    digits = metric.decimals
    return _Figure(
        label=row.name,
        before=wording.number(metric.before.value, digits),
        before_interval=wording.interval(metric.before.low, metric.before.high, digits),
        after="" if after is None else wording.number(after.value, digits),
        after_interval="" if after is None else wording.interval(after.low, after.high, digits),
        unit=wording.clean(metric.unit),
        difference="" if change is None else _difference(metric),
        said=metric.verdict.value,
        css=metric.verdict.name.lower().replace("_", "-"),
    )


def _difference(metric: MetricResult) -> str:
    change, digits = metric.change, metric.decimals
    if change is None:
        return ""
    value = wording.number(change.difference, digits, signed=True)
    return f"{value} {wording.interval(change.low, change.high, digits, signed=True)}"


def _tuned(label: str, value: str) -> _Figure:
    return _Figure(label, "", "", value, "", "", "", _NO_INTERVAL, "measured")


def _text(pair: Continuation) -> _Text:
    agreeing = takewhile(lambda both: both[0] == both[1], zip(pair.before, pair.after, strict=False))
    shared = "".join(one for one, _ in agreeing)
    if pair.before != pair.after:
        shared = shared[: max(shared.rfind(" "), shared.rfind("\n")) + 1]  # whole words part
    cut = len(shared)
    # the blank between prompt and continuation is not shown at the edge of a column
    return _Text(
        pair.prompt, shared.lstrip(" "), pair.before[cut:], pair.after[cut:], pair.before == pair.after
    )


def _point(index: int, point: FrontPoint, href: str | None, *, chosen: bool) -> _Point:
    return _Point(
        number=index + 1,
        chosen=chosen,
        budget=small(point.budget),
        kl=small(point.kl),
        spread=percent(point.spread, 1),
        slope=percent(point.slope, 1),
        facts=percent(point.facts, 1),
        features=str(point.features),
        recipe=wording.clean(point.recipe),
        href=href,
        content_hash=wording.clean(point.content_hash)[:12],
    )
