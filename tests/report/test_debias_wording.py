"""Verdicts: each kind of run is told as it is, the bad news too."""

from __future__ import annotations

import dataclasses
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onesense.debias.results import DebiasResult, EditedFeature, EditEffect, Interval, Proof
from onesense.report.debias_controls import Standing, control_groups, headline_metrics, standing_of
from onesense.report.debias_wording import (
    collateral,
    control_findings,
    fallen,
    percent,
    setting,
    small,
    verdict,
    visible,
    weakest_link,
)
from report.audits import audit, benchmark
from report.debias_results import EMPTY, RESULTS, TIED, audit_with, control, evidence, proof, result

KEY = ("occupations-held", "slope")


def said(bias: str, facts: str, **changes: object) -> str:
    return verdict(result(audit=audit_with(bias, facts), **changes))


def test_bias_fell_and_nothing_else_moved() -> None:
    assert said("better", "no detectable change", proof=proof()) == (
        "On occupations that nothing was tuned on, gender bias fell by 42 % (spread 0.533 → 0.311 nats), and "
        "gender facts show no detectable change (97.4 → 97.1 % right); at the same KL, all 4 controls "
        "and all 20 random draws of features did less."
    )


def test_facts_fell_too() -> None:
    text = verdict(RESULTS["facts fell too"])
    assert ", but gender facts fell too (97.4 → 83.2 % right);" in text


def test_nothing_changed() -> None:
    assert verdict(RESULTS["no change"]) == (
        "No change of gender bias can be detected on held-out occupations (spread 0.533 → 0.529 nats), and "
        "gender facts show no detectable change (97.4 → 97.1 % right)."
    )


def test_facts_alone_fell() -> None:
    text = said("no detectable change", "worse")
    assert text.startswith("No change of gender bias can be detected")
    assert text.endswith("and gender facts fell (97.4 → 97.1 % right).")


def test_facts_that_stay_right_by_less() -> None:
    made = result(audit=audit_with("better", "no detectable change", margin="worse"))
    assert (
        ", but the margin of gender facts fell too (4.100 → 3.300 nats), while gender facts show no "
        "detectable change (97.4 → 97.1 % right);"
    ) in verdict(made)
    steady = result(audit=audit_with("better", "no detectable change", margin="no detectable change"))
    assert "margin" not in verdict(steady)


def test_bias_rose() -> None:
    made = result(audit=audit_with("worse", "better", spread=(0.5, 0.6)))
    assert verdict(made).startswith(
        "On occupations that nothing was tuned on, gender bias rose by 20 % (spread 0.500 → 0.600 nats), and "
        "gender facts got better"
    )


def test_what_cannot_be_told() -> None:
    text = verdict(result(audit=audit_with("undefined", "undefined", spread=(math.nan, math.nan))))
    assert text.startswith(
        "Whether gender bias changed on held-out occupations cannot be told (spread – → – nats)"
    )
    assert "whether gender facts changed cannot be told" in text


def test_a_control_did_as_well() -> None:
    text = verdict(RESULTS["a control ties"])
    assert text.endswith(
        "at the same KL, “random directions, same learning” did as well, as far as the data tell."
    )


def test_a_control_did_better() -> None:
    text = verdict(RESULTS["a control is ahead"])
    assert text.endswith(
        "at the same KL, “residual basis, same learning” did better and “random directions, same learning” "
        "did as well, as far as the data tell."
    )


def test_random_draws_that_do_as_well_are_counted() -> None:
    draws = [control(f"draw {k}", "random", 0.5, behind=0.05 if k < 3 else 0.4) for k in range(20)]
    made = result(proof=Proof((control("recipe", "recipe", 0.55), *draws)))
    assert "3 of 20 random draws of features did as well" in verdict(made)
    assert "of 20 random draws of features 3 did as well or better" in control_findings(made)[0]


def test_many_names_do_not_fill_the_sentence() -> None:
    extra = [control(f"peer {k}", "learned", 0.56, behind=0.01) for k in range(7)]
    assert "“peer 0”, “peer 1” and 5 more controls did as well" in verdict(result(proof=proof(*extra)))
    assert "“peer 5” and “peer 6” did as well" in control_findings(result(proof=proof(*extra)))[0]


