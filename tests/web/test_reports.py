"""Reports: what is found is shown whole, what is not whole is explained, and nothing that they say runs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from browser import asking
from onesense.report.audit_html import audit_page
from onesense.report.audit_json import read_audit
from web.report_runs import KEY, make_run, make_runs

REPORTS = ["/runs/audit/audit", "/runs/debias/debias", "/runs/study-gentle/study"]
ITEMS = f"/runs/audit/audit/items/{KEY}"


def test_the_list_has_every_report_with_its_finding(ask: TestClient) -> None:
    kinds = {kind["command"]: kind["reports"] for kind in ask.get("/reports.json").json()["kinds"]}
    assert {name: [one["id"] for one in found] for name, found in kinds.items()} == {
        "debias": ["debias"], "audit": ["audit"], "study": ["study-gentle"],
    }  # fmt: skip
    assert "held-out bias metrics" in kinds["audit"][0]["finding"][0]
    assert "gender bias" in kinds["debias"][0]["finding"][0]
    assert "several senses" in kinds["study"][0]["finding"][0]
    page = ask.get("/reports").text
    for address in REPORTS:
        assert f'href="{address}"' in page


def test_without_reports_the_list_says_how_to_make_them(tmp_path: Path) -> None:
    with asking(tmp_path) as ask:
        page = ask.get("/reports").text
    for command in ("onesense audit demo", "onesense debias demo", "onesense study demo"):
        assert command in page


@pytest.mark.parametrize("address", REPORTS)
def test_a_report_has_its_body_its_footer_and_a_twin(ask: TestClient, address: str) -> None:
    page = ask.get(address).text
    assert "What these numbers are not" in page
    assert 'class="report"' in page
    assert " style=" not in page
    twin = ask.get(f"{address}.json").json()
    assert twin["result"]["model"]
    for file in twin["downloads"]:
        assert file["address"] in page


def test_the_style_of_reports_is_that_of_the_standalone_page(ask: TestClient) -> None:
    style = ask.get("/static/report/audit.css")
    assert style.headers["content-type"].startswith("text/css")
    assert ".headline" in style.text
    for name in ("audit.css.j2", "audit_body.html.j2", "..%2fpages"):
        assert ask.get(f"/static/report/{name}.css").status_code == 404


def test_an_audit_leads_to_the_recipe_that_it_judged(ask: TestClient) -> None:
    judged = ask.get("/runs/audit/audit.json").json()["recipes"]
    assert [one["tune"] for one in judged] == ["/tune?recipe=debias.kl-0-001"]
    page = ask.get("/runs/audit/audit").text
    assert 'href="/tune?recipe=debias.kl-0-001"' in page
    assert 'href="/steer?recipe=debias.kl-0-001"' in page


def test_points_of_the_front_lead_to_recipes_that_are_there(ask: TestClient) -> None:
    page = ask.get("/runs/debias/debias").text
    assert page.count('href="/tune?recipe=debias.kl-0-003"') == 2  # in the plot and in the table
    assert "kl-0-03" not in page.replace("kl-0-003", "")  # its file is gone: told, no link
    assert "recipes/kl-0.03.json" in page


def test_features_lead_to_their_page_where_their_dictionary_was_read(ask: TestClient, own: Path) -> None:
    assert 'href="/runs/extract/features/' in ask.get("/runs/debias/debias").text
    shutil.rmtree(own / "extract")
    with asking(own) as without:
        assert "/features/" not in without.get("/runs/debias/debias").text


def test_items_come_by_what_changed_most(ask: TestClient) -> None:
    first = ask.get(f"{ITEMS}.json").json()
    assert (first["column"], first["columns"]) == ("gap", ["gap"])  # what did not change is left out
    assert [row["id"] for row in first["rows"][:2]] == ["item 59", "item 58"]
    assert first["rows"][0]["change"] == 29.5
    assert first["rows"][0]["texts"] == ["The nurse said 59", "The nurse said| she"]
    assert (first["items"], first["pages"], len(first["rows"])) == (60, 3, 25)
    fell = ask.get(f"{ITEMS}.json?order=down&page=3").json()
    assert [row["id"] for row in fell["rows"]][-1] == "item 59"
    assert len(fell["rows"]) == 10


@pytest.mark.parametrize(
    ("asked", "status"),
    [
        ("?sort=gap", 200),
        ("?sort=women", 422),
        ("?sort=gap;DROP", 422),
        ("?order=sideways", 422),
        ("?page=0", 422),
        ("?page=4", 404),
        ("?page=99999999999999999999", 422),
        ("?sort=" + "x" * 300, 422),
    ],
)
def test_what_items_cannot_be_sorted_by_is_told(ask: TestClient, asked: str, status: int) -> None:
    for address in (ITEMS + asked, f"{ITEMS}.json{asked}"):
        answer = ask.get(address, headers={"accept": "text/html"})
        assert answer.status_code == status
        assert "Traceback" not in answer.text


@pytest.mark.parametrize(
    "key",
    ["nothing", "%2e%2e%2faudit", "..%2f..%2faudit", "%00", "\\..\\", "stereoset-test-race", "x" * 200],
)
def test_only_benchmarks_of_the_audit_have_items(ask: TestClient, key: str) -> None:
    for address in (
        f"/runs/audit/audit/items/{key}", f"/runs/audit/audit/items/{key}.json",
        f"/runs/audit/audit/files/items/{key}.csv",
    ):  # fmt: skip
        answer = ask.get(address)
        assert answer.status_code in (404, 422)
        assert "root:" not in answer.text


@pytest.mark.parametrize(
    ("address", "kind", "name"),
    [
        ("/runs/audit/audit/files/audit.json", "application/json", "audit-audit.json"),
        ("/runs/audit/audit/files/audit.html", "text/html", "audit-audit.html"),
        (f"/runs/audit/audit/files/items/{KEY}.csv", "text/csv", f"audit-{KEY}.csv"),
        ("/runs/debias/debias/files/result.json", "application/json", "debias-result.json"),
        ("/runs/debias/debias/files/report.html", "text/html", "debias-report.html"),
        ("/runs/debias/debias/files/recipe.json", "application/json", "debias-recipe.json"),
        ("/runs/study-gentle/study/files/study.html", "text/html", "study-gentle-study.html"),
        ("/runs/study-gentle/study/files/units.csv", "text/csv", "study-gentle-units.csv"),
    ],
)
def test_files_are_to_keep_not_to_show(ask: TestClient, address: str, kind: str, name: str) -> None:
    answer = ask.get(address)
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith(kind)
    assert answer.headers["content-disposition"] == f'attachment; filename="{name}"'
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.content


def test_the_page_to_keep_is_that_of_the_command_line(ask: TestClient, made: Path) -> None:
    kept = ask.get("/runs/audit/audit/files/audit.html").text
    assert kept == audit_page(read_audit(made / "audit" / "audit.json"))


@pytest.mark.parametrize(
    "address",
    [
        "/runs/audit/audit/files/run.json", "/runs/audit/audit/files/..%2frun.json",
        "/runs/audit/audit/files/%2fetc%2fhostname", "/runs/audit/extract/files/run.json",
        "/runs/debias/audit/files/audit.json", "/runs/audit/debias", "/runs/nobody/audit",
        "/runs/..%2f..%2fetc/audit", "/runs/study-gentle/audit.json",
    ],
)  # fmt: skip
def test_other_files_and_runs_are_not_given(ask: TestClient, address: str) -> None:
    assert ask.get(address).status_code == 404


DAMAGE = {
    "empty": (b"", 422),
    "no JSON": (b"<script>alert(1)</script>", 422),
    "another kind": (b"[]", 422),
    "too deep": (b"[" * 100_000, 422),
    "newer": (json.dumps({"schema_version": 999}).encode(), 409),
    "half": (b'{"schema_version": 1, "model": "x"', 422),
}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize(
    ("run", "command", "file"),
    [
        ("audit", "audit", "audit.json"),
        ("debias", "debias", "result.json"),
        ("study gentle", "study", "study.json"),
    ],
)
def test_a_damaged_report_is_explained(own: Path, damage: str, run: str, command: str, file: str) -> None:
    content, status = DAMAGE[damage]
    (own / run / file).write_bytes(content)
    address = f"/runs/{run.replace(' ', '-')}/{command}"
    with asking(own) as ask:
        for one in (address, f"{address}.json"):
            answer = ask.get(one, headers={"accept": "text/html"})
            assert answer.status_code == status
            assert "Traceback" not in answer.text
            assert "<script>alert" not in answer.text
        listed = ask.get("/reports").text
    assert "<script>alert" not in listed
    assert f'href="{address}"' not in listed  # told without a link to nothing
    assert file in listed


@pytest.mark.parametrize("gone", ["audit.json", "everything"])
def test_a_report_that_is_not_there_says_what_to_run(own: Path, gone: str) -> None:
    with asking(own) as ask:
        if gone == "everything":
            shutil.rmtree(own / "audit")
        else:
            (own / "audit" / gone).unlink()
        answer = ask.get("/runs/audit/audit", headers={"accept": "text/html"})
        assert answer.status_code == 404
        assert ("onesense audit" if gone == "audit.json" else "deleted") in answer.text
        assert ask.get(ITEMS).status_code == 404
        assert ask.get("/runs/audit/audit/files/audit.html").status_code == 404


def test_numbers_that_no_command_writes_are_no_fault_of_the_server(own: Path) -> None:
    path = own / "audit" / "audit.json"
    document = json.loads(path.read_text(encoding="utf-8"))
    for one in document["benchmarks"]:
        for metric in one["metrics"]:
            metric["decimals"] = 10**12
    path.write_text(json.dumps(document), encoding="utf-8")
    with asking(own) as ask:
        answer = ask.get("/runs/audit/audit", headers={"accept": "text/html"})
        assert answer.status_code == 422
        assert "damaged" in answer.text
        assert ask.get("/runs/audit/audit/files/audit.html").status_code == 422
        assert ask.get("/reports").status_code == 200


def test_damaged_items_are_explained(own: Path) -> None:
    (own / "audit" / "items" / f"{KEY}.csv").write_text("id,cluster,texts,x\na,b\n", encoding="utf-8")
    with asking(own) as ask:
        assert ask.get(ITEMS).status_code == 422
        shutil.rmtree(own / "audit" / "items")
        assert ask.get(ITEMS).status_code == 404
        assert ask.get("/runs/audit/audit").status_code == 200


def test_a_run_that_is_not_finished_is_listed(own: Path) -> None:
    make_run(own / "new", "audit", {"model": "demo"})
    with asking(own) as ask:
        assert "The run new has no report yet." in ask.get("/reports").text


def test_nothing_that_a_report_says_runs(tmp_path: Path) -> None:
    folder = make_runs(tmp_path / "runs", hostile=True)
    study = "/runs/study-img-src-x-onerror-alert-2/study"
    addresses = ["/reports", "/runs/audit/audit", ITEMS, "/runs/debias/debias", study]
    with asking(folder) as ask:
        for address in addresses:
            answer = ask.get(address)
            assert answer.status_code == 200, answer.text[:500]
            for attack in (
                "<script>alert",
                "<img src=x",
                "javascript:alert",
                'href="//evil',
                "\u202e",
                "\u0007",
            ):
                shown = (
                    answer.text
                    if attack != "javascript:alert"
                    else answer.text.replace("<bdi>javascript:", "")
                )
                assert attack not in shown, (address, attack)
        for file in ("audit/audit/files/audit.html", "debias/debias/files/report.html"):
            assert "<script>" not in ask.get(f"/runs/{file}").text
        kept = ask.get(f"{study}/files/study.html")
        assert kept.headers["content-disposition"] == (
            'attachment; filename="study-img-src-x-onerror-alert-2-study.html"'
        )
