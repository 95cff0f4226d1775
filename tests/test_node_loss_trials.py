"""Trials that lose a node: which are drawn, what strikes, and what is counted, without the commands themselves."""

from __future__ import annotations

import os
import random
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import pytest

from benchmarks.fault_trials.children import Ended
from benchmarks.fault_trials.commands import Command, commands
from benchmarks.fault_trials.materials import materials_in
from benchmarks.fault_trials.nodes import Nodes, at_answer, tell_answers
from benchmarks.fault_trials.snapshot import snapshot
from benchmarks.fault_trials.striking import NODE_LOST, Scene, Struck, Undisturbed
from benchmarks.fault_trials.trial import strike_and_resume
from benchmarks.faults import draw
from onesense.engine.ray_cluster import Cluster
from onesense.store.atomic import write_json


def test_other_trials_are_the_same_with_and_without_lost_nodes() -> None:
    names, faults = ["a", "b", "c"], ["kill", "full"]
    without = draw(100, 0, names, faults)
    drawn = draw(100, 0, names, faults, on_ray=["a", "b"])
    losses = [pair for pair in drawn if pair[1] == NODE_LOST]
    assert drawn == without[:75] + losses
    assert losses.count(("a", NODE_LOST)) in (12, 13)
    assert draw(3, 0, names, [], on_ray=["a"]) == [("a", NODE_LOST)] * 3


def test_commands_that_have_ray_say_so(tmp_path: Path) -> None:
    known = commands(materials_in(tmp_path))
    assert [name for name, one in known.items() if one.takes_ray] == [
        "extract",
        "senses measure",
        "audit",
        "debias",
        "interpret",
    ]
    assert known["audit"].on_ray("here:1").arguments[-2:] == ("--ray", "here:1")


def test_a_node_is_lost_when_a_child_or_the_parent_asks(tmp_path: Path) -> None:
    with closing(Nodes(tmp_path / "log")) as nodes:
        raylets = _raylets(nodes.address)
        assert len(raylets) == 3
        assert nodes.lost() == 0
        nodes.lose(1)
        assert nodes.lost() == 1
        assert len(_raylets(nodes.address)) == 2
    assert not _raylets(nodes.address)


def _raylets(address: str) -> list[str]:
    found = []
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = process.read_bytes().decode(errors="replace")
        except OSError:  # it ended meanwhile
            continue
        if words.split("\0")[0].endswith("/raylet") and f"={address}\0" in words:
            found.append(process.parent.name)
    return found


def test_a_node_is_lost_before_the_answer_that_was_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetched: list[int] = []
    monkeypatch.setattr(Cluster, "fetch", lambda _self, number: fetched.append(number))
    tell_answers(str(tmp_path / "answers"))
    at_answer(3, lambda: fetched.append(-1))
    cluster = object.__new__(Cluster)
    for number in (1, 2, 3, 4):
        cluster.fetch(number)
    assert fetched == [1, 2, -1, 3, 4]
    assert (tmp_path / "answers").read_text() == "4"


@pytest.mark.parametrize(
    ("code", "nodes_lost", "outcome", "runs"),
    [(0, 1, "went on", 0), (8, 1, "resumed", 1), (0, 0, "missed", 0)],
)
def test_what_became_of_the_command_is_counted(
    tmp_path: Path, code: int, nodes_lost: int, outcome: str, runs: int
) -> None:
    scene = _scene(tmp_path)
    verdict = strike_and_resume(scene, NODE_LOST, _struck(code, nodes_lost), lambda _name: None)
    assert (verdict.outcome, scene.runs, verdict.sound) == (outcome, runs, True)


def test_a_result_that_differs_without_the_node_is_wrong(tmp_path: Path) -> None:
    scene = _scene(tmp_path)
    write_json(scene.folder / "a.json", {"x": 2})
    verdict = strike_and_resume(scene, NODE_LOST, _struck(0, 1), lambda _name: None)
    assert (verdict.wrong, verdict.sound) == (["a.json"], False)


class _Scene(Scene):
    """Runs nothing, and counts how often."""

    runs = 0

    def start(self, *_: object, **__: object) -> SimpleNamespace:  # type: ignore[override]
        self.runs += 1
        return SimpleNamespace(wait=lambda: Ended(0, "", 0.0))


def _scene(tmp_path: Path) -> _Scene:
    folder = tmp_path / "work"
    os.mkdir(folder)
    write_json(folder / "a.json", {"x": 1})
    usual = Undisturbed(1.0, 1, 1, snapshot(folder), {})
    return _Scene(Command("extract", ()), folder, tmp_path / "log", random.Random(0), usual)


def _struck(code: int, nodes_lost: int):
    return lambda _scene: Struck("struck", (Ended(code, "", 1.0),), nodes_lost=nodes_lost)
