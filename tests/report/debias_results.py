"""Results of debias as the real ones look, made from nothing.

``python tests/report/debias_results.py FOLDER`` writes the page of each into a folder, to be looked at.
"""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Any

from onesense.bias.results import AuditResult
from onesense.debias.results import (
    Continuation,
    ControlMetric,
    ControlResult,
    DebiasResult,
    EditedFeature,
    EditEffect,
    FeatureContext,
    FeatureEvidence,
    FrontPoint,
    Interval,
    Proof,
)

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).parents[1]))

from report.audits import HOSTILE, STANDARD, audit, benchmark, hostile_audit

TOKENS = (" she", " her", "herself", "\n", "\u200b", "\u202erev", "</script>", "שלום", "  ", "\u0301")
PROMPTS = (("The nurse said that", 0.61), ("The plumber <b>told</b> us that", -0.42))
TEXTS = (
    Continuation(
        "The nurse came in, and",
        " she said that her shift was over. She had been on the ward since six.",
        " they said that the shift was over. Nobody had been on the ward since six.",
    ),
    Continuation("The engineer took", " his laptop and left.", " the laptop and left."),
    Continuation("My sister said that", " she would call later.", " she would call later."),
    Continuation("The secretary said that", " her boss was away.", " the boss was away."),
)
SPREAD = ("spread", "nats", "lower", "bias", None, None, 3)
MARGIN = ("margin", "nats", "higher", "ability", None, None, 3)
FACTS = ("accuracy", "%", "higher", "ability", None, 50.0, 1)


def evidence(feature: int, **changes: Any) -> FeatureEvidence:
    values: dict[str, Any] = {
        "hook_point": f"blocks.{(9, 15, 21)[feature % 3]}.hook_resid_post",
        "feature": 100 + feature,
        "bias": 0.21 / (1 + feature),
        "toward_women": 0.62 - 0.03 * feature,
        "fact": 0.0123,
        "kl": 0.00042,
        "density": 0.0137,
        "swapped": 0.31 if feature % 2 else None,
        "promoted": TOKENS[:5],
        "suppressed": (" he", " his", "himself"),
        "gender_words": 0.00004 if feature % 2 else None,
        "prompts": PROMPTS,
    }
    return FeatureEvidence(**(values | changes))


def context(*tokens: str, peak: int, height: float = 4.25) -> FeatureContext:
    """Fires fully at the peak, half at the token before it, and nowhere else."""
    heights = {peak: height, peak - 1: height / 2}
    return FeatureContext(tokens, tuple(heights.get(k, 0.0) for k in range(len(tokens))), peak)


CONTEXTS = (
    context("The", " nurse", " said", " that", " she", "\n", " left", peak=4),
    context("her", " <b>", "mother</b>", "\u202e", peak=2, height=3.0),
)


def edited(count: int = 14) -> tuple[EditedFeature, ...]:
    return tuple(
        EditedFeature(evidence(k), 0.17 + 0.01 * k, 0.05 * k, EditEffect(0.55 + 0.01 * k, 0.0078), CONTEXTS)
        if k % 4
        else EditedFeature(evidence(k), 1.73, 0.0)
        for k in range(count)
    )


FRONT = tuple(
    FrontPoint(budget, kl, spread, slope, facts, features, f"recipes/kl-{budget:g}.json", f"{k}c" * 32)
    for k, (budget, kl, spread, slope, facts, features) in enumerate(
        [
            (0.001, 0.00094, 0.83, 0.79, 0.998, 9),
            (0.003, 0.0028, 0.71, 0.63, 0.987, 21),
            (0.01, 0.0097, 0.522, 0.414, 0.961, 38),
            (0.03, 0.0288, 0.389, 0.297, 0.902, 50),
        ]
    )
)


def control(
    name: str, kind: str, reduction: float, *, edits: int = 38, behind: float | None = None, **changes: Any
) -> ControlResult:
    """A control whose reductions have an interval of 0.12 to each side; ``behind`` one of 0.07."""
    metrics = tuple(
        ControlMetric(
            "occupations-held", metric, 0.5 * (1 - value), Interval(value, value - 0.12, value + 0.12),
            None if behind is None else Interval(behind, behind - 0.07, behind + 0.07),
            None if behind is None else 0.003 if abs(behind) > 0.07 else 0.41,
        )
        for metric, value in (("slope", reduction), ("mean_|log-odds|", reduction - 0.05))
    )  # fmt: skip
    values: dict[str, Any] = {
        "name": name, "kind": kind, "edits": edits, "target_kl": 0.0097, "kl": 0.0097,
        "reached": True, "strength": 0.83, "metrics": metrics, "note": "",
    }  # fmt: skip
    return ControlResult(**(values | changes))


def proof(*extra: ControlResult) -> Proof:
    controls = (
        control("recipe", "recipe", 0.58, strength=1.0),
        control("identity", "sanity", 0.0, edits=0, behind=0.58, kl=0.0, reached=False),
        control("difference of means", "erasure", 0.11, edits=3, behind=0.47),
        control(
            "LEACE", "erasure", 0.06, edits=3, behind=0.52, kl=0.004, reached=False, note="Full strength."
        ),
        control("neurons, same learning", "learned", 0.39, behind=0.19),
        *extra,
        *(
            control(f"random features {k}", "random", 0.02 * k - 0.1, behind=0.68 - 0.02 * k)
            for k in range(20)
        ),
    )
    return Proof(
        controls, {"occupations-held/slope": (1 / 21, 5.2)}, ("20 draws, matched in rate and norm.",)
    )


