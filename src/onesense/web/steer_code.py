"""What the page did, as a command and as Python: both give the same text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from onesense.steer.intervention import EditGroup
from onesense.web.edits import EditRequest, command_line, edit_flag
from onesense.web.workspace import KnownDictionary

_RECIPE_FILE = "recipe.json"
_USUAL: dict[str, Any] = {
    "do_sample": True,
    "temperature": 1.0,
    "top_k": None,
    "top_p": None,
    "min_p": None,
    "repetition_penalty": 1.0,
}


def as_command(
    model: str,
    edits: Sequence[EditRequest],
    dictionaries: Sequence[KnownDictionary],
    run_folder: str,
    asked: dict[str, Any],
    sampling: dict[str, Any],
) -> str:
    """The line for a shell.

    Args:
        model: Name of the model.
        edits: The edits that are on.
        dictionaries: Their dictionaries.
        run_folder: A run with the largest activations of the dictionary; empty where there is none.
        asked: Prompt, samples, new tokens, seed.
        sampling: How tokens are chosen.
    """
    words = ["onesense", "steer", model]
    plain = all(edit.first is None and edit.last is None and not edit.special for edit in edits)
    if len(dictionaries) == 1 and plain:
        words += _dictionary_flags(dictionaries[0].label)
        for edit in edits:
            words += ["--edit", edit_flag(edit)]
        if run_folder and any(edit.unit == "max" for edit in edits):
            words += ["--run-folder", run_folder]
    else:
        words += ["--recipe", _RECIPE_FILE]
    words += ["--prompt", asked["prompt"], "--samples", str(asked["samples"])]
    words += ["--max-new-tokens", str(asked["max_new_tokens"]), "--seed", str(asked["seed"])]
    words += [] if sampling["do_sample"] else ["--greedy"]
    for name, usual in _USUAL.items():
        value = sampling[name]
        if name != "do_sample" and value != usual and (sampling["do_sample"] or name == "repetition_penalty"):
            words += [f"--{name.replace('_', '-')}", f"{value:.9g}"]
    return command_line(words)


def as_python(
    model: str,
    groups: Sequence[EditGroup],
    dictionaries: Sequence[KnownDictionary],
    asked: dict[str, Any],
    sampling: dict[str, Any],
) -> str:
    """A script that runs as it stands.

    Args:
        model: Name of the model.
        groups: The edits, in the order of the dictionaries.
        dictionaries: Their dictionaries.
        asked: Prompt, samples, new tokens, seed.
        sampling: How tokens are chosen.
    """
    chosen = {name: value for name, value in sampling.items() if value != _USUAL.get(name)}
    lines = [
        "from onesense.model.hook_points import HookPoint",
        "from onesense.model.load import load_model",
        "from onesense.sae.load import load_labelled",
        "from onesense.steer.edit import Edit, Operation, Unit",
        "from onesense.steer.generate import generate",
        "from onesense.steer.intervention import EditGroup",
        "from onesense.steer.sampling import Sampling",
        "from onesense.steer.where import Where, Window",
        "",
        f"model = load_model({model!r})",
        "edits = [",
        *(
            line
            for group, known in zip(groups, dictionaries, strict=True)
            for line in _group_lines(group, known)
        ),
        "]",
        f"sampling = Sampling({', '.join(f'{name}={value!r}' for name, value in chosen.items())})",
        "made = generate(",
        f"    model, {asked['prompt']!r}, edits, sampling=sampling, samples={asked['samples']}, "
        f"max_new_tokens={asked['max_new_tokens']}, seed={asked['seed']}",
        ")",
        "for steered, unsteered in zip(made.steered, made.unsteered):",
        '    print("steered:", steered.text)',
        '    print("unsteered:", unsteered.text)',
        "",
    ]
    return "\n".join(lines)


def _group_lines(group: EditGroup, known: KnownDictionary) -> list[str]:
    lines = ["    EditGroup(", f"        load_labelled({known.label!r}),", "        ["]
    for edit in group.edits:
        where = edit.where
        place = [f"window=Window.{where.window.name}"]
        place += [f"{name}={getattr(where, name)!r}" for name in ("first", "last") if getattr(where, name)]
        place += ["special=True"] if where.special else []
        lines.append(
            f"            Edit(feature={edit.feature}, operation=Operation.{edit.operation.name}, "
            f"value={edit.value!r}, unit=Unit.{edit.unit.name}, where=Where({', '.join(place)})),"
        )
    return [
        *lines,
        "        ],",
        f"        HookPoint.parse({known.hook_point!r}),",
        f"        mean_norm={group.mean_norm!r},",
        f"        max_activation={dict(group.max_activation)!r},",
        "    ),",
    ]


def _dictionary_flags(label: str) -> list[str]:
    release, slash, sae_id = label.partition("/")
    if slash and release:
        return ["--sae-release", release, "--sae-id", sae_id]
    return ["--sae-path", label]
