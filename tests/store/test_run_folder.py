import json
import os

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onesense.errors import (
    FormatError,
    IncompatibleError,
    LockedError,
    NotFoundError,
    NumericalError,
    OnesenseError,
    StorageError,
)
from onesense.store import atomic
from onesense.store.provenance import provenance
from onesense.store.run_folder import RunFolder
from onesense.store.schema import SCHEMA_VERSION

CONFIGURATION = {"model_name": "demo", "layer": 8, "lens": {"k": 10}}


def start(path, command="extract", configuration=None, **inputs):
    return RunFolder.create_or_resume(
        path,
        command=command,
        configuration=CONFIGURATION if configuration is None else configuration,
        provenance=provenance(**{"model": "m" * 64, "seeds": 1, **inputs}),
    )


@pytest.fixture
def run(tmp_path):
    return start(tmp_path / "ein Lauf ü")


def test_the_same_command_goes_on_and_changes_nothing(run):
    before = (run.path / "run.json").read_bytes()
    assert start(run.path) == run == RunFolder.open(run.path)
    assert (run.path / "run.json").read_bytes() == before


def test_two_folders_of_one_configuration_hold_the_same_bytes(tmp_path, run):
    other = start(tmp_path / "other", configuration=dict(reversed(CONFIGURATION.items())))
    assert (other.path / "run.json").read_bytes() == (run.path / "run.json").read_bytes()


def test_other_versions_of_packages_do_not_forbid_a_resume(run):
    RunFolder.create_or_resume(
        run.path,
        command="extract",
        configuration=CONFIGURATION,
        provenance={**run.provenance, "software": {"python": "3.99"}},
    )


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"command": "steer"}, "command: extract there, steer now"),
        ({"configuration": {**CONFIGURATION, "layer": 9}}, "layer: 8 there, 9 now"),
        ({"configuration": {**CONFIGURATION, "lens": {"k": 5}}}, "lens.k: 10 there, 5 now"),
        ({"configuration": {**CONFIGURATION, "new": "Ġ"}}, 'new: null there, "Ġ" now'),
        ({"model": "n" * 64}, "inputs.model.sha256"),
        ({"text": "t"}, "inputs.text"),
        ({"seeds": 2}, "seeds.root: 1 there, 2 now"),
    ],
)
def test_another_run_is_refused_by_what_differs(run, change, expected):
    before = (run.path / "run.json").read_bytes()
    with pytest.raises(IncompatibleError) as caught:
        start(run.path, **change)
    assert expected in caught.value.message
    assert len(caught.value.message.splitlines()) == 2
    assert "--run-folder" in caught.value.hint
    assert (run.path / "run.json").read_bytes() == before


def test_a_folder_with_other_files_is_not_taken_over(tmp_path):
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(IncompatibleError, match=r"thesis\.tex"):
        start(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_an_empty_folder_is(tmp_path):
    assert start(tmp_path).path == tmp_path


def test_nan_in_the_configuration(tmp_path):
    with pytest.raises(NumericalError):
        start(tmp_path / "run", configuration={"coeff": float("nan")})
    assert not (tmp_path / "run" / "run.json").exists()


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "{}", '{"schema_version": 1}', '{"schema_version": "1"}', "null"]
)
def test_a_damaged_description(run, content):
    (run.path / "run.json").write_text(content)
    for use in (RunFolder.open, start):
        with pytest.raises(FormatError, match=r"run\.json"):
            use(run.path)


def test_a_description_that_was_edited(run):
    found = json.loads((run.path / "run.json").read_text())
    found["configuration"]["layer"] = 9
    (run.path / "run.json").write_text(json.dumps(found))
    with pytest.raises(FormatError, match="changed"):
        RunFolder.open(run.path)


def test_a_newer_schema(run):
    found = json.loads((run.path / "run.json").read_text())
    found["schema_version"] = SCHEMA_VERSION + 1
    (run.path / "run.json").write_text(json.dumps(found))
    for use in (RunFolder.open, start):
        with pytest.raises(IncompatibleError, match="newer"):
            use(run.path)


def test_no_run_there(tmp_path):
    with pytest.raises(NotFoundError, match="not a run folder"):
        RunFolder.open(tmp_path / "nowhere")
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize("name", ["n" * 300, "nul\0"])
def test_names_that_cannot_be(tmp_path, name):
    with pytest.raises((StorageError, NotFoundError)):
        RunFolder.open(tmp_path / name)
    with pytest.raises(StorageError):
        start(tmp_path / name)


def test_a_file_in_place_of_the_folder(tmp_path):
    (tmp_path / "run").write_text("x")
    with pytest.raises(StorageError):
        start(tmp_path / "run")


def test_readers_look_on_while_a_writer_writes(run):
    with run.lock():
        run.write_result("lens", {"a": np.ones(2)})
        assert RunFolder.open(run.path).read_result("lens")["a"].sum() == 2
        with pytest.raises(LockedError, match=str(os.getpid())):
            start(run.path)


def test_a_link_to_a_run(run, tmp_path):
    (tmp_path / "link").symlink_to(run.path)
    assert start(tmp_path / "link").fingerprint == run.fingerprint


