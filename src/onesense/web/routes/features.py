"""All features of a run: search, filter, sort, page, and take the table along."""

from __future__ import annotations

from typing import Any

from fastapi.responses import StreamingResponse

from onesense.store.feature_columns import ShownFeature, read_shown
from onesense.web.feature_matches import also_found, read_sense_tokens, words_of
from onesense.web.feature_query import MATCH, AskedQuery, FeatureQuery
from onesense.web.feature_tables import FeatureTable, reading
from onesense.web.features_csv import table_csv
from onesense.web.features_drawn import columns_drawn, filters_drawn, pages_drawn
from onesense.web.pages import Elsewhere, Pages, View
from onesense.web.service import Service, Uses

pages = Pages()

_COMMAND = "extract"
_TOKENS = 8


@pages.page("/features", "features_runs.html.j2")
def runs(uses: Uses) -> View | Elsewhere:
    """The runs whose features can be looked at; the only one at once."""
    listed = [
        {
            "id": known.id,
            "name": known.path.name,
            "model": known.fact("model"),
            "dictionary": known.fact("dictionary"),
            "hook_point": known.fact("hook_point"),
        }
        for known in uses.workspace.of_command(_COMMAND)
    ]
    if len(listed) == 1:
        return Elsewhere(f"/runs/{listed[0]['id']}/features")
    return View("Features", {"runs": listed})


@pages.page("/runs/{run}/features", "features.html.j2")
def features(run: str, uses: Uses, query: AskedQuery, go: str = "") -> View | Elsewhere:
    """The features of a run that a query asks for.

    Args:
        run: Id of the run.
        uses: What pages may use.
        query: What is asked for.
        go: Somebody pressed Search: a number alone leads to the page of that feature.
    """
    table = _table(uses, run)
    if go and query.number is not None and query.number in table.index:
        return Elsewhere(f"/runs/{run}/features/{query.number}")
    with reading(table.known) as catalog:
        found = table.index.find(query, catalog)
        last = max(1, -(-len(found.features) // query.per))
        page = min(query.page, last)
        shown = read_shown(catalog, found.features[(page - 1) * query.per : page * query.per].tolist())
    data = {
        "run": {
            "id": run,
            "name": table.known.path.name,
            "model": table.known.fact("model"),
            "dictionary": table.known.fact("dictionary"),
            "hook_point": table.known.fact("hook_point"),
            "features": len(table.index),
        },
        "found": len(found.features),
        "widened": found.widened,
        "page": page,
        "pages": last,
        "sort": query.sorted_by,
        "descending": query.descending and query.sorted_by != MATCH,
        "senses_from": _source(table.senses),
        "effect_from": _source(table.effects),
        "rows": _rows(table, query, shown),
    }
    drawn = {
        "query": query,
        "section": "/features",
        "columns": columns_drawn(query, table),
        "filters": filters_drawn(query),
        "turning": pages_drawn(query, page, last),
        "csv": f"/runs/{run}/features.csv?{query.string(page=1)}".rstrip("?"),
    }
    return View(f"Features of {table.known.path.name}", data, drawn)


@pages.get("/runs/{run}/features.csv", response_class=StreamingResponse)
def as_csv(run: str, uses: Uses, query: AskedQuery) -> StreamingResponse:
    """The features that a query asks for, on whichever page, as a table for a spreadsheet."""
    table = _table(uses, run)
    with reading(table.known) as catalog:
        found = table.index.find(query, catalog)
    return StreamingResponse(
        table_csv(table, found.features),
        media_type="text/csv; charset=utf-8",
        headers={"content-disposition": f'attachment; filename="{run}-features.csv"'},
    )


def _table(uses: Service, run: str) -> FeatureTable:
    known = uses.workspace.run(run, _COMMAND)
    return uses.tables.table(known, uses.workspace.runs())


def _source(known: Any) -> dict[str, str] | None:
    return None if known is None else {"id": known.id, "name": known.path.name}


def _rows(table: FeatureTable, query: FeatureQuery, shown: list[ShownFeature]) -> list[dict[str, Any]]:
    words = words_of(query.q)
    senses = read_sense_tokens(table, [one.feature for one in shown]) if words else {}
    return [
        {
            "feature": one.feature,
            "address": f"/runs/{table.known.id}/features/{one.feature}",
            "explanation": one.explanation,
            "status": one.status,
            "method": one.method,
            "detail": one.detail,
            "promoted": list(one.promoted[:_TOKENS]),
            "density": one.density,
            "max_activation": one.max_activation,
            "senses": table.index.value(table.index.senses, one.feature),
            "effect": table.index.value(table.index.effect, one.feature),
            "score": one.score,
            "also": also_found(words, one, senses.get(one.feature, ()), _TOKENS),
        }
        for one in shown
    ]