def test_without_proof() -> None:
    assert verdict(RESULTS["no proof"]).endswith(
        "; it was not compared with other ways of changing the model."
    )
    assert control_findings(RESULTS["no proof"]) == []
    alone = result(proof=Proof((control("recipe", "recipe", 0.5),)))
    assert verdict(alone).endswith("it was not compared with other ways of changing the model.")


def test_without_audit_nothing_is_proved() -> None:
    tuned = (
        "On the occupations that it was tuned on, the recipe leaves 52 % of the spread of “she” against "
        "“he”; "
    )
    assert verdict(RESULTS["neither"]) == f"{tuned}no held-out audit was run, so nothing is proved."
    assert verdict(RESULTS["no audit"]) == (
        f"{tuned}no held-out audit was run, but beside controls: at the same KL, all 4 controls and all 20 "
        "random draws of features did less."
    )
    assert verdict(result(**EMPTY)) == "No recipe was found, so nothing was changed and nothing is proved."


def test_an_audit_of_other_sets() -> None:
    other = audit(benchmarks=[benchmark("BLiMP", "blimp", "guard", [], compared=True)])
    assert verdict(result(audit=other)) == (
        "Bias on held-out occupations was not measured, and gender facts were not measured."
    )


@pytest.mark.parametrize("made", RESULTS.values(), ids=RESULTS)
def test_it_is_one_sentence(made: DebiasResult) -> None:
    text = verdict(made)
    assert text.endswith(".")
    assert "\n" not in text
    assert "nan" not in text


@pytest.mark.parametrize(
    ("low", "high", "standing"),
    [
        (0.01, 0.2, Standing.BEHIND),
        (0.0, 0.2, Standing.TIED),
        (-0.1, 0.2, Standing.TIED),
        (-0.3, -0.01, Standing.AHEAD),
        (math.nan, 0.2, Standing.UNKNOWN),
    ],
)
def test_standing_follows_the_interval(low: float, high: float, standing: Standing) -> None:
    peer = control("peer", "learned", 0.3, behind=0.1)
    metric = dataclasses.replace(peer.metrics[0], behind=Interval(0.1, low, high))
    assert standing_of(dataclasses.replace(peer, metrics=(metric,)), KEY) is standing
    assert standing_of(dataclasses.replace(peer, metrics=()), KEY) is Standing.UNKNOWN


def test_controls_are_compared_at_their_own_cost() -> None:
    cheap = [
        control("recipe", "recipe", 0.2, target_kl=0.003),
        dataclasses.replace(TIED, target_kl=0.003),
    ]
    made = result(proof=dataclasses.replace(proof(), controls=(*proof().controls, *cheap)))
    groups = control_groups(made.proof)
    assert [len(group.members) for group in groups] == [25, 2]
    assert all(group.recipe is not None for group in groups)
    assert "did less" in verdict(made)
    assert any("at KL 0.0030: “random directions" in sentence for sentence in control_findings(made))


def test_findings_say_where_a_control_does_as_well() -> None:
    sentences = control_findings(RESULTS["a control is ahead"])
    assert sentences[0] == (
        "Occupations, held out · slope, at KL 0.0097: “residual basis, same learning” did better; “random "
        "directions, same learning” did as well, as far as the data tell; 4 did less; of 20 random draws of "
        "features none did as well or better."
    )
    assert "no control does as well as the recipe (4 did less)" in control_findings(result())[0]
    assert "p = 0.048" in sentences[-1]
    assert "5.2 standard deviations" in sentences[-1]


def test_headline_metrics_are_those_of_the_first_benchmark() -> None:
    made = result()
    assert made.audit is not None
    assert headline_metrics(made) == [KEY, ("occupations-held", "mean_|log-odds|")]
    for one in made.audit.benchmarks:
        for metric in one.metrics:
            object.__setattr__(metric, "headline", metric.name == "slope")
    assert headline_metrics(made) == [KEY]
    for one in made.audit.benchmarks:
        for metric in one.metrics:
            object.__setattr__(metric, "headline", True)
    assert headline_metrics(result(proof=None)) == []