@given(values=st.lists(st.floats(allow_nan=False), max_size=8))
def test_shards_come_back(tmp_path_factory, values):
    run = start(tmp_path_factory.getbasetemp() / "shards")
    run.write_shard(3, {"a": np.array(values)})
    assert run.shard_done(3)
    np.testing.assert_array_equal(run.read_shard(3)["a"], values)


def spoil_nothing_written(block, sidecar):
    block.unlink()
    sidecar.unlink()


def spoil_killed_before_the_sidecar(block, sidecar):
    sidecar.unlink()


def spoil_block_lost(block, sidecar):
    block.unlink()


def spoil_block_truncated(block, sidecar):
    block.write_bytes(block.read_bytes()[:-1])


def spoil_bit_flipped(block, sidecar):
    raw = bytearray(block.read_bytes())
    raw[-1] ^= 1
    block.write_bytes(raw)


def spoil_block_empty(block, sidecar):
    block.write_bytes(b"")


def spoil_sidecar_broken(block, sidecar):
    sidecar.write_text('{"sha256": ')


def spoil_sidecar_of_another_kind(block, sidecar):
    sidecar.write_text("[]")


def spoil_of_another_run(block, sidecar):
    sidecar.write_text(json.dumps({**json.loads(sidecar.read_text()), "run": "0" * 64}))


SPOILERS = [value for name, value in sorted(globals().items()) if name.startswith("spoil_")]


@pytest.mark.parametrize("spoil", SPOILERS, ids=lambda spoil: spoil.__name__)
def test_a_shard_that_is_not_whole_is_done_again(run, spoil):
    run.write_shard(0, {"a": np.ones(3)})
    partials = run.path / "partials"
    spoil(partials / "shard-0000.safetensors", partials / "shard-0000.json")
    assert not run.shard_done(0)
    assert run.read_shard(0) is None
    run.write_shard(0, {"a": np.ones(3)})
    assert run.read_shard(0)["a"].sum() == 3


def test_partials_can_be_cleared_twice_and_results_stay(run):
    run.write_shard(0, {"a": np.ones(3)})
    run.write_result("lens", {"a": np.ones(3)})
    run.clear_partials()
    run.clear_partials()
    assert run.read_shard(0) is None
    assert run.results() == ["lens"]


def test_results(run):
    assert not run.has_result("lens")
    run.write_result("lens", {"a": np.arange(3)}, {"convention": "folded"})
    run.write_result("contexts/block-0000", {"b": np.arange(2)})
    run.write_shard(0, {"c": np.ones(1)})
    assert run.results() == ["contexts/block-0000", "lens"]
    np.testing.assert_array_equal(run.read_result("contexts/block-0000")["b"], [0, 1])


def test_a_missing_result_names_those_there_are(run):
    run.write_result("lens", {"a": np.arange(3)})
    with pytest.raises(NotFoundError) as caught:
        run.read_result("stats")
    assert "lens" in caught.value.hint


def test_a_damaged_result(run):
    path = run.write_result("lens", {"a": np.arange(3)})
    raw = bytearray(path.read_bytes())
    raw[-3] ^= 4
    path.write_bytes(raw)
    with pytest.raises(FormatError, match="lens"):
        run.read_result("lens")


@pytest.mark.parametrize(
    "name",
    ["../lens", "/etc/passwd", "a/b/c", "", ".", "..", "a\\b", "a\0", "a%2e%2e", "A", "a\n", "x" * 300],
)
def test_names_stay_inside_the_folder(run, name):
    for use in (run.read_result, run.has_result, lambda name: run.write_result(name, {})):
        with pytest.raises(NotFoundError, match="not the name"):
            use(name)


def test_taking_the_lock_clears_away_what_a_killed_writer_left(run):
    (run.path / "partials").mkdir()
    left = [run.path / ".0-1.onesense-tmp", run.path / "partials" / ".0-2.onesense-tmp"]
    for path in left:
        path.write_bytes(b"half")
    with run.lock():
        assert not any(path.exists() for path in left)


def test_a_full_disk_keeps_what_was_done(run, monkeypatch):
    run.write_shard(0, {"a": np.ones(3)})

    def fail(*arguments):
        raise OSError(28, "no space")

    with monkeypatch.context() as patch:
        patch.setattr(atomic.os, "write", fail)
        with pytest.raises(StorageError, match="shard-0001"):
            run.write_shard(1, {"a": np.ones(3)})
    assert [run.shard_done(index) for index in (0, 1)] == [True, False]
    assert sorted(path.name for path in (run.path / "partials").iterdir()) == [
        "shard-0000.json",
        "shard-0000.safetensors",
    ]


def test_no_bit_of_the_description_changes_unseen(run):
    whole = (run.path / "run.json").read_bytes()
    for at in range(0, len(whole), 3):
        changed = bytearray(whole)
        changed[at] ^= 1 << at % 8
        (run.path / "run.json").write_bytes(changed)
        told = []
        try:
            found = RunFolder.open(run.path)
        except OnesenseError as error:
            told.append(error)
        # What is not told has changed nothing, such as a blank between two values.
        assert told or found == run
        assert all(isinstance(error, IncompatibleError) or str(run.path) in str(error.hint) for error in told)


def test_a_description_of_an_older_onesense_has_no_seal(run):
    found = json.loads((run.path / "run.json").read_text())
    del found["sha256"]
    (run.path / "run.json").write_text(json.dumps(found))
    assert RunFolder.open(run.path) == run
