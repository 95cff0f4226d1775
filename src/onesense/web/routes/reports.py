"""Reports: what audits, debias runs and studies found, with the evidence."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from importlib.resources import files
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import Path, Query
from fastapi.responses import Response
from markupsafe import Markup

from onesense.bias.results import AuditResult
from onesense.errors import NotFoundError
from onesense.report import wording
from onesense.report.audit_files import AUDIT_JSON, AUDIT_PAGE
from onesense.report.audit_html import audit_body, audit_page
from onesense.report.debias_html import debias_body, debias_page
from onesense.report.pages import page_environment
from onesense.report.study_files import STUDY_JSON, STUDY_PAGE, UNITS
from onesense.report.study_html import study_body, study_page
from onesense.web.audit_items import benchmark_of, has_items, item_page, items_path
from onesense.web.pages import Pages, View
from onesense.web.report_links import debias_links, recipe_of_hash, tune_address
from onesense.web.run_reports import (
    RESULT_JSON,
    file_bytes,
    is_there,
    list_reports,
    open_report,
    readable,
)
from onesense.web.service import Service, Uses
from onesense.web.workspace import KnownRun

pages = Pages()

_STYLES = ("audit", "debias", "study")
_REPORT = "report.html"
_RECIPE = "recipe.json"
_TYPES = {".json": "application/json", ".html": "text/html; charset=utf-8", ".csv": "text/csv; charset=utf-8"}
_TITLES = {".json": "JSON", ".html": "Page that needs nothing else", ".csv": "Table (CSV)"}
# By command: the files, and how the page is made anew from the result.
_FILES: Mapping[str, Sequence[str]] = {
    "audit": (AUDIT_JSON, AUDIT_PAGE),
    "debias": (RESULT_JSON, _REPORT, _RECIPE),
    "study": (STUDY_JSON, STUDY_PAGE, UNITS),
}
_PAGES: Mapping[str, Callable[[Any], str]] = {
    AUDIT_PAGE: audit_page,
    _REPORT: debias_page,
    STUDY_PAGE: study_page,
}

Run = Annotated[str, Path(max_length=100)]
Benchmark = Annotated[str, Path(max_length=100)]


@pages.get("/static/report/{name}.css", response_class=Response)
def style(name: Annotated[str, Path(max_length=20)]) -> Response:
    """The style of a kind of report, the same as on the page that needs nothing else."""
    if name not in _STYLES:
        raise NotFoundError("There is no such style.")
    return Response(
        (files("onesense.report") / "templates" / f"{name}.css").read_bytes(), media_type="text/css"
    )


@pages.page("/reports", "reports.html.j2")
def reports(uses: Uses) -> View:
    """Every report."""
    return View("Reports", {"kinds": list_reports(uses.workspace)})


@pages.page("/runs/{run}/audit", "audit.html.j2")
def audit(run: Run, uses: Uses) -> View:
    """What an audit found."""
    known = uses.workspace.run(run, "audit")
    result: AuditResult = open_report(known, "audit")
    keys = {one.key: _items_address(known, one.key) for one in result.benchmarks if has_items(known, one.key)}
    data = {
        "run": _described(known),
        "recipes": _judged(uses, known, result),
        "items": [
            {
                "key": one.key,
                "title": one.title,
                "split": one.split,
                "items": one.items,
                "address": keys[one.key],
            }
            for one in result.benchmarks
            if one.key in keys
        ],
        "downloads": _downloads(known),
        "result": asdict(result),
    }
    with readable(known):
        body = audit_body(result, keys.get)
    return View(
        f"Audit of {wording.clean(result.model)}",
        data,
        {"body": body, "honest": _honest()},
    )


@pages.page("/runs/{run}/audit/items/{benchmark}", "audit_items.html.j2")
def audit_items(
    run: Run,
    benchmark: Benchmark,
    uses: Uses,
    sort: Annotated[str, Query(max_length=200)] = "",
    order: Annotated[str, Query(max_length=20)] = "change",
    page: Annotated[int, Query(ge=1, le=1_000_000)] = 1,
) -> View:
    """The items of a benchmark, those that changed most first."""
    known = uses.workspace.run(run, "audit")
    result: AuditResult = open_report(known, "audit")
    found = benchmark_of(result, benchmark)
    shown = item_page(known, found.key, sort=sort, order=order, page=page)
    data = {
        "run": _described(known),
        "benchmark": {"key": found.key, "title": found.title, "split": found.split, "about": found.about},
        "csv": f"/runs/{known.id}/audit/files/items/{found.key}.csv",
        **asdict(shown),
    }
    return View(f"Items of {wording.clean(found.title)}", data)


@pages.page("/runs/{run}/debias", "debias.html.j2")
def debias(run: Run, uses: Uses) -> View:
    """What a debias run found, did and proved."""
    known = uses.workspace.run(run, "debias")
    result = open_report(known, "debias")
    links = debias_links(uses.workspace, known)
    data = {
        "run": _described(known),
        "addresses": {point.recipe: links.recipe(point.recipe) for point in result.front},
        "downloads": _downloads(known),
        "result": asdict(result),
    }
    with readable(known):
        body = debias_body(result, links)
    return View(
        f"Gender bias of {wording.clean(result.model)}, before and after",
        data,
        {"body": body, "honest": _honest()},
    )


@pages.page("/runs/{run}/study", "study.html.j2")
def study(run: Run, uses: Uses) -> View:
    """What a study found."""
    known = uses.workspace.run(run, "study")
    result = open_report(known, "study")
    data = {"run": _described(known), "downloads": _downloads(known), "result": asdict(result)}
    with readable(known):
        body = study_body(result)
    return View(
        "Do units with several senses carry more gender bias?",
        data,
        {"body": body, "honest": _honest()},
    )


@pages.get("/runs/{run}/audit/files/items/{benchmark}.csv", response_class=Response)
def items_file(run: Run, benchmark: Benchmark, uses: Uses) -> Response:
    """All items of a benchmark as a table."""
    known = uses.workspace.run(run, "audit")
    key = benchmark_of(open_report(known, "audit"), benchmark).key
    return _attachment(file_bytes(items_path(known, key)), f"{known.id}-{key}.csv")


@pages.get("/runs/{run}/{command}/files/{name}", response_class=Response)
def file(
    run: Run,
    command: Annotated[str, Path(max_length=20)],
    name: Annotated[str, Path(max_length=40)],
    uses: Uses,
) -> Response:
    """A file of a report, to keep."""
    if name not in _FILES.get(command, ()):
        raise NotFoundError("There is no such file.", hint="The report lists those that it has.")
    known = uses.workspace.run(run, command)
    if name in _PAGES:  # made anew from the numbers: a page on disk may be of an older onesense
        result = open_report(known, command)
        with readable(known):
            content = _PAGES[name](result).encode("utf-8")
    else:
        content = file_bytes(known.path / name)
    return _attachment(content, f"{known.id}-{name}")


def _attachment(content: bytes, name: str) -> Response:
    """A file for the browser to keep, never to show.

    Args:
        content: The file.
        name: Its name: letters, digits, dots, hyphens and underscores.
    """
    kind = _TYPES[name[name.rindex(".") :]]
    return Response(
        content, media_type=kind, headers={"content-disposition": f'attachment; filename="{name}"'}
    )


def _downloads(known: KnownRun) -> list[dict[str, str]]:
    return [
        {
            "name": name,
            "title": "The chosen recipe" if name == _RECIPE else _TITLES[name[name.rindex(".") :]],
            "address": f"/runs/{known.id}/{known.command}/files/{name}",
        }
        for name in _FILES[known.command]
        if name in _PAGES or is_there(known.path / name)
    ]


def _described(known: KnownRun) -> dict[str, str]:
    return {"id": known.id, "name": known.path.name, "command": known.command, "model": known.fact("model")}


def _items_address(known: KnownRun, key: str) -> str:
    return f"/runs/{known.id}/audit/items/{quote(key, safe='')}"


def _judged(uses: Service, known: KnownRun, result: AuditResult) -> list[dict[str, Any]]:
    """The recipes that an audit judged, and where they are if the workspace has them."""
    inputs = known.open().provenance.get("inputs", {})
    hashes = inputs.get("recipes", {}) if isinstance(inputs, dict) else {}
    judged = []
    for place, name in (("0", result.before), ("1", result.after)):
        content_hash = hashes.get(place) if isinstance(hashes, dict) else None
        if name is None or not isinstance(content_hash, str):
            continue
        found = recipe_of_hash(uses.workspace, content_hash)
        judged.append(
            {
                "name": name,
                "content_hash": content_hash,
                "id": None if found is None else found.id,
                "title": None if found is None else found.title,
                "tune": None if found is None else tune_address(found.id),
            }
        )
    return judged


def _honest() -> Markup:
    """What the numbers of a report are not, in the words that every report ends with."""
    return Markup(page_environment().get_template("audit_footer.html.j2").render())
