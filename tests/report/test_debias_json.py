"""A result survives being written and read, and a damaged file says which field is wrong."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import pytest

from onesense.debias.results import DebiasResult, Interval
from onesense.errors import FormatError, IncompatibleError, NotFoundError
from onesense.report.debias_json import SCHEMA_VERSION, read_result, write_result
from report.debias_results import FRONT, RESULTS, control, proof, result


@pytest.mark.parametrize("made", RESULTS.values(), ids=RESULTS)
def test_what_is_written_is_read(tmp_path: Path, made: DebiasResult) -> None:
    path = tmp_path / "debias.json"
    digest = write_result(made, path)
    again = read_result(path)
    assert repr(again) == repr(made)  # as text: NaN equals itself
    assert write_result(again, path) == digest


def test_half_a_surrogate_pair_survives(tmp_path: Path) -> None:
    made = result(model="\ud800", notes=("\udfff",))
    write_result(made, tmp_path / "debias.json")
    assert read_result(tmp_path / "debias.json").notes == ("\udfff",)


def test_nan_and_infinity_are_null_and_come_back_as_nan(tmp_path: Path) -> None:
    point = dataclasses.replace(FRONT[0], kl=math.nan, spread=math.inf)
    undefined = control("recipe", "recipe", math.nan)
    made = result(front=(point,), chosen=0, proof=dataclasses.replace(proof(), controls=(undefined,)))
    write_result(made, tmp_path / "debias.json")
    written = json.loads((tmp_path / "debias.json").read_text())
    assert written["front"][0]["kl"] is None
    assert written["proof"]["controls"][0]["metrics"][0]["behind"] is None
    again = read_result(tmp_path / "debias.json")
    assert math.isnan(again.front[0].kl)
    assert math.isnan(again.front[0].spread)
    assert again.proof is not None
    metric = again.proof.controls[0].metrics[0]
    assert metric.behind is None
    assert isinstance(metric.reduction, Interval)
    assert math.isnan(metric.reduction.value)


def test_a_tuple_among_the_settings_comes_back_as_a_list(tmp_path: Path) -> None:
    write_result(result(settings={"depths": (9, 15), "none": None, "on": True}), tmp_path / "debias.json")
    assert read_result(tmp_path / "debias.json").settings == {"depths": [9, 15], "none": None, "on": True}


def _written(tmp_path: Path) -> tuple[Path, dict[str, Any]]:
    path = tmp_path / "debias.json"
    write_result(result(), path)
    return path, json.loads(path.read_text())


@pytest.mark.parametrize(
    ("where", "value", "message"),
    [
        (["model"], None, "model is null, and should be text"),
        (["chosen"], 1.5, "chosen is 1.5, and should be a whole number"),
        (["chosen"], 9, "chosen is 9, and the front has 4 points"),
        (["chosen"], -1, "chosen is -1"),
        (["splits"], "a", "splits is 'a', and should be a list"),
        (["splits", 1], 2, r"splits\[1\] is 2"),
        (["dictionaries"], [], r"dictionaries is \[\], and should be an object"),
        (["seconds", "find"], "long", r"seconds\.find is 'long'"),
        (["front", 0], 1, r"front\[0\] is 1, and should be an object"),
        (["candidates", 1, "prompts", 0], ["a"], r"prompts\[0\] has 1 entries, and should have 2"),
        (["edited", 1, "evidence", "bias"], "0.2", r"edited\[1\]\.evidence\.bias is '0\.2'"),
        (["proof", "controls", 2, "reached"], 1, r"controls\[2\]\.reached is 1, and should be true or false"),
        (["proof", "controls", 2, "surprise"], 1, r"controls\[2\]\.surprise is not a field"),
        (["proof", "null"], {"a/b": [0.5]}, r"proof\.null\.a/b has 1 entries"),
        (["audit", "benchmarks", 1, "metrics", 0, "verdict"], "good", r"audit\.benchmarks\[1\].*is 'good'"),
    ],
)
def test_a_damaged_field_is_named(tmp_path: Path, where: list[Any], value: Any, message: str) -> None:
    path, document = _written(tmp_path)
    inner: Any = document
    for key in where[:-1]:
        inner = inner[key]
    inner[where[-1]] = value
    path.write_text(json.dumps(document))
    with pytest.raises(FormatError, match=message):
        read_result(path)


def test_a_missing_field_is_named(tmp_path: Path) -> None:
    path, document = _written(tmp_path)
    del document["texts"][1]["after"]
    path.write_text(json.dumps(document))
    with pytest.raises(FormatError, match=r"texts\[1\]\.after is missing"):
        read_result(path)


@pytest.mark.parametrize("version", [SCHEMA_VERSION + 1, "1", True, 0])
def test_another_schema_is_refused(tmp_path: Path, version: object) -> None:
    path, document = _written(tmp_path)
    path.write_text(json.dumps(document | {"schema_version": version}))
    with pytest.raises(IncompatibleError, match="schema_version"):
        read_result(path)


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "3", "{}", '{"model": "x"}', f'{{"schema_version": {SCHEMA_VERSION}}}'],
)
def test_what_is_no_result_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "debias.json"
    path.write_text(content)
    with pytest.raises(FormatError, match=r"debias\.json"):
        read_result(path)
    with pytest.raises(NotFoundError):
        read_result(tmp_path / "nowhere.json")
