"""A study as one page that needs nothing else: no network, no script, no other file."""

from __future__ import annotations

from dataclasses import dataclass

from markupsafe import Markup

from onesense.report import study_svg, wording
from onesense.report import study_wording as words
from onesense.report.debias_wording import percent, percent_interval, small
from onesense.report.pages import encodable, page_environment
from onesense.study.groups import Comparison, Difference
from onesense.study.relation import Relation
from onesense.study.study import SetSummary, StudyResult


@dataclass(frozen=True, slots=True)
class _Panel:
    """A set in the figure: every field but the plot is text."""

    name: str
    plot: Markup | None
    note: str


@dataclass(frozen=True, slots=True)
class _Row:
    """A relation: every field is text."""

    unit_set: str
    outcome: str
    measure: str
    units: str
    left_out: str
    rho: str
    rho_interval: str
    p: str
    partial: str
    partial_interval: str
    partial_p: str
    said: str


@dataclass(frozen=True, slots=True)
class _Result:
    """A metric of two groups: every field is text."""

    title: str
    single: str
    single_interval: str
    several: str
    several_interval: str
    difference: str
    difference_interval: str
    p: str
    said: str


@dataclass(frozen=True, slots=True)
class _Groups:
    """Two groups: every field is text."""

    title: str
    about: str
    results: list[_Result]


def study_page(result: StudyResult) -> str:
    """The whole study as a standalone page of HTML.

    It loads nothing and runs nothing: style and plots are inline, and its content security policy refuses the
    rest. Names are escaped.
    """
    page = (
        page_environment()
        .get_template("study.html.j2")
        .render(model=wording.clean(result.model), sets=result.sets, body=study_body(result))
    )
    return encodable(page)


def study_body(result: StudyResult) -> Markup:
    """What the page of a study has between its heading and its footer, for this page and for others.

    The style is that of ``audit.css`` and ``study.css``. Names are escaped.
    """
    reach = study_svg.reach_of([one.bins for one in result.sets])
    return Markup(
        page_environment()
        .get_template("study_body.html.j2")
        .render(
            headline=words.headline(result),
            details=words.details(result),
            group_findings=words.group_findings(result),
            panels=[_panel(one, reach) for one in result.sets],
            rows=[_row(one) for one in result.relations],
            groups=[_groups(one) for one in result.groups],
            caveats=words.caveats(result),
            sets=result.sets,
            notes=[wording.clean(note) for note in result.notes],
            settings={key: _setting(value) for key, value in result.settings.items()},
            clean=wording.clean,
            percent=percent,
            number=wording.number,
        )
    )


def _panel(one: SetSummary, reach: float) -> _Panel:
    note = (
        f"{one.known:,} of {one.units:,} units have a number of senses; {percent(one.polysemantic)} have more "
        f"than one, and the effective number is {wording.number(one.effective, 2)} on average."
    )
    name = wording.clean(one.name)
    return _Panel(name, study_svg.panel(name, one.bins, reach) if one.bins else None, note)


def _row(one: Relation) -> _Row:
    return _Row(
        unit_set=wording.clean(one.unit_set),
        outcome=wording.clean(one.outcome),
        measure=wording.clean(one.measure),
        units=f"{one.units:,}",
        left_out=f"{one.left_out:,}",
        rho=wording.number(one.rho.value, 3, signed=True),
        rho_interval=wording.interval(one.rho.low, one.rho.high, 3, signed=True),
        p=wording.probability(one.p_holm),
        partial=wording.number(one.partial.value, 3, signed=True),
        partial_interval=wording.interval(one.partial.low, one.partial.high, 3, signed=True),
        partial_p=wording.probability(one.partial_p_holm),
        said=words.SAID[one.finding],
    )


def _groups(one: Comparison) -> _Groups:
    single, several = one.single, one.several
    about = (
        f"KL {small(one.target_kl)} nats per token for both. Effective senses {wording.number(single.effective, 2)} "
        f"against {wording.number(several.effective, 2)}; bias of a unit {small(single.bias)} against "
        f"{small(several.bias)} nats; firing rate {percent(single.density, 2)} against "
        f"{percent(several.density, 2)}; of each latent {percent(single.strength)} against "
        f"{percent(several.strength)} was taken away."
    )
    if not (single.reached and several.reached):
        about += (
            f" KL was not met: {small(single.kl)} against {small(several.kl)}, so they do not compare fairly."
        )
    return _Groups(words.comparison_title(one), about, [_result(each) for each in one.differences])


def _result(one: Difference) -> _Result:
    return _Result(
        title=wording.clean(one.title),
        single=percent(one.single.value, 1),
        single_interval=percent_interval(one.single.low, one.single.high),
        several=percent(one.several.value, 1),
        several_interval=percent_interval(one.several.low, one.several.high),
        difference=percent(one.difference.value, 1),
        difference_interval=percent_interval(one.difference.low, one.difference.high, signed=True),
        p=wording.probability(one.p_holm),
        said=words.compared(one),
    )


def _setting(value: object) -> str:
    if isinstance(value, list | tuple):
        return wording.clean(", ".join(map(str, value))) or wording.NOTHING
    return wording.clean(str(value))
