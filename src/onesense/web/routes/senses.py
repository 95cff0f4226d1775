"""Senses: how many units have, and what each of them is."""

from __future__ import annotations

import re
from dataclasses import asdict
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import Path, Query

from onesense.errors import ConfigurationError, NotFoundError, OnesenseError
from onesense.senses.measure import FEATURES, NEURONS, RESIDUAL_BASIS
from onesense.store.catalog import Catalog
from onesense.store.senses import SORT_COLUMNS, SenseRow, count_senses, read_senses, sense_numbers
from onesense.web.pages import Pages, View
from onesense.web.report_links import feature_address
from onesense.web.run_reports import is_there, readable
from onesense.web.sense_contexts import UnitSense, senses_of
from onesense.web.sense_distribution import SetOfUnits, distribution
from onesense.web.sense_picture import picture
from onesense.web.service import Service, Uses
from onesense.web.workspace import KnownRun

pages = Pages()

_COMMAND = "senses measure"
_PAGE = 50
_MOST_PAGES = 1_000_000
_MOST_UNIT = 2**31 - 1
_CONTEXTS = 12

Run = Annotated[str, Path(max_length=100)]


@pages.page("/senses", "senses.html.j2")
def senses(uses: Uses) -> View:
    """Every run that measured senses."""
    return View("Senses", {"runs": [_entry(known) for known in uses.workspace.of_command(_COMMAND)]})


