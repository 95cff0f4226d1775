"""The page of a run: stands alone, runs nothing, escapes everything, and says what the numbers say."""

from __future__ import annotations

import dataclasses
import math
import re
import xml.etree.ElementTree as ElementTree
from importlib.resources import files
from itertools import pairwise

import pytest

from onesense.debias.results import DebiasResult, Proof
from onesense.report.audit_html import audit_page
from onesense.report.debias_html import debias_page
from onesense.report.debias_wording import control_findings, verdict
from onesense.report.pages import printable
from report.audits import HOSTILE, audit
from report.debias_results import FRONT, RESULTS, TIED, context, control, edited, evidence, result
from report.test_audit_html import POLICY, Page, words

every_result = pytest.mark.parametrize("made", RESULTS.values(), ids=RESULTS)


def table_with(source: str, part: str) -> str:
    tables = re.findall(r"<table.*?</table>", source, flags=re.DOTALL)
    return next(table for table in tables if part in table)


def text_of(source: str) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", source).split())


@every_result
def test_it_stands_alone_and_runs_nothing(made: DebiasResult) -> None:
    source = debias_page(made)
    page = Page(source)
    assert not page.all("script", "link", "img", "iframe", "object", "embed", "form", "base", "use", "image")
    recipes = 0
    for element in page.elements:
        assert not [name for name in element.attributes if name.startswith("on")]
        assert not {"style", "src", "xlink:href", "action", "srcset"} & set(element.attributes)
        href = element.attributes.get("href", "#")
        assert re.fullmatch(r"#[\w-]*|\./[\w./%~-]+", href)  # no scheme, no host
        recipes += href.startswith("./")
    assert recipes == 2 * len(made.front)
    css = "".join(element.text for element in page.all("style"))
    assert len(page.all("style")) == 1
    assert not re.search(r"url\(|@import|expression|http", css)
    policies = [e for e in page.all("meta") if e.attributes.get("http-equiv") == "Content-Security-Policy"]
    assert [policy.attributes["content"] for policy in policies] == [POLICY]
    assert source.startswith('<!DOCTYPE html>\n<html lang="en">')


@every_result
def test_links_lead_somewhere_and_ids_are_unique(made: DebiasResult) -> None:
    page = Page(debias_page(made))
    ids = [element.attributes["id"] for element in page.elements if "id" in element.attributes]
    assert len(ids) == len(set(ids))
    for element in page.elements:
        assert element.attributes.get("aria-labelledby", ids[0]) in ids
        href = element.attributes.get("href", "")
        if href.startswith("#"):
            assert href.removeprefix("#") in ids


@every_result
def test_headings_tables_and_landmarks_are_in_order(made: DebiasResult) -> None:
    page = Page(debias_page(made))
    levels = [int(element.tag[1]) for element in page.all("h1", "h2", "h3", "h4")]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    assert [len(page.all(tag)) for tag in ("header", "main", "footer")] == [1, 1, 1]
    assert len(page.all("caption")) == len(page.all("table"))
    assert all(element.attributes.get("scope") in ("col", "row") for element in page.all("th"))
    assert all(
        element.text.strip() for element in page.all("caption", "h1", "h2", "h3", "h4", "a", "summary")
    )


@every_result
def test_every_row_has_a_cell_for_each_column(made: DebiasResult) -> None:
    for table in re.findall(r"<table.*?</table>", debias_page(made), flags=re.DOTALL):
        rows = re.findall(r"<tr.*?</tr>", table, flags=re.DOTALL)
        assert len({len(re.findall(r"<t[hd][ >]", row)) for row in rows}) == 1


@every_result
def test_every_plot_is_sound_and_told_in_words(made: DebiasResult) -> None:
    drawings = re.findall(
        r'<svg class="(?:front|forest-row|axis)".*?</svg>', debias_page(made), flags=re.DOTALL
    )
    for drawing in drawings:
        root = ElementTree.fromstring(drawing)
        assert root.attrib["role"] in ("img", "group")
        assert root.find("title") is not None
        assert len(root.findtext("desc") or "") > 20
        assert root.attrib["aria-label"] == root.findtext("desc")
        assert "nan" not in drawing
        assert all(0 <= float(x) <= 100 for x in re.findall(r'"(-?[\d.]+)%"', drawing))
    assert bool(drawings) == bool(made.front or made.proof or made.audit)


