"""The page of a study: stands alone, escapes everything, and answers what the intervals say and nothing else."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import pairwise

import pytest

from onesense.debias.results import Interval
from onesense.report.pages import printable
from onesense.report.study_html import study_page
from onesense.report.study_json import read_study, write_study
from onesense.report.study_wording import caveats, details, group_findings, headline
from onesense.study.relation import EFFECTIVE
from onesense.study.study import StudyResult
from report.audits import HOSTILE
from report.study_results import (
    EMPTY,
    FALLING,
    FLAT,
    RESULTS,
    RISING,
    SMALL_KL,
    UNKNOWN,
    comparison,
    relations,
    result,
)
from report.test_audit_html import POLICY, Page

every_result = pytest.mark.parametrize("made", RESULTS.values(), ids=RESULTS)


@every_result
def test_it_stands_alone_and_runs_nothing(made: StudyResult) -> None:
    page = Page(study_page(made))
    assert not page.all("script", "link", "img", "iframe", "object", "embed", "form", "base", "use", "image")
    for element in page.elements:
        assert not [name for name in element.attributes if name.startswith("on")]
        assert not {"style", "src", "xlink:href", "action", "srcset", "href"} & set(element.attributes)
    css = "".join(element.text for element in page.all("style"))
    assert not re.search(r"url\(|@import|expression|http", css)
    policies = [e for e in page.all("meta") if e.attributes.get("http-equiv") == "Content-Security-Policy"]
    assert [policy.attributes["content"] for policy in policies] == [POLICY]


@every_result
def test_headings_tables_and_landmarks_are_in_order(made: StudyResult) -> None:
    page = Page(study_page(made))
    levels = [int(element.tag[1]) for element in page.all("h1", "h2", "h3", "h4")]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    assert [len(page.all(tag)) for tag in ("header", "main", "footer")] == [1, 1, 1]
    assert len(page.all("caption")) == len(page.all("table"))
    ids = [element.attributes["id"] for element in page.elements if "id" in element.attributes]
    assert len(ids) == len(set(ids))
    assert all(element.attributes.get("aria-labelledby", ids[0]) in ids for element in page.elements)


@every_result
def test_nothing_is_missing_on_it(made: StudyResult) -> None:
    source = study_page(made)
    assert not re.search(r"\bnan\b|\bNone\b", re.sub(r"<style>.*?</style>", "", source, flags=re.DOTALL))


def test_names_are_escaped_and_shown() -> None:
    source = study_page(RESULTS["hostile"])
    assert "<script>" not in source
    assert "\u202e" not in source
    assert "\u0007" not in source
    page = Page(source)
    assert page.all("h3")[0].text.strip() == printable(HOSTILE.replace("\u202e", "�"))


def test_the_answer_comes_first() -> None:
    page = Page(study_page(result()))
    body = [e for e in page.elements if "main" in e.parents]
    assert body[0].attributes["aria-label"] == "Answer"
    assert headline(result()) in body[1].text


def test_a_relation_is_named_with_its_strength() -> None:
    said = headline(result(RISING))
    assert "carry more gender bias for what they cost in features (weakly)" in said
    assert "No relation between senses and gender bias can be detected in neurons" in said
    assert "related (ρ +0.24 [+0.19, +0.29], 300 units)" in details(result(RISING))[0]


def test_what_only_one_measure_sees_is_said() -> None:
    made = result(RISING)
    relations = tuple(
        replace(one, partial=FLAT, partial_p_holm=1.0) if one.measure == EFFECTIVE else one
        for one in made.relations
    )
    said = "The effective number of senses does not confirm it in features."
    assert said in headline(replace(made, relations=relations))
    assert "not confirm" not in headline(made)


def test_the_opposite_is_named() -> None:
    said = headline(result(FALLING))
    assert "carry less gender bias for what they cost in features (moderately)" in said
    assert "carry more" not in said


def test_without_evidence_nothing_is_claimed() -> None:
    made = result(FLAT, 1.0)
    assert headline(made) == (
        "No relation between senses and gender bias can be detected in features and neurons."
    )
    assert "no stronger than 0.05 either way" in details(made)[0]
    # an interval above 0 whose corrected test says nothing
    assert "carry" not in headline(result(RISING, 0.2))
    assert "once the number of tests is corrected for" in details(result(RISING, 0.2))[0]
    # a small p whose interval covers 0
    assert "carry" not in headline(result(Interval(0.1, -0.01, 0.2), 0.01))


def test_both_directions_are_told() -> None:
    made = replace(
        result(),
        relations=(*relations("features", RISING, 0.001), *relations("neurons", FALLING, 0.001)),
    )
    assert "more gender bias for what they cost in features (weakly)." in headline(made)
    assert "But units that look like several senses carry less" in headline(made)


def test_what_was_not_measured_is_said() -> None:
    assert headline(EMPTY) == "Nothing was measured."
    assert headline(UNKNOWN) == "There are too few units to tell in features."
    assert group_findings(UNKNOWN) == ["No groups were compared."]
    assert "Too few units to draw." in study_page(UNKNOWN)


def test_groups_are_counted_by_who_is_ahead() -> None:
    ahead, behind = Interval(0.2, 0.1, 0.3), Interval(-0.2, -0.3, -0.1)
    made = replace(
        result(),
        groups=(
            comparison("a", ahead, 0.01),
            comparison("b", behind, 0.01),
            comparison("c", ahead, 0.01),
            comparison("d", ahead, 0.5),
        ),
    )
    bias, facts = group_findings(made)
    assert "of 4 comparisons" in bias
    assert "one sense removed more in 2 and units with several in 1" in bias
    assert "one sense kept more in 0 and units with several in 0" in facts


def test_a_pair_that_missed_its_kl_is_marked() -> None:
    made = replace(result(), groups=(comparison("features", FLAT, 1.0, reached=False),))
    source = study_page(made)
    assert "KL was not met" in source
    assert SMALL_KL in source
    assert "KL was not met" not in study_page(result())
    assert any("features, 2" in one for one in caveats(made))


def test_a_panel_has_a_dot_for_each_bin() -> None:
    page = Page(study_page(result()))
    panels = [element for element in page.all("svg") if element.attributes.get("class") == "panel"]
    assert len(panels) == 2
    assert len(page.all("circle")) == 16
    heights = [float(one.attributes["cy"]) for one in page.all("circle")[:8]]
    assert heights == sorted(heights, reverse=True)
    assert "place 61 of 100 [57, 65]" in panels[0].attributes["aria-label"]


@every_result
def test_json_gives_the_same_page(made: StudyResult, tmp_path: object) -> None:
    path = f"{tmp_path}/study.json"
    write_study(made, path)
    assert study_page(read_study(path)) == study_page(made)
