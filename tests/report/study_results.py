"""Results of studies with planted findings."""

from __future__ import annotations

import math
from dataclasses import replace

from onesense.debias.results import Interval
from onesense.report.debias_wording import small
from onesense.study.bins import Bin
from onesense.study.groups import Comparison, Difference, Group
from onesense.study.relation import MEASURES, OUTCOMES, Relation
from onesense.study.study import SetSummary, StudyResult
from report.audits import HOSTILE

NOTHING = Interval(math.nan, math.nan, math.nan)
RISING = Interval(0.24, 0.19, 0.29)
FALLING = Interval(-0.41, -0.5, -0.3)
FLAT = Interval(0.01, -0.03, 0.05)


def bins(rise: float = 3.0) -> tuple[Bin, ...]:
    return tuple(
        Bin(
            k / 8,
            (k + 1) / 8,
            (k + 0.5) / 8,
            40,
            Interval(40 + rise * k, 36 + rise * k, 44 + rise * k),
            0.02,
        )
        for k in range(8)
    )


def summary(name: str, *, drawn: bool = True) -> SetSummary:
    return SetSummary(
        name, "blocks.15.hook_resid_post", "demo/x", 320, 300, 0.05, 1.04, 200, bins() if drawn else ()
    )


def relations(name: str, partial: Interval, p: float) -> list[Relation]:
    return [
        Relation(name, outcome, measure, 300, 20, RISING, 0.001, partial, p / 2, 0.01, p)
        for outcome in OUTCOMES
        for measure in MEASURES
    ]


def comparison(name: str, ahead: Interval, p: float, *, reached: bool = True) -> Comparison:
    single = Group((1, 2), 1.0, 0.02, 0.01, 0.4, 0.005, True)
    several = Group((3, 4), 1.8, 0.02, 0.02, 1.0, 0.005 if reached else 0.001, reached)
    return Comparison(
        name,
        2,
        0.005,
        single,
        several,
        (
            Difference(
                "occupations-held-out",
                "spread",
                "Occupations, held out: spread",
                Interval(0.3, 0.2, 0.4),
                Interval(0.1, 0.0, 0.2),
                ahead,
                p / 2,
                p,
            ),
            Difference(
                "gender-facts-held-out",
                "accuracy",
                "Gender facts: right",
                Interval(-0.01, -0.02, 0.0),
                Interval(-0.01, -0.03, 0.0),
                Interval(0.0, -0.01, 0.01),
                0.9,
                1.0,
            ),
        ),
    )


def result(partial: Interval = RISING, p: float = 0.001, name: str = "features") -> StudyResult:
    return StudyResult(
        model="demo",
        sets=(summary(name), summary("neurons")),
        relations=(*relations(name, partial, p), *relations("neurons", FLAT, 1.0)),
        groups=(comparison(name, Interval(0.2, 0.1, 0.3), 0.01),),
        settings={"draws": 100, "group_sizes": [2], "benchmarks": []},
        notes=("neurons: there are no groups of 2.",),
    )


EMPTY = StudyResult("demo", (), (), ())
UNKNOWN = replace(
    result(NOTHING, 1.0),
    sets=(summary("features", drawn=False),),
    relations=tuple(relations("features", NOTHING, 1.0)),
    groups=(),
)
RESULTS = {
    "related": result(),
    "opposite": result(FALLING),
    "not detectable": result(FLAT, 1.0),
    "unknown": UNKNOWN,
    "empty": EMPTY,
    "hostile": replace(
        result(name=HOSTILE),
        model=HOSTILE,
        groups=(comparison(HOSTILE, NOTHING, 1.0, reached=False),),
        notes=(HOSTILE,),
        settings={HOSTILE: HOSTILE},
    ),
}
SMALL_KL = small(0.001)