@every_result
def test_the_verdict_stands_first(made: DebiasResult) -> None:
    page = Page(debias_page(made))
    first = next(element for element in page.all("p") if "section" in element.parents)
    assert " ".join(first.text.split()) == " ".join(printable(verdict(made)).split())


def test_hostile_text_is_shown_and_nothing_else() -> None:
    source = debias_page(RESULTS["hostile"])
    assert "<script" not in source
    assert "</script" not in source
    for character in ("\u202e", "\x07", "\u200b"):
        assert character not in source
    page = Page(source)
    shown = HOSTILE.replace("\u202e", "�").replace("\x07", "�")
    assert words(page).count(shown) > 20
    tokens = [element.text for element in page.all("bdi") if element.attributes.get("class") == "token"]
    assert {"␣she", "↵", "‹U+200B›", "‹U+202E›rev", "</script>", "שלום", "␣␣", "◌\u0301"} <= set(tokens)
    assert "./javascript%3Aalert%281%29" in source
    assert ".///evil.example/x" in source


def test_half_a_surrogate_pair_does_not_stop_the_page() -> None:
    front = (dataclasses.replace(FRONT[0], recipe="\ud800.json"),)
    made = result(model="\ud800", notes=("\udfff",), front=front, chosen=0)
    assert debias_page(made).encode("utf-8")


def test_numbers_of_the_first_screen_have_intervals() -> None:
    source = debias_page(result())
    text = text_of(source[source.index('id="numbers"') : source.index('id="texts"')])
    for part in (
        "Occupations, held out · slope 2.240 → 0.702 nats/share",
        "95 % intervals: [1.907, 2.573] → [0.369, 1.035]",
        "Difference −1.538 [−1.738, −1.338]: better",
        "Gender facts · accuracy 97.40 → 96.88 %",
        "KL to the base model · KL 0.0000 → 0.0121 nats/token",
        "WikiText-2 raw · perplexity 17.812 → 17.905",
    ):
        assert part in text


def test_without_audit_the_first_screen_says_that_there_is_no_interval() -> None:
    source = debias_page(RESULTS["no audit"])
    text = text_of(source[source.index('id="numbers"') : source.index('id="texts"')])
    assert text.count("no interval") == 3
    for part in ("52 %", "96 %", "0.0097"):
        assert part in text
    assert "nothing on this page was measured on held-out data" in text_of(source)


def test_texts_are_cut_where_they_part() -> None:
    source = debias_page(result())
    assert "<mark>she said that her shift was over. She had been on the ward since six.</mark>" in source
    assert "<mark>the laptop and left.</mark>" in source
    assert "Before and after: the same" in source
    assert "2 more</summary>" in source


def test_texts_that_changed_come_first() -> None:
    whole = result()
    same = [one for one in whole.texts if one.before == one.after]
    changed = [one for one in whole.texts if one.before != one.after]
    assert same
    assert changed
    source = debias_page(dataclasses.replace(whole, texts=(*same, *changed)))
    places = [source.index(one.prompt) for one in (*changed, *same)]
    assert places == sorted(places)


def test_the_front_has_a_linked_point_for_each_recipe() -> None:
    source = debias_page(result())
    drawing = re.search(r'<svg class="front".*?</svg>', source, flags=re.DOTALL)
    assert drawing is not None
    root = ElementTree.fromstring(drawing.group())
    links = root.findall("a")
    assert [link.attrib["href"] for link in links] == [f"./{point.recipe}" for point in FRONT]
    assert links[2].findtext("title") == (
        "Recipe 3, chosen: KL 0.0097, spread left 52 %, facts kept 96 %, 38 features"
    )
    dots = [next(c for c in link.findall("circle") if c.attrib["class"] != "ring") for link in links]
    assert [dot.attrib["class"] for dot in dots] == ["point", "point", "chosen", "point"]
    across = [float(dot.attrib["cx"].rstrip("%")) for dot in dots]
    down = [float(dot.attrib["cy"]) for dot in dots]
    assert across == sorted(across)
    assert down == sorted(down)  # less spread is lower
    row = text_of(table_with(source, "All recipes of the front"))
    assert "3, chosen 0.0100 0.0097 52.2 % 41.4 % 96.1 % 38 recipes/kl-0.01.json 2c2c2c2c2c2c" in row


