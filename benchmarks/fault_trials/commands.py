"""The commands that the faults strike, each with the smallest settings that it has."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.fault_trials.materials import Materials


@dataclass(frozen=True)
class Command:
    """One command of the command line.

    Attributes:
        name: What the table calls it.
        arguments: Its words; paths that it writes to are relative to the working folder.
        goes_on_from: The command whose finished folder it needs in place first.
        finished_folder: The folder that it refuses to write to a second time; such a result is checked by
            ``onesense verify`` (``verified``) or by whoever reads it.
        verified: Whether ``onesense verify`` knows the finished folder.
        takes_ray: Whether it can work on a Ray cluster.
    """

    name: str
    arguments: tuple[str, ...]
    goes_on_from: str | None = None
    finished_folder: str | None = None
    verified: bool = False
    takes_ray: bool = False

    def on_ray(self, address: str) -> Command:
        """The same command on a cluster."""
        return replace(self, arguments=(*self.arguments, "--ray", address))


def commands(made: Materials) -> dict[str, Command]:
    """Every command by name."""
    model, text = str(made.model), ("--text", str(made.text))
    dense, sparse = ("--sae-path", str(made.dictionary)), ("--sae-path", str(made.sparse))
    run = ("--run-folder", "run")
    listed = [
        Command(
            "extract",
            ("extract", model, *dense, *text, *run, "--output-file", "top.json", "--no-check", "--quiet"),
            takes_ray=True,
        ),
        Command(
            "senses measure",
            ("senses", "measure", model, *sparse, *text, *run, "--contexts", "16", "--beside", "neurons",
             "--no-check", "--quiet"),
            takes_ray=True,
        ),
        Command(
            "senses split",
            ("senses", "split", *run, *sparse, *text, "--to", "new", "--features", "3,7", "--quiet"),
            goes_on_from="senses measure",
            finished_folder="new",
        ),
        Command(
            "audit",
            ("audit", model, "--benchmark", "occupations-tune", "--benchmark", "kl", "--draws", "50",
             "--recipe", str(made.recipe), *run, "--quiet"),
            takes_ray=True,
        ),
        Command(
            "debias",
            ("debias", model, *dense, *run, "--budget", "0.01", "--templates", "1", "--steps", "1",
             "--max-features", "4", "--max-density", "1", "--controls", "none", "--suite", "quick",
             "--draws", "50", "--search", "gradient", "--no-check", "--quiet"),
            takes_ray=True,
        ),
        Command(
            "interpret",
            ("interpret", "--explainer", "lexical", *run, "--score", "detection,fuzz", *text,
             "--output-file", "explained.json"),
            goes_on_from="extract",
            takes_ray=True,
        ),
        Command(
            "steer",
            ("steer", model, *dense, "--feature-id", "3", "--coeff", "3", "--prompt", "Once", "--samples", "1",
             "--max-new-tokens", "3", "--greedy", "--output-file", "steered.json", "--save-recipe",
             "recipe.json"),
        ),
        Command(
            "tune",
            ("tune", model, *dense, "--set", "3=0.2", "--set", "5=0", "--output", "recipe.json", "--suite",
             "none"),
        ),
        Command(
            "export",
            ("export", str(made.recipe), "--to", "out", *text, "--steps", "1", "--rank", "2", "--quiet"),
            finished_folder="out",
            verified=True,
        ),
        Command(
            "sae train",
            ("sae", "train", model, "--hook-point", "blocks.1.hook_resid_post", *text, "--architecture", "topk",
             "--k", "8", "--d-sae", "48", "--visits", "8000", "--batch-size", "256", "--context-size", "64",
             *run, "--dtype", "float32", "--quiet"),
        ),
    ]  # fmt: skip
    return {command.name: command for command in listed}


def produced(folder: Path) -> list[Path]:
    """Every file below a working folder, in order."""
    return [path for path in sorted(folder.rglob("*")) if path.is_file() and not path.is_symlink()]