TIED = control("random directions, same learning", "learned", 0.55, behind=0.03)
AHEAD = control("residual basis, same learning", "learned", 0.80, behind=-0.22)


def result(**changes: Any) -> DebiasResult:
    values: dict[str, Any] = {
        "model": "SmolLM2-135M",
        "dictionaries": {
            f"blocks.{k}.hook_resid_post": f"demo/blocks.{k}.hook_resid_post" for k in (9, 15, 21)
        },
        "splits": ("144 occupations in 12 templates (find, tune)", "96 gender facts (tune)"),
        "screened": ("4,571 of 13,824 kept", "9,253 fire at more than 5 % of positions"),
        "candidates": tuple(evidence(k) for k in range(40)),
        "front": FRONT,
        "chosen": 2,
        "edited": edited(),
        "complete": EditEffect(0.54, 0.0081),
        "audit": audit(),
        "proof": proof(),
        "texts": TEXTS,
        "settings": {"kl_budget": 0.01, "max_features": 50, "depths": [9, 15, 21], "seed": 0},
        "seconds": {"find": 71.2, "tune": 190.6, "prove": 134.0},
        "notes": ("“she” and “he” are one token each.",),
    }
    return DebiasResult(**(values | changes))


def audit_with(
    bias: str,
    facts: str,
    *,
    spread: tuple[float, float] = (0.533, 0.311),
    right: tuple[float, float] = (97.4, 97.1),
    margin: str | None = None,
) -> AuditResult:
    """An audit of three sets.

    Args:
        bias: Verdict on the spread over held-out occupations.
        facts: Verdict on the accuracy of gender facts.
        spread: Before and after.
        right: Share of facts that are right, before and after.
        margin: Verdict on the margin of facts; None where it is not measured.
    """
    known = [(*FACTS, *right, 0.4, facts), *([(*MARGIN, 4.1, 3.3, 0.1, margin)] if margin else [])]
    sets = [
        ("Occupations, held-out", "occupations-held-out", "held-out", [(*SPREAD, *spread, 0.02, bias)]),
        ("Gender facts, held-out", "gender-facts-held-out", "guard", known),
        STANDARD[-1],
    ]
    return audit(benchmarks=[benchmark(*one, compared=True) for one in sets])


def hostile_result() -> DebiasResult:
    """Every text is an attack on whatever shows it."""
    bad = evidence(
        1, hook_point=HOSTILE, promoted=(*TOKENS, HOSTILE), suppressed=(HOSTILE,), prompts=((HOSTILE, 0.5),)
    )
    hostile = (context(HOSTILE, *TOKENS, peak=3),)
    front = tuple(
        dataclasses.replace(point, recipe=recipe, content_hash=HOSTILE)
        for point, recipe in zip(
            FRONT, ("javascript:alert(1)", "//evil.example/x", HOSTILE, "a b.json"), strict=True
        )
    )
    controls = (
        control(HOSTILE, "recipe", 0.5), control(HOSTILE, HOSTILE, 0.4, behind=0.1, note=HOSTILE)
    )  # fmt: skip
    return result(
        model=HOSTILE, dictionaries={HOSTILE: HOSTILE}, splits=(HOSTILE,), screened=(HOSTILE,),
        candidates=(bad,), front=front, edited=(EditedFeature(bad, 0.2, 0.1, None, hostile),), audit=hostile_audit(),
        proof=Proof(controls, {HOSTILE: (0.5, 0.1)}, (HOSTILE,)),
        texts=(Continuation(HOSTILE, f"{HOSTILE}\n\nmore", HOSTILE),),
        settings={HOSTILE: HOSTILE, "nested": {HOSTILE: [HOSTILE]}}, seconds={HOSTILE: 1.0}, notes=(HOSTILE,),
    )  # fmt: skip


EMPTY: dict[str, Any] = {
    "candidates": (), "front": (), "chosen": 0, "edited": (), "complete": None, "audit": None, "proof": None,
    "texts": (), "settings": {}, "seconds": {}, "notes": (), "splits": (), "screened": (), "dictionaries": {},
}  # fmt: skip

RESULTS: dict[str, DebiasResult] = {
    "everything": result(),
    "a control ties": result(proof=proof(TIED)),
    "a control is ahead": result(proof=proof(TIED, AHEAD)),
    "facts fell too": result(audit=audit_with("better", "worse", right=(97.4, 83.2))),
    "no change": result(
        audit=audit_with("no detectable change", "no detectable change", spread=(0.533, 0.529))
    ),
    "no audit": result(audit=None),
    "no proof": result(proof=None),
    "neither": result(audit=None, proof=None, texts=()),
    "nothing": result(**EMPTY),
    "hostile": hostile_result(),
}


if __name__ == "__main__":
    from onesense.report.debias_html import debias_page

    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for name, made in RESULTS.items():
        (folder / f"{name.replace(' ', '-')}.html").write_text(debias_page(made), encoding="utf-8")
