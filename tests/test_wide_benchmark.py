"""What the figures of ``benchmarks.wide`` are made of."""

import json

import pytest

from benchmarks import cuda, wide
from benchmarks.wide import growth

ROWS = [
    {
        "features": 10.0**power,
        "load": 0.1 * 10**power,
        "logit": 2.0 * 10**power,
        "contexts": 50.0,
        "catalogue": 10.0 ** (2 * power),
        "own_gigabytes": 1.0,
        "resident_gigabytes": 2.0,
        "page_gigabytes": 0.5,
        "run_gigabytes": 1.0 * 10**power,
    }
    for power in (1, 2, 3)
]


@pytest.mark.parametrize(("name", "exponent"), [("logit", 1), ("contexts", 0), ("catalogue", 2)])
def test_growth_is_the_exponent(name, exponent) -> None:
    assert growth(ROWS, name) == pytest.approx(exponent)


def test_rows_of_earlier_runs_are_drawn_together(tmp_path, capsys) -> None:
    paths = []
    for number, row in enumerate(reversed(ROWS)):
        paths.append(tmp_path / f"{number}.json")
        paths[-1].write_text(json.dumps({"rows": [row]}))
    wide.main(["--rows", *map(str, paths), "--figure", str(tmp_path / "wide.png")])
    assert (tmp_path / "wide.png").read_bytes()[1:4] == b"PNG"
    answer = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert answer["rows"] == ROWS
    assert answer["growth"]["logit"] == pytest.approx(1)


def test_a_dictionary_fires_about_as_often_as_it_says(tmp_path) -> None:
    wide.make_dictionary(tmp_path / "dictionary", 2_000)
    row = wide.extracted(tmp_path / "dictionary", tmp_path / "run", 500)
    assert 0.3 * wide.L0 < row["l0"] < 3 * wide.L0
    assert {"load", "logit", "contexts", "catalogue"} <= set(row)


def test_without_tokens_the_lens_is_measured_alone(tmp_path) -> None:
    wide.make_dictionary(tmp_path / "dictionary", 2_000)
    row = wide.extracted(tmp_path / "dictionary", tmp_path / "run", 0)
    assert row["logit"] > 0
    assert not {"contexts", "l0"} & set(row)


def test_the_benchmark_of_a_gpu_measures_what_it_says(capsys) -> None:
    cuda.main(["--quick", "--device", "cpu"])
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (told["features"], told["tokens"], told["device"]) == (4_096, 4_096, "cpu")
    assert told["tokens_per_second"] == pytest.approx(4_096 / told["seconds"]["Contexts"])
    assert 0.3 * wide.L0 < told["l0"] < 3 * wide.L0
