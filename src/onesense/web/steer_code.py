"""What the page did, as a command and as Python: both give the same text."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from onesense.sae.load import parse_label
from onesense.steer.edit import Edit, Unit
from onesense.steer.intervention import EditGroup
from onesense.steer.sampling import Sampling
from onesense.steer.where import Where
from onesense.web.workspace import KnownDictionary

_USUAL = Sampling()


@dataclass(frozen=True, slots=True)
class Steered:
    """What was made.

    Attributes:
        model: Name of the model.
        dictionaries: Whose features were edited.
        groups: The edits, in the order of the dictionaries.
        prompt: The text to go on from.
        samples: Texts on each side.
        max_new_tokens: Tokens of each text, at most.
        seed: Where the samples' noise comes from.
        sampling: How tokens are chosen.
        coefficients: Those of a sweep; empty for texts with and without the edits.
    """

    model: str
    dictionaries: Sequence[KnownDictionary]
    groups: Sequence[EditGroup]
    prompt: str
    samples: int
    max_new_tokens: int
    seed: int
    sampling: Sampling
    coefficients: Sequence[float] = ()

    @property
    def needs_recipe(self) -> bool:
        """Whether flags cannot say it: several dictionaries, another hook point, positions beyond a window."""
        return len(self.groups) > 1 or any(
            group.point != group.dictionary.hook_point
            or any(edit.where != Where(window=edit.where.window) for edit in group.edits)
            for group in self.groups
        )


def as_command(steered: Steered, *, recipe: Path | None, run: Path | None) -> str:
    """The line for a shell.

    Args:
        steered: What was made.
        recipe: The edits as a file, where flags cannot say them.
        run: A run of ``onesense extract`` that knows the largest activations; only for unit ``max``.
    """
    words = ["onesense", "steer", steered.model]
    if recipe is not None:
        words += ["--recipe", str(recipe)]
    for group, known in zip(steered.groups, steered.dictionaries, strict=True) if recipe is None else ():
        words += _dictionary_flags(known.label)
        words += [word for edit in group.edits for word in ("--edit", edit_flag(edit))]
        words += ["--stack"] if group.stack else []
        if run is not None and any(edit.unit is Unit.MAX for edit in group.edits):
            words += ["--run-folder", str(run)]
    if steered.coefficients:
        words += ["--sweep", ",".join(map(_number, steered.coefficients))]
    words += ["--prompt", steered.prompt, "--samples", str(steered.samples)]
    words += ["--max-new-tokens", str(steered.max_new_tokens), "--seed", str(steered.seed)]
    return shlex.join([*words, *_sampling_flags(steered.sampling)])


def as_python(steered: Steered) -> str:
    """A script that runs as it stands."""
    groups = [
        line
        for group, known in zip(steered.groups, steered.dictionaries, strict=True)
        for line in _group_lines(group, known)
    ]
    swept = bool(steered.coefficients)
    made = "sweep" if swept else "generate"
    lines = [
        *(["from onesense.model.hook_points import HookPoint"] if groups else []),
        "from onesense.model.load import load_model",
        *(["from onesense.sae.load import load_dictionary"] if groups else []),
        *(["from onesense.steer.edit import Edit, Operation, Unit"] if groups else []),
        f"from onesense.steer.generate import {made}",
        *(["from onesense.steer.intervention import EditGroup"] if groups else []),
        "from onesense.steer.sampling import Sampling",
        *(["from onesense.steer.where import Where, Window"] if groups else []),
        "",
        f"model = load_model({steered.model!r})",
        *(["edits = [", *groups, "]"] if groups else ["edits = []"]),
        f"made = {made}(",
        "    model,",
        f"    {steered.prompt!r},",
        "    edits,",
        *([f"    {[float(one) for one in steered.coefficients]!r},"] if swept else []),
        f"    sampling=Sampling({_chosen(steered.sampling)}),",
        f"    samples={steered.samples},",
        f"    max_new_tokens={steered.max_new_tokens},",
        f"    seed={steered.seed},",
        ")",
        *(_SHOW_SWEEP if swept else _SHOW),
        "",
    ]
    return "\n".join(lines)


_SHOW = (
    "for steered, unsteered in zip(made.steered, made.unsteered):",
    '    print("steered:", made.prompt + steered.text)',
    '    print("unsteered:", made.prompt + unsteered.text)',
)
_SHOW_SWEEP = (
    "for step in made.steps:",
    "    for sample in step.samples:",
    '        print(f"{step.coefficient:g}:", made.prompt + sample.text)',
)


def edit_flag(edit: Edit) -> str:
    """An edit as ``onesense steer --edit`` takes it, without what that does by itself."""
    parts = [
        str(edit.feature),
        str(edit.operation),
        "" if edit.value is None else _number(edit.value),
        "" if edit.unit is Unit.RAW else str(edit.unit),
        "" if edit.where.window == Where().window else str(edit.where.window),
    ]
    return ":".join(parts).rstrip(":")


def _sampling_flags(sampling: Sampling) -> list[str]:
    """Always with the temperature: the environment may hold another."""
    flags = ["--temperature", _number(sampling.temperature)] if sampling.do_sample else ["--greedy"]
    for name in ("top_k", "top_p", "min_p", "repetition_penalty"):
        value = getattr(sampling, name)
        if value != getattr(_USUAL, name):
            flags += [f"--{name.replace('_', '-')}", _number(value)]
    return flags


def _number(value: float) -> str:
    """The shortest spelling that is read as the same number."""
    short = f"{value:g}"
    return short if float(short) == value else repr(value)


def _chosen(sampling: Sampling) -> str:
    values = {name: getattr(sampling, name) for name in type(sampling).model_fields}
    return ", ".join(f"{name}={value!r}" for name, value in values.items() if value != getattr(_USUAL, name))


def _group_lines(group: EditGroup, known: KnownDictionary) -> list[str]:
    named = ", ".join(f"{name}={value!r}" for name, value in parse_label(known.label).items())
    numbers = []
    if group.mean_norm is not None:
        numbers.append(f"        mean_norm={group.mean_norm!r},")
    if group.max_activation:
        numbers.append(f"        max_activation={dict(group.max_activation)!r},")
    return [
        "    EditGroup(",
        f"        load_dictionary({named}),",
        "        [",
        *(_edit_line(edit) for edit in group.edits),
        "        ],",
        f"        HookPoint.parse({group.point.name!r}),",
        *numbers,
        *(["        stack=True,"] if group.stack else []),
        "    ),",
    ]


def _edit_line(edit: Edit) -> str:
    where = edit.where
    place = [f"window=Window.{where.window.name}"]
    place += [
        f"{name}={getattr(where, name)!r}" for name in ("first", "last", "special") if getattr(where, name)
    ]
    return (
        f"            Edit(feature={edit.feature}, operation=Operation.{edit.operation.name}, "
        f"value={edit.value!r}, unit=Unit.{edit.unit.name}, where=Where({', '.join(place)})),"
    )


def _dictionary_flags(label: str) -> list[str]:
    named = parse_label(label)
    if "path" in named:
        return ["--sae-path", named["path"]]
    return ["--sae-release", named["release"], "--sae-id", named["sae_id"]]
