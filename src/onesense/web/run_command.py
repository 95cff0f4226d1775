"""The command that makes a run again, or goes on with it, as far as the run can tell."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from onesense.errors import OnesenseError
from onesense.sae.load import parse_label
from onesense.text.corpus import SAMPLE
from onesense.web.report_links import recipe_of_hash
from onesense.web.run_summary import model_of
from onesense.web.workspace import KnownRun, Workspace

_DRAWS = 10_000
_STUDY_DRAWS = 2000
_BESIDE = {
    (): "none",
    ("neurons",): "neurons",
    ("residual basis",): "residual-basis",
    ("neurons", "residual basis"): "all",
}
_LONGEST = 4000


class Again(NamedTuple):
    """How a run is made again.

    Attributes:
        command: The line to type; empty where it cannot be told.
        missing: What has to be added by hand; nothing where the line is whole.
    """

    command: str = ""
    missing: tuple[str, ...] = ()


class _Line:
    """A command line in the making."""

    def __init__(self, known: KnownRun, workspace: Workspace) -> None:
        self.known, self.workspace = known, workspace
        run = known.open()
        self.values: Mapping[str, Any] = run.configuration
        self.inputs = _mapping(run.provenance.get("inputs"))
        self.seed = _mapping(run.provenance.get("seeds")).get("root")
        self.words: list[str] = []
        self.missing: list[str] = []

    def option(self, flag: str, value: Any, usual: Any = None) -> None:
        """A flag, unless it has its usual value."""
        if isinstance(value, bool):
            if value != bool(usual):
                self.words.append(flag)
        elif isinstance(value, int | float | str) and value != usual:
            self.words += [flag, str(value)]

    def dictionary(self, label: str) -> None:
        """Where a dictionary is."""
        try:
            named = parse_label(label)
        except (OnesenseError, OSError):  # the operating system has no such names
            self.missing.append(f"--sae-path, the folder of the dictionary ({label[:200]})")
            return
        if "path" in named:
            self.words += ["--sae-path", named["path"]]
        else:
            if named["release"] not in self.words:
                self.words += ["--sae-release", named["release"]]
            self.words += ["--sae-id", named["sae_id"]]

    def text(self) -> None:
        """What was read: a run keeps what a text was, not where it lies."""
        text = _mapping(self.inputs.get("text"))
        if text.get("name") not in (None, SAMPLE):
            self.words += ["--text", str(text["name"])]
        elif "sha256" in text:
            self.missing.append(f"--text, the text whose SHA-256 is {str(text['sha256'])[:12]}…")
        self.option("--text-field", self.values.get("text_field"), "text")

    def check(self) -> None:
        """Whether the dictionary was checked."""
        told = self.values.get("self_check")
        self.option("--no-check", told == "left out")
        self.option("--force", told == "failed, forced")


def command_again(known: KnownRun, workspace: Workspace) -> Again:
    """The command line of a run.

    Args:
        known: A run that can be read.
        workspace: Knows recipes and dictionaries by what they are made of.
    """
    made = _COMMANDS.get(known.command)
    model = model_of(known)
    if made is None or not model:
        return Again()
    line = _Line(known, workspace)
    made(line)
    line.option("--seed", line.seed, 0)
    subject = [] if known.command == "study" else [model]
    words = ["onesense", *known.command.split(), *subject, *line.words, "--run-folder", str(known.path)]
    command = shlex.join(words)
    return Again(command, tuple(line.missing)) if len(command) <= _LONGEST else Again()


def _extract(line: _Line) -> None:
    values = line.values
    line.dictionary(str(values.get("dictionary", "")))
    contexts = _mapping(values.get("contexts"))
    line.option("--max-tokens", contexts.get("max_tokens"))
    line.option("--top-contexts", contexts.get("top_k"), 20)
    line.option("--context-size", contexts.get("context_size"))
    line.option("--no-contexts", values.get("with_contexts") is False)
    line.option("--lens", values.get("lens"), "folded")
    line.option("--lens-dtype", values.get("lens_dtype"), "float32")
    line.option("--top-k", values.get("top_k"), 10)
    line.text()
    line.check()


def _senses(line: _Line) -> None:
    values = line.values
    line.dictionary(str(values.get("dictionary", "")))
    line.option("--max-tokens", values.get("tokens"))
    line.option("--contexts", values.get("contexts"), 128)
    others = values.get("others")
    beside = _BESIDE.get(tuple(map(str, others)) if isinstance(others, list) else ("?",))
    if beside is None:
        line.missing.append("--beside, what was measured beside the features")
    line.option("--beside", beside, "all")
    line.text()
    line.check()


def _debias(line: _Line) -> None:
    values, find, tune = line.values, _mapping(line.values.get("find")), _mapping(line.values.get("tune"))
    known = {one.fingerprint: one.label for one in line.workspace.dictionaries()}
    for hook_point, fingerprint in _mapping(line.inputs.get("dictionary")).items():
        if fingerprint in known:
            line.dictionary(known[fingerprint])
        else:
            line.missing.append(f"--sae-path, the folder of the dictionary at {str(hook_point)[:80]}")
    budgets = values.get("budgets")
    for budget in budgets if isinstance(budgets, list) else []:
        line.option("--budget", budget)
    line.option("--max-features", values.get("max_features"), 50)
    line.option("--templates", find.get("templates"), 6)
    line.option("--max-density", find.get("max_density"), 0.2)
    line.option("--text", find.get("text"))
    line.option("--thresholds", values.get("thresholds"), False)
    line.option("--steps", tune.get("steps"), 24)
    line.option("--learning-rate", tune.get("learning_rate"), 0.03)
    line.option("--search", values.get("search"))
    line.option("--trials", _mapping(values.get("trials")).get("trials"), 60)
    if values.get("senses"):
        line.missing.append("--senses, the runs of senses that features were screened with")


def _audit(line: _Line) -> None:
    values = line.values
    if isinstance(values.get("suite"), str):
        line.option("--suite", values["suite"], "standard")
    else:
        for key in _mapping(values.get("benchmarks")):
            line.option("--benchmark", key)
    recipes = _mapping(line.inputs.get("recipes"))
    for place, flag in (("0", "--against"), ("1", "--recipe")):
        content = recipes.get(place)
        if content is None:
            continue
        known = recipe_of_hash(line.workspace, str(content))
        if known is None:
            line.missing.append(f"{flag}, the recipe {str(content)[:12]}")
        else:
            line.words += [flag, str(known.path)]
    line.option("--draws", values.get("draws"), _DRAWS)
    line.option("--force", values.get("force"), False)


def _study(line: _Line) -> None:
    line.missing.append("--senses, the runs of senses that it relates")
    sizes = line.values.get("group_sizes")
    if isinstance(sizes, list):
        line.option("--groups", ",".join(map(str, sizes)) or "none", "10,25,50")
    line.option("--draws", line.values.get("draws"), _STUDY_DRAWS)
    line.text()


_COMMANDS: Mapping[str, Callable[[_Line], None]] = {
    "extract": _extract,
    "senses measure": _senses,
    "debias": _debias,
    "audit": _audit,
    "study": _study,
}


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
