"""The runs: what there is, what is running, what each was made from; and audits that are started here."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import Path as InAddress
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from onesense.bias.audit import AuditSettings, audit
from onesense.errors import ConfigurationError, NotFoundError, OnesenseError
from onesense.report.audit_files import AUDIT_PAGE, write_audit_files
from onesense.steer.recipe import Recipe
from onesense.store.catalog import Catalog, match_expression
from onesense.store.feature_columns import search_features
from onesense.store.progress import RecordedStages
from onesense.web.feature_tables import reading
from onesense.web.pages import Pages, View, json_answer
from onesense.web.run_command import command_again
from onesense.web.run_details import facts, files
from onesense.web.run_summary import RunState, described, in_sections, model_of
from onesense.web.service import Service, Uses
from onesense.web.work import Job

pages = Pages()

_MADE_FROM = ("inputs", "seeds")
# Some of these stand under the search box: the first that the run's features are found by.
_EXAMPLES = ("she her", "garden", "nurse", "mother", "king", "music", "family", "food", "school", "color")
_EXAMPLES_SHOWN = 4


class AuditRequest(BaseModel):
    """An audit that is wanted: of a recipe, or of the model of a run as it is."""

    model_config = ConfigDict(extra="forbid")

    recipe: str | None = Field(default=None, max_length=200)
    run: str | None = Field(default=None, max_length=200)
    suite: Literal["quick", "standard"] = "quick"


class _Asked:
    """An audit that is possible: of which model, with which recipe, into which folder."""

    def __init__(self, asked: AuditRequest, uses: Service) -> None:
        self.recipe: Recipe | None = None
        if asked.recipe is not None:
            known = uses.workspace.recipe(asked.recipe)
            self.recipe, title = known.read(), known.title
            self.model = self.recipe.model.name
        elif asked.run is not None:
            run = uses.workspace.run(asked.run)
            self.model = model_of(run)
            title = f"{self.model} as it is"
        else:
            raise ConfigurationError("An audit of what?", hint="Name a recipe, or a run.")
        if not self.model:
            raise NotFoundError("This run does not say which model it is of.", hint="Choose another run.")
        self.title = f"Audit, {asked.suite}: {title}"
        self.settings = AuditSettings(suite=asked.suite)
        hashes = [self.recipe.content_hash] if self.recipe else []
        self.folder = uses.workspace.store / self.settings.folder_name(self.model, hashes)


@pages.page("/", "runs.html.j2")
def runs(uses: Uses) -> View:
    """Every run, and how far those are that run now."""
    listed = [described(one, uses.sizes) for one in uses.workspace.runs()]
    searched = next((one for one in listed if one["command"] == "extract" and one["links"]), None)
    sections = in_sections(listed)
    data = {
        "sections": sections,
        "searched": None if searched is None else {"id": searched["id"], "name": searched["name"]},
        "examples": [] if searched is None else _examples(uses, searched["id"]),
        "running": sum(one["state"] == RunState.RUNNING for one in listed),
        "count": len(listed),
    }
    return View("Runs", data)


@pages.page("/runs/{run}", "run.html.j2")
def one_run(run: Annotated[str, InAddress(max_length=100)], uses: Uses) -> View:
    """What a run was made from, and what it holds."""
    known = uses.workspace.run(run)
    opened = known.open()
    made_with = {key: value for key, value in opened.provenance.items() if key not in _MADE_FROM}
    again = command_again(known, uses.workspace)
    summary = described(known, uses.sizes)
    return View(
        known.path.name,
        {
            "run": summary,
            "running": int(summary["state"] == RunState.RUNNING),
            "settings": [one._asdict() for one in facts(opened.configuration)],
            "made_from": [one._asdict() for key in _MADE_FROM for one in facts(opened.provenance.get(key))],
            "made_with": [one._asdict() for one in facts(made_with)],
            "fingerprint": opened.fingerprint,
            "files": [one._asdict() for one in files(known.path)],
            "again": {"command": again.command, "missing": list(again.missing)},
        },
    )


@pages.post("/api/audits", response_model=None)
def start_audit(asked: AuditRequest, uses: Uses) -> JSONResponse:
    """Put an audit into the line; its events tell how far it is, and where the report lies."""
    wanted = _Asked(asked, uses)

    def work(job: Job) -> dict[str, Any]:
        loaded = uses.resident.model(wanted.model)
        job.check()
        found = audit(
            loaded,
            wanted.folder,
            recipe=wanted.recipe,
            settings=wanted.settings,
            stages=RecordedStages(job, wanted.folder),
        )
        write_audit_files(found)
        return {"address": f"/runs/{_id_of(uses, wanted.folder)}/audit", "notes": list(found.result.notes)}

    return json_answer({"job": uses.queue.submit("audit", wanted.title, work).id})


def _examples(uses: Service, run: str) -> list[str]:
    """Words that find something among the features of a run; none where it cannot be read just now."""
    try:
        with reading(uses.workspace.run(run)) as catalog:
            found = (word for word in _EXAMPLES if _finds(catalog, word))
            return list(islice(found, _EXAMPLES_SHOWN))
    except OnesenseError:
        return []


def _finds(catalog: Catalog, word: str) -> bool:
    expression = match_expression(word)
    return expression is not None and len(search_features(catalog, expression)) > 0


def _id_of(uses: Service, folder: Path) -> str:
    found = [one.id for one in uses.workspace.runs() if one.path.resolve() == folder.resolve()]
    if not found:
        raise NotFoundError(
            f"The audit is in {folder.name}, which this page does not look at.",
            hint=f"Start `onesense serve` with the folder; the page of the audit is {AUDIT_PAGE}.",
        )
    return found[0]
