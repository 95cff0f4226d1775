"""Runs, dictionaries and recipes by names that are safe in an address."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onesense.errors import ConfigurationError, NotFoundError
from onesense.steer.recipe import ModelReference, Recipe
from onesense.store.run_folder import RunFolder
from onesense.web.workspace import Workspace

RECIPE = Recipe(model=ModelReference(name="demo", fingerprint="0" * 64))


def make_run(path: Path, command: str = "extract") -> Path:
    RunFolder.create_or_resume(path, command=command, configuration={"model": "demo"}, provenance={})
    return path


@pytest.mark.parametrize(
    "name", ["<script>alert(1)<script>", "a b", "..x", "日本", "x" * 200, "a\nb", "\u202egpj"]
)
def test_any_folder_has_a_safe_id(tmp_path: Path, name: str) -> None:
    make_run(tmp_path / "plain")
    make_run(tmp_path / name)
    runs = Workspace([tmp_path], tmp_path).runs()
    assert len({one.id for one in runs}) == 2
    for one in runs:
        assert re.fullmatch(r"[a-z0-9-]{1,90}", one.id)
        assert Workspace([tmp_path], tmp_path).run(one.id).path == one.path


def test_two_folders_of_one_name_are_told_apart(tmp_path: Path) -> None:
    for parent in ("a", "b"):
        make_run(tmp_path / parent / "demo")
    workspace = Workspace([tmp_path / "a", tmp_path / "b"], tmp_path / "store")
    assert [one.id for one in workspace.runs()] == ["demo", "demo-2"]
    assert workspace.run("demo-2").path == tmp_path / "b" / "demo"


def test_a_run_that_is_named_twice_is_there_once(tmp_path: Path) -> None:
    run = make_run(tmp_path / "demo")
    (tmp_path / "link").symlink_to(run)
    assert len(Workspace([run, tmp_path, run], tmp_path).runs()) == 1


def test_what_cannot_be_read_says_why(tmp_path: Path) -> None:
    for name, text in {"broken": "{", "list": "[]", "newer": json.dumps({"schema_version": 999})}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "run.json").write_text(text)
    workspace = Workspace([tmp_path], tmp_path)
    assert [bool(one.problem) for one in workspace.runs()] == [True, True, True]
    with pytest.raises(NotFoundError):
        workspace.run("broken")


def test_a_run_that_went_away_is_told(tmp_path: Path) -> None:
    workspace = Workspace([tmp_path], tmp_path)
    make_run(tmp_path / "demo")
    known = workspace.run("demo")
    shutil.rmtree(known.path)
    with pytest.raises(NotFoundError):
        known.open()
    with pytest.raises(NotFoundError):
        workspace.run("demo")


def test_a_run_of_another_command_has_no_such_page(tmp_path: Path) -> None:
    make_run(tmp_path / "demo", "audit")
    with pytest.raises(NotFoundError, match="audit"):
        Workspace([tmp_path], tmp_path).run("demo", "extract")


@given(st.text(max_size=80))
def test_a_recipe_is_saved_inside_its_folder_or_not_at_all(
    tmp_path_factory: pytest.TempPathFactory, name: str
) -> None:
    store = tmp_path_factory.mktemp("store")
    workspace = Workspace([], store)
    try:
        known = workspace.save_recipe(name, RECIPE)
    except ConfigurationError:
        assert not list(store.rglob("*.json"))
        return
    assert known.path.resolve().parent == (store / "recipes").resolve()
    assert workspace.recipe(known.id).read() == RECIPE


def test_a_recipe_is_never_written_over(tmp_path: Path) -> None:
    workspace = Workspace([], tmp_path)
    workspace.save_recipe("mine", RECIPE)
    for name in ("mine", "Mine", "MINE"):
        with pytest.raises(ConfigurationError, match="already"):
            workspace.save_recipe(name, RECIPE)


@pytest.mark.parametrize(
    "name", ["../x", "a/b", "a\\b", "", ".", "..", "x" * 61, "a\0b", "ü", "a.", "a ", "-a"]
)
def test_names_that_a_recipe_cannot_have(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigurationError):
        Workspace([], tmp_path).save_recipe(name, RECIPE)


def test_dictionaries_go_by_their_fingerprint(demo_run: Path) -> None:
    workspace = Workspace([demo_run], demo_run)
    (known,) = workspace.dictionaries()
    assert known.fingerprint.startswith(known.key)
    assert workspace.dictionary(known.key) == known
    assert known.extract == ("demo",)
    with pytest.raises(NotFoundError):
        workspace.dictionary("0" * 12)