@pytest.mark.parametrize("kl", [0.0, math.nan, -1.0])
def test_a_point_that_has_no_place_is_in_the_table_only(kl: float) -> None:
    source = debias_page(result(front=(dataclasses.replace(FRONT[0], kl=kl), FRONT[1]), chosen=0))
    assert source.count('class="point"') == 1
    assert source.count("recipes/kl-0.001.json</bdi>") == 1
    assert "No point can be drawn" in debias_page(
        result(front=(dataclasses.replace(FRONT[0], kl=kl),), chosen=0)
    )


def test_edited_features_say_what_is_known() -> None:
    source = debias_page(result())
    table = text_of(table_with(source, "Edited features, the most important first"))
    for part in (
        "101 blocks.15.hook_resid_post fires at 1.37 % of positions × 0.18 less 0.050 0.105 +0.59 +0.012",
        "+0.012 0.0004 56 %",
        "KL 0.0078",
        "promotes ␣she ␣her herself ↵ ‹U+200B›",
        "+0.61 “The nurse said that”",
        "−0.42 “The plumber &lt;b&gt;told&lt;/b&gt; us that”",
    ):
        assert part in table
    assert "2 more edited features</summary>" in source
    assert "more edited features" not in debias_page(result(edited=edited(3)))


def test_contexts_are_shown_with_the_peak_marked() -> None:
    source = debias_page(result())
    table = table_with(source, "Edited features, the most important first")
    rows = re.findall(r"<tr.*?</tr>", table, flags=re.DOTALL)[1:]
    never, fires = rows[0], rows[1]
    assert "It fires nowhere in the ordinary text that was read." in never
    assert "Where it fires most" not in never
    assert "It fires nowhere" not in fires
    assert (
        '<span class="height">4.25</span> <bdi>The nurse said <span class="fires" title="2.12">that</span> '
        '<mark title="4.25">she</mark>↵ left</bdi>'
    ) in fires
    assert '<mark title="3">mother&lt;/b&gt;</mark>�' in fires
    assert all(row.count("<details>") == row.count("<summary>") == 1 for row in rows)
    candidates = table_with(source, "Candidates by bias")
    assert "fires nowhere" not in candidates
    assert "<mark" not in candidates


def test_a_blank_at_the_peak_is_marked() -> None:
    made = context("a", " ", "b", peak=1)
    one = dataclasses.replace(edited(2)[1], contexts=(made,))
    assert '<bdi><span class="fires" title="2.12">a</span><mark title="4.25"> </mark>b</bdi>' in debias_page(
        result(edited=(one,))
    )


def test_the_page_says_whether_the_recipe_rests_on_one_feature() -> None:
    text = words(Page(debias_page(result())))
    assert (
        "Without its strongest feature (113 at blocks.15.hook_resid_post) the recipe still removes 32 % of the "
        "spread over tune occupations, against 46 % with all 14; no other feature is missed more."
    ) in text
    assert "on which the whole recipe leaves 54 % at a KL of 0.0081" in text


def test_thirty_candidates_are_shown_and_the_rest_counted() -> None:
    source = debias_page(result())
    assert "Candidates: the 30 features with most bias, of 40" in source
    table = table_with(source, "Candidates by bias")
    assert table.count('<th scope="row"') == 30
    assert "words p &lt;0.001" in table
    few = debias_page(result(candidates=tuple(evidence(k) for k in range(3))))
    assert "Candidates: the 3 features with most bias, of 3" in few


