"""What the list of runs says of each: what it is, how far it is, and where to go on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from onesense.store.progress import read_progress
from onesense.web.run_sizes import RunSizes
from onesense.web.workspace import KnownRun

_MOST_POINTS = 4
_ORDER = ("running", "finished", "stopped", "damaged")


class RunState(StrEnum):
    """How far a run is."""

    FINISHED = "finished"
    RUNNING = "running"
    STOPPED = "stopped"
    DAMAGED = "damaged"


@dataclass(frozen=True, slots=True)
class Kind:
    """Runs of one command.

    Attributes:
        command: The command.
        shows: What such a run holds.
        results: Files that are there once it is finished.
        links: What its pages are called, by the end of their address below the run's.
    """

    command: str
    shows: str
    results: tuple[str, ...] = ()
    links: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Section:
    """Runs that belong together on the page.

    Attributes:
        title: For people.
        about: What they are for.
        kinds: Their commands.
        make: The command that makes one, shown where there is none; empty where most people need none.
    """

    title: str
    about: str
    kinds: tuple[Kind, ...]
    make: str = ""


SECTIONS = (
    Section(
        "Features",
        "What every feature of a dictionary promotes, and the text it fires on.",
        (
            Kind("extract", "Features", ("lens.safetensors", "catalog.sqlite"), (("features", "Features"),)),
            Kind("interpret", "Explanations of a table", ("catalog.sqlite",)),
        ),
        "onesense extract demo --max-tokens 50000",
    ),
    Section(
        "Less bias",
        "The features that carry gender bias, tuned by recipes, with the evidence.",
        (Kind("debias", "Recipes and report", ("result.json",), (("debias", "Report"),)),),
        "onesense debias demo",
    ),
    Section(
        "Audits",
        "Gender bias and ability of a model, with and without a recipe.",
        (Kind("audit", "Audit", ("audit.json",), (("audit", "Report"),)),),
        "onesense audit demo --suite quick",
    ),
    Section(
        "Senses",
        "How many senses features have, and how that goes with bias.",
        (
            Kind("senses measure", "Senses", ("senses/features.safetensors",), (("senses", "Senses"),)),
            Kind("senses validate", "Tests of the measure", ("validation.json",)),
            Kind("study", "Senses and bias", ("study.json",), (("study", "Report"),)),
        ),
        "onesense senses measure demo",
    ),
    Section(
        "Dictionaries", "Dictionaries that were trained here.", (Kind("sae train", "Trained dictionaries"),)
    ),
)
_OTHERS = Section("Others", "Runs that have no page of their own, or cannot be read.", ())


def described(known: KnownRun, sizes: RunSizes) -> dict[str, Any]:
    """A run as JSON values.

    Args:
        known: The run.
        sizes: Says how large it is.
    """
    kind = _kind(known.command)
    writing = read_progress(known.path)
    done = known.run is not None and _is_done(known, kind)
    if known.run is None:
        state = RunState.DAMAGED
    elif writing is not None:
        state = RunState.RUNNING
    else:
        state = RunState.FINISHED if done else RunState.STOPPED
    links = [{"title": name, "address": f"/runs/{known.id}/{end}"} for end, name in kind.links if done]
    if known.command == "debias" and done:
        links.append({"title": "Tune by hand", "address": f"/tune?run={known.id}"})
    return {
        "id": known.id,
        "name": known.path.name,
        "command": known.command,
        "shows": kind.shows,
        "model": model_of(known),
        "hook_points": _hook_points(known),
        "dictionary": known.fact("dictionary"),
        "sizes": sizes.of(known),
        "state": str(state),
        "problem": known.problem,
        "progress": None if writing is None else writing._asdict(),
        "links": links,
    }


def in_sections(runs: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Described runs in the sections of the page; sections that nobody has to fill are left out where empty."""
    runs = list(runs)
    known = {kind.command for section in SECTIONS for kind in section.kinds}
    sections = []
    for section in (*SECTIONS, _OTHERS):
        commands = [kind.command for kind in section.kinds]
        if commands:
            places = {command: place for place, command in enumerate(commands)}
            inside = _in_order([one for one in runs if one["command"] in places], places)
        else:
            inside = [one for one in runs if one["command"] not in known]
        if inside or section.make:
            told = {"title": section.title, "about": section.about, "make": section.make, "runs": inside}
            sections.append(told)
    return sections


def _in_order(runs: list[dict[str, Any]], places: Mapping[str, int]) -> list[dict[str, Any]]:
    """By command; what runs stands first, and what was stopped last."""
    return sorted(runs, key=lambda one: (places[one["command"]], _ORDER.index(one["state"])))


def model_of(known: KnownRun) -> str:
    """The name of the model that a run is of; empty where it does not say."""
    named = known.fact("model")
    if named or known.run is None:
        return named
    inputs = known.run.provenance.get("inputs")
    model = inputs.get("model") if isinstance(inputs, Mapping) else None
    return str(model.get("name", "")) if isinstance(model, Mapping) else ""


def _kind(command: str) -> Kind:
    kinds = (kind for section in SECTIONS for kind in section.kinds)
    return next((kind for kind in kinds if kind.command == command), Kind(command, ""))


def _is_done(known: KnownRun, kind: Kind) -> bool:
    wanted: Sequence[str] = kind.results
    if known.command == "extract" and known.run is not None and known.run.configuration.get("with_contexts"):
        wanted = (*wanted, "stats.safetensors")
    return all((known.path / name).exists() for name in wanted)


def _hook_points(known: KnownRun) -> list[str]:
    one = known.fact("hook_point")
    if one or known.run is None or known.command != "debias":
        return [one] if one else []
    inputs = known.run.provenance.get("inputs")
    read = inputs.get("dictionary") if isinstance(inputs, Mapping) else None
    names = map(str, read) if isinstance(read, Mapping) else ()
    return sorted(names, key=lambda name: (len(name), name))[:_MOST_POINTS]
