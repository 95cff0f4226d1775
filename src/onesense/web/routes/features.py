"""The table of all features of a run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import Query, Request
from fastapi.responses import StreamingResponse

from onesense.report.items_csv import spreadsheet_text
from onesense.store.catalog import Catalog, FeatureRow
from onesense.store.explanations import WHOLE, ExplanationRow, read_explanations
from onesense.web.feature_index import FeatureIndex, FeatureQuery
from onesense.web.pages import Pages, View
from onesense.web.service import Uses

pages = Pages()

Asked = Annotated[FeatureQuery, Query()]

_TOKENS = 6
_AT_ONCE = 500
_HEADING = ("feature", "explanation", "density", "max_activation", "senses", "gender", "score", "promoted")
_NEEDS = {
    "senses": "`onesense senses measure` counts them",
    "gender": "`onesense debias` finds it",
    "score": "`onesense interpret --score detection` gives it",
}


@pages.page("/features", "feature_runs.html.j2")
def feature_runs(uses: Uses) -> View:
    """The runs whose features can be looked at."""
    runs = [
        {
            "id": known.id,
            "name": known.path.name,
            "model": known.fact("model"),
            "hook_point": known.fact("hook_point"),
            "dictionary": known.fact("dictionary"),
        }
        for known in uses.workspace.of_command("extract")
    ]
    return View("Features", {"runs": runs})


@pages.get("/runs/{run}/features.csv", response_class=StreamingResponse)
def features_csv(run: str, asked: Asked, uses: Uses) -> StreamingResponse:
    """Every feature that the table would show, on all its pages, for a spreadsheet."""
    known = uses.workspace.run(run, "extract")
    index = uses.indexes.get(uses.workspace, known)
    with Catalog(known.open().catalog_path, read_only=True) as catalog:
        ids = index.select(asked, catalog).tolist()

    def lines() -> Iterator[bytes]:
        yield _csv_line(_HEADING)
        with Catalog(known.path / "catalog.sqlite", read_only=True) as reading:
            for first in range(0, len(ids), _AT_ONCE):
                for row in described(reading, index, ids[first : first + _AT_ONCE]):
                    cells = {
                        **row,
                        "promoted": " ".join(row["promoted"]),
                        "explanation": row["explanation"]["text"],
                    }
                    yield _csv_line(["" if cells[name] is None else str(cells[name]) for name in _HEADING])

    headers = {"content-disposition": f'attachment; filename="features-{known.id}.csv"'}
    return StreamingResponse(lines(), media_type="text/csv; charset=utf-8", headers=headers)


@pages.page("/runs/{run}/features", "features.html.j2")
def features(run: str, asked: Asked, uses: Uses, request: Request) -> View:
    """The features that are asked for, a page of them."""
    known = uses.workspace.run(run, "extract")
    index = uses.indexes.get(uses.workspace, known)
    with Catalog(known.open().catalog_path, read_only=True) as catalog:
        ids = index.select(asked, catalog)
        first = (asked.page - 1) * asked.size
        rows = described(catalog, index, ids[first : first + asked.size].tolist())
    here = request.url.path.removesuffix(".json")
    last = max(1, -(-len(ids) // asked.size))
    return View(
        f"Features of {known.path.name}",
        {
            "run": {"id": known.id, "name": known.path.name, "hook_point": known.fact("hook_point")},
            "model": known.fact("model"),
            "asked": asked.model_dump(),
            "found": len(ids),
            "of": len(index),
            "pages": last,
            "rows": rows,
            "missing": {name: words for name, words in _NEEDS.items() if not index.known(name)},
        },
        {
            "here": here,
            "sorted_by": {name: _address(here, asked, name) for name in _SORTABLE},
            "turned": {
                "previous": _turned(here, asked, asked.page - 1) if asked.page > 1 else "",
                "next": _turned(here, asked, asked.page + 1) if asked.page < last else "",
            },
            "csv": _turned(f"{here}.csv", asked, 1),
        },
    )


_SORTABLE = ("feature", "density", "max_activation", "senses", "gender", "score")


def described(catalog: Catalog, index: FeatureIndex, ids: Sequence[int]) -> list[dict[str, Any]]:
    """What the table says of some features, in their order."""
    return [
        _described(row, index, read_explanations(catalog, row.feature, sense=WHOLE))
        for row in catalog.features(ids)
    ]


def _described(row: FeatureRow, index: FeatureIndex, said: Sequence[ExplanationRow]) -> dict[str, Any]:
    best = said[0] if said else ExplanationRow(row.feature)
    place = int(index.feature.searchsorted(row.feature))
    numbers = {name: float(index.columns[name][place]) for name in ("senses", "gender", "score")}
    return {
        "feature": row.feature,
        "explanation": {
            "text": best.text,
            "by": best.model or best.method if said else "",
            "status": best.status if said else "",
        },
        "promoted": list(row.top_tokens[:_TOKENS]),
        "density": row.density,
        "max_activation": row.max_activation,
        **{name: value if value == value else None for name, value in numbers.items()},
    }


def _csv_line(cells: Sequence[str]) -> bytes:
    return (",".join(map(spreadsheet_text, cells)) + "\n").encode("utf-8", errors="backslashreplace")


def _query(asked: FeatureQuery) -> dict[str, Any]:
    """What is asked beyond what the table shows anyway, as it stands in an address."""
    given = asked.model_dump(exclude_defaults=True)
    return {name: ("true" if value is True else value) for name, value in given.items() if value is not None}


def _turned(here: str, asked: FeatureQuery, page: int) -> str:
    query = {**_query(asked), "page": page}
    if page == 1:
        del query["page"]
    return f"{here}?{urlencode(query)}" if query else here


def _address(here: str, asked: FeatureQuery, column: str) -> str:
    """The table by this column; the other way round where it is so already."""
    same = asked.sort == column
    order = "asc" if (same and asked.order == "desc") or (not same and column == "feature") else "desc"
    query = {**_query(asked), "sort": column, "order": order}
    query.pop("page", None)
    return f"{here}?{urlencode(query)}"