def test_controls_are_drawn_and_told() -> None:
    made = RESULTS["a control is ahead"]
    source = debias_page(made)
    text = words(Page(source))
    assert all(sentence in text for sentence in control_findings(made))
    forest = table_with(source, "Occupations, held out · slope: share of")
    rows = re.findall(r"<tr.*?</tr>", forest, flags=re.DOTALL)[1:]
    names = [re.sub(r"<[^>]+>", "", re.findall(r"<bdi>(.*?)</bdi>", row)[0]) for row in rows]
    assert names[0] == "recipe"
    assert names[-1] == "20 random draws of features"
    assert rows[-1].count('class="draw"') == 20
    assert 'class="after"' in rows[0]
    marked = [name for name, row in zip(names, rows, strict=True) if '<g class="tied">' in row]
    assert marked == ["random directions, same learning", "residual basis, same learning"]
    assert "80 % [68, 92] −22 [−29, −15] 0.003 did better" in text_of(rows[-2])
    everything = text_of(table_with(source, "Strength: share of the whole"))
    assert (
        "LEACE Full strength. erasure 3 0.0040 not the target’s 83 % 6 % [−6, 18] 1 % [−11, 13]" in everything
    )


def test_each_cost_has_its_own_plots() -> None:
    cheap = [control("recipe", "recipe", 0.2, target_kl=0.003), dataclasses.replace(TIED, target_kl=0.003)]
    made = result(
        proof=Proof((control("recipe", "recipe", 0.5), control("A", "learned", 0.1, behind=0.4), *cheap))
    )
    headings = [element.text for element in Page(debias_page(made)).all("h3")]
    assert "At a KL divergence of 0.0097 nats per token" in headings
    assert "At a KL divergence of 0.0030 nats per token" in headings


def test_undefined_reductions_are_not_drawn() -> None:
    made = result(
        proof=Proof((control("recipe", "recipe", 0.5), control("A", "learned", math.nan, behind=math.nan)))
    )
    source = debias_page(made)
    row = next(row for row in re.findall(r"<tr.*?</tr>", source, flags=re.DOTALL) if "<bdi>A</bdi>" in row)
    assert "not drawn" in row
    assert "cannot be compared" in row
    assert "nan" not in words(Page(source)).split()


def test_without_controls_it_says_so() -> None:
    assert "No control was run" in words(Page(debias_page(RESULTS["no proof"])))


def test_the_audit_is_the_one_of_its_own_page() -> None:
    source, alone = debias_page(result()), audit_page(audit())
    for start, end in (("<main>", "</main>"), ("<footer>", "</footer>")):
        inner = alone.partition(start)[2].partition(end)[0]
        assert len(inner) > 500
        assert inner in source
    footer = alone.partition("<footer>")[2].partition("</footer>")[0]
    assert all(footer in debias_page(made) for made in RESULTS.values())


def test_how_it_was_made() -> None:
    text = words(Page(debias_page(result())))
    for part in (
        "144 occupations in 12 templates (find, tune)",
        "9,253 fire at more than 5 % of positions",
        "kl_budget0.01",
        "depths9, 15, 21",
        "190.6 s",
        "demo/blocks.21.hook_resid_post",
        "“she” and “he” are one token each.",
    ):
        assert part in text.replace("kl_budget 0", "kl_budget0").replace("depths 9", "depths9")


def test_a_number_that_changes_in_the_result_changes_on_the_page() -> None:
    front = list(FRONT)
    front[2] = dataclasses.replace(FRONT[2], spread=0.6137, kl=0.00913, features=37)
    before, after = debias_page(result()), debias_page(result(front=tuple(front)))
    for old, new in (("52.2 %", "61.4 %"), ('<td class="number">0.0097', '<td class="number">0.0091')):
        row = table_with(after, "All recipes of the front")
        assert new in row
        assert old not in row
        assert old in table_with(before, "All recipes of the front")


def _colour(css: str, name: str) -> list[str]:
    return re.findall(rf"--{name}: #(\w{{6}})", css)


def test_shaded_text_can_be_read() -> None:
    folder = files("onesense.report") / "templates"
    ink = _colour((folder / "audit.css").read_text(), "text")
    wash = _colour((folder / "debias.css").read_text(), "wash")
    assert len(ink) == len(wash) == 3  # light, dark, print
    for dark, light in zip(ink, wash, strict=True):
        one, other = (sum(bytes.fromhex(colour)) for colour in (dark, light))
        assert abs(one - other) > 380
