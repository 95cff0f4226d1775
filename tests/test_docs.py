"""What the documentation promises exists: tests by name, commands, flags, make targets; README's commands run."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
BLOCK = re.compile(r"^```(?:console|bash|sh)?\n(.*?)^```", re.MULTILINE | re.DOTALL)


def commands(page: Path) -> list[str]:
    """Lines of the page's code blocks that are commands, continuation lines joined."""
    lines: list[str] = []
    for block in BLOCK.findall(page.read_text(encoding="utf-8")):
        joined = block.replace("\\\n", " ")
        lines += [
            re.split(r"\s#\s", line.removeprefix("$ "))[0].strip()
            for line in joined.splitlines()
            if line.removeprefix("$ ").startswith(("onesense ", "make ", "python -m "))
        ]
    return lines


def test_every_test_named_in_the_lessons_exists() -> None:
    named = re.findall(r"`([\w/]+\.py)::(\w+)`", (ROOT / "docs" / "lessons.md").read_text())
    assert len(named) >= 40
    for path, name in named:
        assert f"def {name}(" in (ROOT / "tests" / path).read_text(), f"{path}::{name}"


def test_every_command_in_the_documentation_exists() -> None:
    from typer.main import get_command

    from onesense.cli.main import app

    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    seen = 0
    for page in PAGES:
        for line in commands(page):
            words = shlex.split(line)
            if words[0] == "make":
                assert set(words[1:2]) <= targets, f"{page.name}: {line}"
            elif words[0] == "python":
                module = ROOT / Path(*words[2].split("."))
                assert module.with_suffix(".py").exists() or (module / "__main__.py").exists(), (
                    f"{page.name}: {line}"
                )
            else:
                command, rest = get_command(app), words[1:]
                while hasattr(command, "commands") and rest and rest[0] in command.commands:
                    command, rest = command.commands[rest[0]], rest[1:]
                flags = {
                    option
                    for parameter in command.params
                    for option in (*parameter.opts, *parameter.secondary_opts)
                }
                used = {word.split("=")[0].replace("_", "-") for word in rest if word.startswith("--")}
                assert used <= flags | {"--help"}, f"{page.name}: {line}"
            seen += 1
    assert seen >= 8


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("readme")


@pytest.mark.parametrize(
    "line", [line for line in commands(ROOT / "README.md") if line.startswith("onesense ")]
)
def test_readme_commands_run(line: str, folder: Path) -> None:
    words = [sys.executable, "-m", "onesense", *shlex.split(line)[1:]]
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
