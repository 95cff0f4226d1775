"""What a study says in words: every sentence follows from an interval and a corrected test."""

from __future__ import annotations

import math
from collections.abc import Sequence

from onesense.debias.results import Interval
from onesense.report import wording
from onesense.study.groups import Comparison, Difference
from onesense.study.relation import BIAS_PER_KL, EFFECTIVE, SEVERAL, Finding, Relation
from onesense.study.study import StudyResult

# Cohen (1988), *Statistical Power Analysis for the Behavioral Sciences*: 0.1 is small, 0.3 medium, 0.5 large.
_STRENGTHS = ((0.1, "very weakly"), (0.3, "weakly"), (0.5, "moderately"), (math.inf, "strongly"))

SAID = {
    Finding.RELATED: "related",
    Finding.OPPOSITE: "opposite",
    Finding.NOT_DETECTABLE: "not detectable",
    Finding.UNKNOWN: "not known",
}


def headline(result: StudyResult) -> str:
    """The answer in one or two sentences, from the partial correlation of bias per √KL with `several`."""
    main = [one for one in result.relations if (one.outcome, one.measure) == (BIAS_PER_KL, SEVERAL)]
    named = {finding: [one for one in main if one.finding is finding] for finding in Finding}
    sentences = []
    if named[Finding.RELATED]:
        sentences.append(
            f"Units that look like several senses carry more gender bias for what they cost in "
            f"{_sets(named[Finding.RELATED])}."
        )
    if named[Finding.OPPOSITE]:
        sentences.append(
            f"{'But units' if sentences else 'Units'} that look like several senses carry less gender bias for what "
            f"they cost in {_sets(named[Finding.OPPOSITE])}."
        )
    if named[Finding.NOT_DETECTABLE]:
        sentences.append(
            f"No relation between senses and gender bias can be detected in {_sets(named[Finding.NOT_DETECTABLE])}."
        )
    if named[Finding.UNKNOWN]:
        sentences.append(f"There are too few units to tell in {_sets(named[Finding.UNKNOWN])}.")
    unconfirmed = [
        one
        for one in [*named[Finding.RELATED], *named[Finding.OPPOSITE]]
        if _counted(result, one.unit_set).finding is not one.finding
    ]
    if unconfirmed:
        sentences.append(
            "The effective number of senses does not confirm it in "
            f"{wording.joined([wording.clean(one.unit_set) for one in unconfirmed])}."
        )
    return " ".join(sentences) or "Nothing was measured."


def details(result: StudyResult) -> list[str]:
    """A sentence for each set: the correlation itself, and how much it can be."""
    found = []
    for one in result.relations:
        if (one.outcome, one.measure) != (BIAS_PER_KL, SEVERAL):
            continue
        name = wording.clean(one.unit_set)
        if one.finding is Finding.UNKNOWN:
            found.append(f"{name}: {one.units:,} units have all the numbers, too few to tell.")
            continue
        counted = _counted(result, one.unit_set)
        found.append(
            f"{name}: {_strength(one)} (ρ {correlation(one.partial)}, {one.units:,} units); by the effective number "
            f"of senses {_strength(counted)} (ρ {correlation(counted.partial)})."
        )
    return found


def group_findings(result: StudyResult) -> list[str]:
    """What the comparison of groups at equal KL says of bias and of facts, counted from the intervals."""
    differences = [one for comparison in result.groups for one in comparison.differences]
    facts = [one for one in differences if one.benchmark.startswith("gender-facts")]
    bias = [one for one in differences if one not in facts]
    sentences = []
    if bias:
        sentences.append(
            f"At equal KL, of {len(bias)} comparisons of held-out bias between equal groups, {_tally(bias)}; in the "
            "others the difference is not detectable."
        )
    if facts:
        sentences.append(
            f"Of {len(facts)} comparisons of held-out gender facts, {_tally(facts, 'kept more')}; in the others the "
            "difference is not detectable."
        )
    return sentences or ["No groups were compared."]


def caveats(result: StudyResult) -> list[str]:
    """What the numbers do not show."""
    said = [
        "A correlation over units is no cause: that units differ in senses and in bias does not mean that splitting "
        "one would change the other.",
        "“Several” is measured on contexts of ordinary text. A unit can have a second sense that this text does not "
        "hold, and units that fire too rarely there have no number; they are left out, and counted in the table.",
        "Effects of single units are of first order (gradient times latent). Only the groups were ablated for real, "
        "and a group is not the sum of its units.",
        "Neurons and coordinates fire nearly everywhere; they count where they are above a threshold that gives them "
        "the firing rate of a feature. Below it they are not touched.",
    ]
    whole = [one for one in result.groups if max(one.single.strength, one.several.strength) > 0.99]
    if whole:
        sizes = wording.joined([f"{wording.clean(one.unit_set)}, {one.size}" for one in whole])
        said.append(
            f"Where a group does little even when it is ablated whole, the KL of its pair is small, and so is what can "
            f"be seen ({sizes})."
        )
    return said


def correlation(found: Interval) -> str:
    """A correlation with its interval."""
    value = wording.number(found.value, 2, signed=True)
    return (
        value
        if value == wording.NOTHING
        else f"{value} {wording.interval(found.low, found.high, 2, signed=True)}"
    )


def compared(one: Difference) -> str:
    """Which group did more of what one wants, or that nobody can tell."""
    return {
        Finding.RELATED: "several ahead",
        Finding.OPPOSITE: "one sense ahead",
        Finding.NOT_DETECTABLE: "not detectable",
        Finding.UNKNOWN: "not known",
    }[one.finding]


def comparison_title(one: Comparison) -> str:
    """What is compared."""
    return f"{wording.clean(one.unit_set)}, {one.size} against {one.size}"


def _strength(one: Relation) -> str:
    if one.finding is Finding.NOT_DETECTABLE and (one.partial.low > 0 or one.partial.high < 0):
        return "not detectable once the number of tests is corrected for"
    if one.finding is Finding.NOT_DETECTABLE:
        reach = max(abs(one.partial.low), abs(one.partial.high))
        return f"not detectable, and no stronger than {wording.number(reach, 2)} either way"
    if one.finding is Finding.UNKNOWN:
        return SAID[one.finding]
    return f"{_strength_word(one)} {SAID[one.finding]}"


def _counted(result: StudyResult, unit_set: str) -> Relation:
    """The same relation by the effective number of senses."""
    key = (unit_set, BIAS_PER_KL, EFFECTIVE)
    return next(one for one in result.relations if (one.unit_set, one.outcome, one.measure) == key)


def _sets(found: Sequence[Relation]) -> str:
    return wording.joined([_named(one) for one in found])


def _named(one: Relation) -> str:
    name = wording.clean(one.unit_set)
    told = one.finding in (Finding.RELATED, Finding.OPPOSITE)
    return f"{name} ({_strength_word(one)})" if told else name


def _strength_word(one: Relation) -> str:
    return next(word for limit, word in _STRENGTHS if abs(one.partial.value) < limit)


def _tally(differences: Sequence[Difference], verb: str = "removed more") -> str:
    single = sum(one.finding is Finding.OPPOSITE for one in differences)
    several = sum(one.finding is Finding.RELATED for one in differences)
    return f"units with one sense {verb} in {single} and units with several in {several}"
