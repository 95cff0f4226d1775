"""How a run of debias is put into words and digits, the same on the screen and on the page."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Sequence

from onesense.bias.benchmark import Split
from onesense.bias.metric import Direction
from onesense.bias.results import AuditResult, MetricResult, Verdict
from onesense.debias.results import ControlResult, DebiasResult, FrontPoint
from onesense.report import wording
from onesense.report.debias_controls import Standing, control_groups, headline_metrics, standing_of
from onesense.report.wording import Row

_VISIBLE = {" ": "␣", "\n": "↵", "\t": "⇥", "\r": "␍"}
_LONGEST_TOKEN = 40
_MOST_NAMES = 3


def visible(token: str) -> str:
    """A token with its blanks shown, and characters that nobody sees as their code points."""
    cut = token if len(token) <= _LONGEST_TOKEN else f"{token[: _LONGEST_TOKEN - 1]}…"
    text = "".join(_VISIBLE.get(c) or (c if c.isprintable() else f"‹U+{ord(c):04X}›") for c in cut)
    # a combining mark would sit on whatever stands before the token
    return f"◌{text}" if text and unicodedata.combining(text[0]) else text


def small(value: float) -> str:
    """A number that may be far below 1, with about three digits."""
    if not math.isfinite(value) or value == 0 or abs(value) >= 1:
        return wording.number(value, 3 if value else 0)
    if abs(value) < 1e-4:
        return f"{value:.1e}".replace("-", wording.MINUS)
    return wording.number(value, 4 if abs(value) < 0.1 else 3)


def percent(share: float, decimals: int = 0) -> str:
    """A share as a percentage."""
    text = wording.number(100 * share, decimals)
    return text if text == wording.NOTHING else f"{text} %"


def percent_interval(low: float, high: float, *, signed: bool = False) -> str:
    """An interval of shares as percentages."""
    return wording.interval(100 * low, 100 * high, 0, signed=signed)


def bias_row(audit: AuditResult | None) -> Row | None:
    """What stands for bias: spread (else slope) over held-out occupations; None if not measured."""
    return _first_row(audit, "occupations", Split.HELD_OUT, ("spread", "slope"))


def facts_row(audit: AuditResult | None) -> Row | None:
    """How many held-out gender facts are right; None if not measured."""
    return _first_row(audit, "gender-facts", Split.GUARD, ("accuracy",))


def margin_row(audit: AuditResult | None) -> Row | None:
    """By how much held-out gender facts are right; None if not measured."""
    return _first_row(audit, "gender-facts", Split.GUARD, ("margin",))


def kl_row(audit: AuditResult | None) -> Row | None:
    """KL divergence to the unedited model; None if not measured."""
    return _first_row(audit, "kl", Split.GUARD, ("kl", "KL"))


def perplexity_row(audit: AuditResult | None) -> Row | None:
    """Perplexity of ordinary text; None if not measured."""
    return _first_row(audit, "wikitext", Split.GUARD, ("perplexity",))


def _first_row(audit: AuditResult | None, key: str, split: Split, names: Sequence[str]) -> Row | None:
    if audit is None:
        return None
    for name in names:
        for benchmark in audit.benchmarks:
            if benchmark.split != split or not benchmark.key.startswith(key):
                continue
            for metric in benchmark.metrics:
                if metric.name == name:
                    return Row(benchmark, metric)
    return None


def chosen_point(result: DebiasResult) -> FrontPoint | None:
    """The recipe that was chosen; None where the front is empty."""
    return result.front[result.chosen] if 0 <= result.chosen < len(result.front) else None


def fallen(metric: MetricResult) -> float:
    """How much of the distance from the best value is gone, as a share; below 0 it grew, NaN if undefined."""
    if metric.after is None or metric.direction == Direction.HIGHER:
        return math.nan
    best = metric.parity if metric.parity is not None else 0.0
    before = abs(metric.before.value - best)
    return 1 - abs(metric.after.value - best) / before if before > 0 else math.nan


def before_after(metric: MetricResult) -> str:
    """Both values and their unit in one phrase."""
    values = [metric.before.value] if metric.after is None else [metric.before.value, metric.after.value]
    unit = f" {wording.clean(metric.unit)}" if metric.unit else ""
    return " → ".join(wording.number(value, metric.decimals) for value in values) + unit


def verdict(result: DebiasResult) -> str:
    """What the whole run says, in one sentence made from its numbers."""
    if result.audit is None:
        return _unaudited(result)
    bias, facts, margin = bias_row(result.audit), facts_row(result.audit), margin_row(result.audit)
    fell = bias is not None and bias.metric.verdict is Verdict.BETTER
    but = fell and any(row is not None and row.metric.verdict is Verdict.WORSE for row in (facts, margin))
    said = f"{_bias_clause(bias)}, {'but' if but else 'and'} {_facts_clause(facts, margin, too=fell)}"
    return f"{said}; {_controls_clause(result)}." if fell else f"{said}."


def _unaudited(result: DebiasResult) -> str:
    point = chosen_point(result)
    if point is None:
        return "No recipe was found, so nothing was changed and nothing is proved."
    ending = (
        "so nothing is proved" if result.proof is None else f"but beside controls: {_controls_clause(result)}"
    )
    return (
        f"On the occupations that it was tuned on, the recipe leaves {percent(point.spread)} of the spread "
        f"of “she” against “he”; no held-out audit was run, {ending}."
    )


def _bias_clause(row: Row | None) -> str:
    if row is None:
        return "Bias on held-out occupations was not measured"
    metric = row.metric
    numbers = f"({wording.clean(metric.title)} {before_after(metric)})"
    share = abs(fallen(metric))
    by = "" if math.isnan(share) else f" by {percent(share)}"
    match metric.verdict:
        case Verdict.BETTER:
            return f"On occupations that nothing was tuned on, gender bias fell{by} {numbers}"
        case Verdict.WORSE:
            return f"On occupations that nothing was tuned on, gender bias rose{by} {numbers}"
        case Verdict.NO_DETECTABLE_CHANGE | Verdict.IDENTICAL:
            return f"No change of gender bias can be detected on held-out occupations {numbers}"
        case _:
            return f"Whether gender bias changed on held-out occupations cannot be told {numbers}"


def _facts_clause(row: Row | None, margin: Row | None, *, too: bool) -> str:
    if row is None:
        return "gender facts were not measured"
    metric, also = row.metric, " too" if too else ""
    numbers = f"({before_after(metric)} right)"
    match metric.verdict:
        case Verdict.WORSE:
            return f"gender facts fell{also} {numbers}"
        case Verdict.BETTER:
            said = f"gender facts got better {numbers}"
        case Verdict.NO_DETECTABLE_CHANGE | Verdict.IDENTICAL:
            said = f"gender facts show no detectable change {numbers}"
        case _:
            said = f"whether gender facts changed cannot be told {numbers}"
    if margin is not None and margin.metric.verdict is Verdict.WORSE:
        return f"the margin of gender facts fell{also} ({before_after(margin.metric)}), while {said}"
    return said


def _controls_clause(result: DebiasResult) -> str:
    groups = control_groups(result.proof)
    metrics = headline_metrics(result)
    if not groups or not metrics or not (groups[0].peers or groups[0].draws):
        return "it was not compared with other ways of changing the model"
    group = groups[0]
    found: dict[Standing, list[str]] = {Standing.AHEAD: [], Standing.TIED: [], Standing.UNKNOWN: []}
    for control in group.peers:
        # the best that a control reaches on any of the metrics counts
        standings = [standing_of(control, key) for key in metrics]
        where = next((one for one in found if one in standings), None)
        if where is not None:
            found[where].append(_quoted(control.name))
    drawn = [draw for draw in group.draws if any(_matches(standing_of(draw, key)) for key in metrics)]
    if drawn:
        found[Standing.TIED].append(f"{len(drawn)} of {len(group.draws)} random draws of features")
    parts = [f"{_names(names)} {standing.value}" for standing, names in found.items() if names]
    if parts:
        return f"at the same KL, {wording.joined(parts)}"
    return f"at the same KL, {_all_of(len(group.peers), len(group.draws))} did less"


def _matches(standing: Standing) -> bool:
    return standing in (Standing.AHEAD, Standing.TIED)


def _all_of(peers: int, draws: int) -> str:
    parts = []
    if peers:
        parts.append("the only control" if peers == 1 else f"all {peers} controls")
    if draws:
        parts.append("the only random draw" if draws == 1 else f"all {draws} random draws of features")
    return wording.joined(parts)


def _quoted(name: str) -> str:
    """The name of a control, which may have commas in it."""
    return f"“{wording.clean(name)}”"


def _names(names: Sequence[str]) -> str:
    if len(names) <= _MOST_NAMES:
        return wording.joined(names)
    return f"{', '.join(names[: _MOST_NAMES - 1])} and {len(names) - _MOST_NAMES + 1} more controls"


def control_findings(result: DebiasResult) -> list[str]:
    """Where a control does as well as the recipe, as sentences: one for each cost and metric."""
    sentences = []
    for group in control_groups(result.proof):
        for key in headline_metrics(result):
            peers = [(control.name, standing_of(control, key)) for control in group.peers]
            where = f"{metric_name(result, key)}, at KL {small(group.target_kl)}"
            sentences.append(f"{where}: {_standings(peers)}{_draws(group.draws, key)}.")
    for name, (p, ahead) in (result.proof.null if result.proof else {}).items():
        benchmark, _, metric = name.partition("/")
        sentences.append(
            f"{metric_name(result, (benchmark, metric))}: the chance that features drawn at random do as "
            f"well is p = {wording.probability(p)} by rank; the recipe is {wording.number(ahead, 1)} "
            "standard deviations ahead of their mean."
        )
    return sentences


def _standings(peers: Sequence[tuple[str, Standing]]) -> str:
    if not peers:
        return "no control but random features was run"
    parts = []
    for standing in (Standing.AHEAD, Standing.TIED, Standing.UNKNOWN):
        names = [_quoted(name) for name, one in peers if one is standing]
        if names:
            parts.append(f"{wording.joined(names)} {standing.value}")
    less = sum(standing is Standing.BEHIND for _, standing in peers)
    if not parts:
        return f"no control does as well as the recipe ({less} did less)"
    return "; ".join([*parts, f"{less} did less"])


def _draws(draws: Sequence[ControlResult], key: tuple[str, str]) -> str:
    if not draws:
        return ""
    matching = sum(_matches(standing_of(draw, key)) for draw in draws)
    return f"; of {len(draws)} random draws of features {matching or 'none'} did as well or better"


def weakest_link(result: DebiasResult) -> str | None:
    """Whether the recipe still works without any one of its features, as a sentence; None if not measured."""
    effects = [(one, one.without.spread) for one in result.edited if one.without is not None]
    known = [(one, spread) for one, spread in effects if math.isfinite(spread)]
    if result.complete is None or not math.isfinite(result.complete.spread) or not known:
        return None
    whole = 1 - result.complete.spread
    if whole <= 0:
        return "On the few prompts on which single features are left out, the whole recipe removes no spread."
    if len(result.edited) == 1:
        return f"The recipe has one feature, which removes {percent(whole)} of the spread; without it nothing is left."
    feature, spread = max(known, key=lambda both: both[1])
    evidence = feature.evidence
    named = f"its strongest feature ({evidence.feature} at {wording.clean(evidence.hook_point)})"
    if spread >= 1:
        return f"Without {named} the recipe removes no spread, and {percent(whole)} with it: it rests on that one."
    return (
        f"Without {named} the recipe still removes {percent(1 - spread)} of the spread over tune occupations, against "
        f"{percent(whole)} with all {len(result.edited)}; no other feature is missed more."
    )


def metric_name(result: DebiasResult, key: tuple[str, str]) -> str:
    """Benchmark and metric as the audit calls them, else by their keys."""
    for benchmark in result.audit.benchmarks if result.audit else ():
        for metric in benchmark.metrics:
            if (benchmark.key, metric.name) == key:
                return Row(benchmark, metric).name
    return " · ".join(wording.clean(part) for part in key)


def collateral(result: DebiasResult) -> list[str]:
    """What else moved, as sentences: each guard that got worse, then how many did not move."""
    if result.audit is None:
        return ["Nothing but the tune split was measured, so what else moved is not known."]
    rows = wording.headline_rows(result.audit).get(wording.Group.GUARDS, [])
    if not rows:
        return ["No guard was measured, so what else moved is not known."]
    worse = [row for row in rows if row.metric.verdict is Verdict.WORSE]
    sentences = [f"{row.name} got worse: {before_after(row.metric)}." for row in worse]
    return [*sentences, f"Of {_guards(len(rows))} {wording.tally(rows, compared=True)}."]


def _guards(count: int) -> str:
    return f"{count} guard{'' if count == 1 else 's'}"


def setting(value: object) -> str:
    """A setting as text."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}".replace("-", wording.MINUS)
    if isinstance(value, dict):
        return "; ".join(f"{key}: {setting(item)}" for key, item in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(setting(item) for item in value)
    return wording.clean(str(value))
