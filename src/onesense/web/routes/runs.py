"""The runs: what there is, what is running, what each was made from; and audits that are started here."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import Path as InAddress
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from onesense.bias.audit import AuditSettings, audit
from onesense.errors import NotFoundError
from onesense.report.audit_files import AUDIT_PAGE, write_audit_files
from onesense.store.progress import RecordedStages, read_progress
from onesense.web.pages import Pages, View, json_answer
from onesense.web.service import Service, Uses
from onesense.web.work import Job
from onesense.web.workspace import KnownRun

pages = Pages()

_SHOWS = {
    "extract": "what every feature promotes, and where it fires",
    "interpret": "explanations of a table of features",
    "senses measure": "how many senses units have",
    "senses validate": "how well senses are told",
    "debias": "the gender features, tuned and proved",
    "audit": "gender bias and ability, measured",
    "study": "how senses and bias are related",
    "sae train": "dictionaries that were trained",
}
_PAGE = {
    "extract": "features",
    "debias": "debias",
    "audit": "audit",
    "senses measure": "senses",
    "study": "study",
}
_DONE = {
    "extract": ("lens.safetensors", "catalog.sqlite"),
    "debias": ("result.json",),
    "audit": ("audit.json",),
    "senses measure": ("senses/features.safetensors",),
    "study": ("study.json",),
}
_ORDER = ("extract", "interpret", "senses measure", "debias", "audit", "study")
_MOST_FILES = 200


class AuditRequest(BaseModel):
    """An audit that is wanted: of a recipe, or of the model of a run as it is."""

    model_config = ConfigDict(extra="forbid")

    recipe: str | None = Field(default=None, max_length=200)
    run: str | None = Field(default=None, max_length=200)
    suite: Literal["quick", "standard"] = "quick"


@pages.page("/", "runs.html.j2")
def runs(uses: Uses) -> View:
    """Every run, and how far those are that run now."""
    known = uses.workspace.runs()
    place = {command: number for number, command in enumerate(_ORDER)}
    listed = sorted((_listed(one) for one in known), key=lambda one: place.get(one["command"], len(place)))
    first = next((one.id for one in known if one.command == "extract"), "")
    return View("Runs", {"runs": listed, "first_features": first})


@pages.page("/runs/{run}", "run.html.j2")
def one_run(run: Annotated[str, InAddress(max_length=100)], uses: Uses) -> View:
    """What a run was made from, and what it holds."""
    known = uses.workspace.run(run)
    opened = known.open()
    return View(
        known.path.name,
        {
            **_listed(known),
            "configuration": dict(opened.configuration),
            "provenance": dict(opened.provenance),
            "fingerprint": opened.fingerprint,
            "files": _files(known.path),
            "again": _again(known),
        },
    )


@pages.post("/api/audits", response_model=None)
def start_audit(asked: AuditRequest, uses: Uses) -> JSONResponse:
    """Put an audit into the line; its events tell how far it is, and where the report lies."""
    if asked.recipe is not None:
        known = uses.workspace.recipe(asked.recipe)
        recipe, title = known.read(), known.title
        model = recipe.model.name
    elif asked.run is not None:
        run = uses.workspace.run(asked.run)
        recipe, title, model = None, f"{run.fact('model')} as it is", run.fact("model")
    else:
        raise NotFoundError("An audit of what?", hint="Name a recipe, or a run.")
    if not model:
        raise NotFoundError("This run does not say which model it is of.", hint="Choose another run.")
    settings = AuditSettings(suite=asked.suite)
    name = settings.folder_name(model, [recipe.content_hash] if recipe else [])
    folder = uses.workspace.store / name

    def work(job: Job) -> dict[str, Any]:
        loaded = uses.resident.model(model)
        job.check()
        found = audit(loaded, folder, recipe=recipe, settings=settings, stages=RecordedStages(job, folder))
        write_audit_files(found)
        return {"address": f"/runs/{_id_of(uses, folder)}/audit", "notes": list(found.result.notes)}

    return json_answer({"job": uses.queue.submit("audit", f"Audit, {asked.suite}: {title}", work).id})


def _listed(known: KnownRun) -> dict[str, Any]:
    writing = read_progress(known.path)
    done = all((known.path / name).exists() for name in _DONE.get(known.command, ()))
    state = "damaged" if known.run is None else "running" if writing else "finished" if done else "stopped"
    page = _PAGE.get(known.command, "")
    return {
        "id": known.id,
        "name": known.path.name,
        "command": known.command,
        "shows": _SHOWS.get(known.command, ""),
        "model": known.fact("model") or _model_of(known),
        "hook_point": known.fact("hook_point"),
        "dictionary": known.fact("dictionary"),
        "state": state,
        "problem": known.problem,
        "progress": writing._asdict() if writing else None,
        "page": f"/runs/{known.id}/{page}" if page and state in ("finished", "running") else "",
    }


def _model_of(known: KnownRun) -> str:
    inputs = {} if known.run is None else known.run.provenance.get("inputs", {})
    model = inputs.get("model", {}) if isinstance(inputs, dict) else {}
    return str(model.get("name", "")) if isinstance(model, dict) else ""


def _files(folder: Path) -> list[dict[str, Any]]:
    """Files by name, those of a folder of many as one line."""
    found: dict[str, list[int]] = {}
    for path in sorted(folder.rglob("*")):
        inside = path.relative_to(folder)
        if path.is_symlink() or any(part.startswith(".") for part in inside.parts) or not path.is_file():
            continue
        name = str(inside) if len(inside.parts) == 1 else f"{inside.parts[0]}/"
        size = path.stat().st_size
        there = found.setdefault(name, [0, 0])
        there[0], there[1] = there[0] + 1, there[1] + size
    return [
        {"name": name, "files": count, "bytes": size}
        for name, (count, size) in list(found.items())[:_MOST_FILES]
    ]


def _again(known: KnownRun) -> str:
    """The command that goes on with the run, or makes it again, as far as it can be told."""
    model, label = known.fact("model") or _model_of(known), known.fact("dictionary")
    if known.command not in _PAGE or not model:
        return ""
    words = ["onesense", *known.command.split(), model]
    release, slash, sae_id = label.partition("/")
    if label and known.command in ("extract", "senses measure"):
        words += (
            ["--sae-release", release, "--sae-id", sae_id] if slash and release else ["--sae-path", label]
        )
    return shlex.join([*words, "--run-folder", str(known.path)])


def _id_of(uses: Service, folder: Path) -> str:
    found = [one.id for one in uses.workspace.runs() if one.path.resolve() == folder.resolve()]
    if not found:
        raise NotFoundError(
            f"The audit is in {folder.name}, which this page does not look at.",
            hint=f"Start `onesense serve` with the folder; the page of the audit is {AUDIT_PAGE}.",
        )
    return found[0]