@pages.page("/runs/{run}/senses", "senses_run.html.j2")
def senses_run(
    run: Run,
    uses: Uses,
    units: Annotated[str, Query(max_length=100, description="A set of units")] = "",
    least: Annotated[int, Query(ge=0, le=1000, description="So many senses or more")] = 0,
    find: Annotated[str, Query(max_length=100, description="Part of a token of a sense")] = "",
    sort: Annotated[str, Query(max_length=40)] = "several",
    order: Annotated[str, Query(pattern="^(up|down)$")] = "down",
    page: Annotated[int, Query(ge=1, le=_MOST_PAGES)] = 1,
) -> View:
    """How many senses the units of a run have, and a table of them."""
    known = uses.workspace.run(run, _COMMAND)
    with readable(known), _catalog(known) as catalog:
        sets = distribution(sense_numbers(catalog), _order(known))
        names = {_slug(one.name): one.name for one in sets}
        if units and units not in names:
            raise ConfigurationError(
                "This run has no such set of units.", hint=f"It has: {', '.join(names) or 'none'}."
            )
        chosen = names.get(units)
        count = count_senses(catalog, unit_set=chosen, least=least, tokens=find)
        pages_of = max(1, -(-count // _PAGE))
        if page > pages_of:
            raise NotFoundError(f"There is no page {page}.", hint=f"There are {pages_of}.")
        rows = read_senses(
            catalog,
            sort,
            order == "down",
            unit_set=chosen,
            least=least,
            tokens=find,
            offset=(page - 1) * _PAGE,
            limit=_PAGE,
        )
    asked = {"units": units, "least": least, "find": find, "sort": sort, "order": order}
    data = {
        "run": _described(known),
        "sets": [_set_data(one) for one in sets],
        "asked": asked,
        "count": count,
        "page": page,
        "pages": pages_of,
        "sorts": list(SORT_COLUMNS),
        "units": [_row_data(known, row) for row in rows],
    }
    drawn = {"picture": picture(sets), "query": urlencode(asked), "without_order": _without_order(asked)}
    return View(f"Senses of {known.path.name}", data, drawn)


@pages.page("/runs/{run}/senses/{unit_set}/{unit}", "senses_unit.html.j2")
def senses_unit(
    run: Run,
    unit_set: Annotated[str, Path(max_length=100)],
    unit: Annotated[int, Path(ge=0, le=_MOST_UNIT)],
    uses: Uses,
    contexts: Annotated[int, Query(ge=1, le=128, description="Contexts of each sense")] = _CONTEXTS,
) -> View:
    """One unit: its senses, each with its contexts."""
    known = uses.workspace.run(run, _COMMAND)
    with readable(known), _catalog(known) as catalog:
        names = {_slug(name): name for name in sense_numbers(catalog)}
        name = names.get(unit_set)
        rows = [] if name is None else read_senses(catalog, unit_set=name, unit=unit, limit=1)
    if name is None or not rows:
        raise NotFoundError(
            "This run has no such unit.", hint=f"Its sets of units are {', '.join(names.values()) or 'none'}."
        )
    row = rows[0]
    found, problem = _senses(uses, known, name, unit, contexts)
    feature = (
        feature_address(uses.workspace, known.dictionary_fingerprint, unit) if name == FEATURES else None
    )
    data = {
        "run": _described(known),
        "unit_set": name,
        "kind": _singular(name),
        "set_slug": unit_set,
        "row": _row_data(known, row),
        "feature": feature,
        "senses": [asdict(one) for one in found],
        "largest": max(
            (token.activation or 0 for one in found for line in one.shown for token in line), default=0
        ),
        "problem": problem,
        "asked": {"contexts": contexts},
    }
    return View(f"{_singular(name)} {unit} of {known.path.name}", data)


def _senses(
    uses: Service, known: KnownRun, unit_set: str, unit: int, contexts: int
) -> tuple[list[UnitSense], str]:
    """The senses with their contexts; or why they cannot be shown, where the numbers still can."""
    try:
        measured = uses.opened.get(known).measured
        table = measured[1].get(unit_set)
        if table is None or unit >= len(table.number):
            return [], "The contexts of this unit are not in the run."
        spell = uses.resident.tokens(known.fact("model")).strings
        return senses_of(measured, unit_set, unit, spell, contexts), ""
    except (OnesenseError, LookupError, ValueError) as error:
        told = error.message if isinstance(error, OnesenseError) else "their table is damaged."
        return [], f"The contexts cannot be shown: {told}"


def _entry(known: KnownRun) -> dict[str, Any]:
    entry = {**_described(known), "sets": [], "problem": "", "hint": ""}
    try:
        with readable(known), _catalog(known) as catalog:
            sets = distribution(sense_numbers(catalog), _order(known))
        return {**entry, "sets": [_set_data(one) for one in sets]}
    except OnesenseError as error:
        return {**entry, "problem": error.message, "hint": error.hint or ""}


def _catalog(known: KnownRun) -> Catalog:
    path = known.open().catalog_path
    if not is_there(path):
        raise NotFoundError(
            f"The run {known.path.name} has no senses yet.",
            hint="Its command still runs, or was stopped. The same `onesense senses measure` with this "
            "--run-folder goes on where it stopped.",
        )
    return Catalog(path, read_only=True)


def _order(known: KnownRun) -> list[str]:
    others = known.open().configuration.get("others", [])
    return [FEATURES, *(str(one) for one in others)] if isinstance(others, list) else [FEATURES]


def _described(known: KnownRun) -> dict[str, str]:
    facts = {name: known.fact(name) for name in ("model", "dictionary", "hook_point")}
    return {"id": known.id, "name": known.path.name, **facts}


def _set_data(one: SetOfUnits) -> dict[str, Any]:
    shares = [] if one.several is None else [one.several, *one.shares]
    return {
        "name": one.name,
        "slug": _slug(one.name),
        "units": one.units,
        "known": one.known,
        "shares": [
            {"title": found.title, "units": found.units, **found.interval._asdict()} for found in shares
        ],
    }


def _row_data(known: KnownRun, row: SenseRow) -> dict[str, Any]:
    slug = _slug(row.unit_set)
    return {**asdict(row), "slug": slug, "address": f"/runs/{known.id}/senses/{slug}/{row.unit}"}


def _without_order(asked: dict[str, Any]) -> str:
    return urlencode({name: value for name, value in asked.items() if name not in ("sort", "order")})


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def _singular(name: str) -> str:
    """What one unit of a set is called."""
    return {FEATURES: "Feature", NEURONS: "Neuron", RESIDUAL_BASIS: "Coordinate"}.get(name, name)