def test_overshooting_counts_as_bias() -> None:
    row = ("slope", "nats", "parity", "bias", 0.0, None, 3, 1.0, -0.4, 0.1, "better")
    made = benchmark("Occupations", "occupations-held-out", "held-out", [row], compared=True)
    assert fallen(made.metrics[0]) == pytest.approx(0.6)
    alone = benchmark("Occupations", "occupations-held-out", "held-out", [row], compared=False)
    assert math.isnan(fallen(alone.metrics[0]))


def test_collateral_names_what_got_worse() -> None:
    sentences = collateral(result())
    assert "Gender facts · accuracy got worse: 97.40 → 96.88 %." in sentences
    assert (
        sentences[-1]
        == "Of 12 guards 0 got better, 4 got worse, 7 show no detectable change and 1 is at chance."
    )
    assert "not known" in collateral(RESULTS["no audit"])[0]


@given(st.text(max_size=60))
def test_every_character_of_a_token_can_be_seen(token: str) -> None:
    shown = visible(token)
    assert shown.isprintable()
    assert " " not in shown.replace("\u3000", "").replace("\xa0", "")


@pytest.mark.parametrize(
    ("token", "shown"),
    [
        (" she", "␣she"),
        ("\n\t", "↵⇥"),
        ("\u200b", "‹U+200B›"),
        ("\u202eab", "‹U+202E›ab"),
        ("\u0301", "◌\u0301"),
        ("שלום", "שלום"),
        ("x" * 50, "x" * 39 + "…"),
    ],
)
def test_tokens(token: str, shown: str) -> None:
    assert visible(token) == shown


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (0.0097, "0.0097"), (1.2e-5, "1.2e−05"), (0.25, "0.250"), (-2.5, "−2.500"), (math.nan, "–")],
)
def test_small_numbers(value: float, text: str) -> None:
    assert small(value) == text


def test_percentages_and_settings() -> None:
    assert percent(-0.254) == "−25 %"
    assert percent(math.nan) == "–"
    assert setting({"a": [1, 2.5], "b": None, "c": True}) == "a: 1, 2.5; b: none; c: yes"


def _edits(*spreads: float | None) -> tuple[EditedFeature, ...]:
    return tuple(
        EditedFeature(evidence(k), 0.5, 0.0, None if spread is None else EditEffect(spread, 0.01))
        for k, spread in enumerate(spreads)
    )


@pytest.mark.parametrize(
    ("whole", "spreads", "sentence"),
    [
        (
            0.56, (0.57, 0.59, None, 0.55, math.nan),
            "Without its strongest feature (101 at blocks.15.hook_resid_post) the recipe still removes 41 % of the "
            "spread over tune occupations, against 44 % with all 5; no other feature is missed more.",
        ),
        (
            0.56, (0.57, 1.01),
            "Without its strongest feature (101 at blocks.15.hook_resid_post) the recipe removes no spread, and 44 % "
            "with it: it rests on that one.",
        ),
        (0.56, (1.0,), "The recipe has one feature, which removes 44 % of the spread; without it nothing is left."),
        (1.02, (1.0, 1.1), "the whole recipe removes no spread."),
    ],
)  # fmt: skip
def test_whether_a_recipe_rests_on_one_feature(
    whole: float, spreads: tuple[float | None, ...], sentence: str
) -> None:
    said = weakest_link(result(edited=_edits(*spreads), complete=EditEffect(whole, 0.01)))
    assert said is not None
    assert said.endswith(sentence)


@pytest.mark.parametrize("whole", [None, EditEffect(math.nan, 0.01), EditEffect(0.5, 0.01)])
def test_nothing_is_said_of_single_features_where_nobody_measured(whole: EditEffect | None) -> None:
    assert weakest_link(result(edited=_edits(None, math.nan), complete=whole)) is None
