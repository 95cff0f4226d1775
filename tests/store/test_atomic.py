import errno
import json
import os
import signal
import stat
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onesense.errors import ConfigurationError, FormatError, NotFoundError, NumericalError, StorageError
from onesense.store import atomic
from onesense.store.atomic import (
    TEMPORARY_SUFFIX,
    atomic_folder,
    atomic_path,
    read_json,
    remove_leftovers,
    write_bytes,
    write_json,
    write_tensors,
    write_text,
)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_the_target_appears_with_its_content_and_nothing_else(tmp_path):
    with atomic_path(tmp_path / "a.txt") as temporary:
        assert temporary.parent == tmp_path
        assert not (tmp_path / "a.txt").exists()
        temporary.write_text("new")
    assert (tmp_path / "a.txt").read_text() == "new"
    assert names(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_content_is_on_the_disk_before_the_name_and_the_name_before_the_return(tmp_path, monkeypatch, kind):
    calls = []

    def watch(name):
        original = getattr(os, name)

        def call(first, *rest):
            path = os.readlink(f"/proc/self/fd/{first}") if isinstance(first, int) else str(first)
            calls.append((name, os.path.basename(path)))
            return original(first, *rest)

        monkeypatch.setattr(atomic.os, name, call)

    for name in ("fsync", "replace", "rename"):
        watch(name)
    if kind == "file":
        write_text(tmp_path / "out", "x")
    else:
        with atomic_folder(tmp_path / "out") as temporary:
            (temporary / "inner").write_text("x")
    renames = [number for number, (name, _) in enumerate(calls) if name != "fsync"]
    assert len(renames) == 1
    before, after = calls[: renames[0]], calls[renames[0] + 1 :]
    assert [path for _, path in before][:1] == [calls[renames[0]][1] if kind == "file" else "inner"]
    assert ("fsync", calls[renames[0]][1]) in before
    assert after == [("fsync", tmp_path.name)]


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, GeneratorExit, RuntimeError])
def test_whatever_is_raised_the_target_is_unchanged_and_the_temporary_gone(tmp_path, error):
    target = tmp_path / "a.txt"
    target.write_text("old")

    def interrupted():
        with atomic_path(target) as temporary:
            temporary.write_text("half")
            raise error

    with pytest.raises(error):
        interrupted()
    assert target.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("call", ["open", "write", "fsync", "replace"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EIO])
def test_a_failing_disk_is_named_and_leaves_the_target_alone(tmp_path, monkeypatch, call, code):
    target = tmp_path / "ein Ordner" / "größe.json"
    write_text(target, "old")

    def fail(*arguments, **keywords):
        raise OSError(code, os.strerror(code), str(arguments[0]))

    with monkeypatch.context() as patch:
        patch.setattr(atomic.os, call, fail)
        with pytest.raises(StorageError) as caught:
            write_text(target, "new")
    assert str(target) in caught.value.message
    assert TEMPORARY_SUFFIX not in str(caught.value)
    assert caught.value.hint
    assert target.read_text() == "old"
    assert names(target.parent) == [target.name]


def test_a_full_disk_says_how_much_is_needed(tmp_path, monkeypatch):
    def fail(*arguments):
        raise OSError(errno.ENOSPC, "no space")

    monkeypatch.setattr(atomic.os, "write", fail)
    with pytest.raises(StorageError, match=r"needs 8,\d\d\d bytes"):
        write_tensors(tmp_path / "a.safetensors", {"a": np.zeros(1000)})
    assert names(tmp_path) == []


def test_a_write_that_takes_only_a_part_is_continued(tmp_path, monkeypatch):
    whole = os.write
    monkeypatch.setattr(atomic.os, "write", lambda file, data: whole(file, data[:3]))
    write_bytes(tmp_path / "a", [b"0123456789", b"", b"ab"])
    assert (tmp_path / "a").read_bytes() == b"0123456789ab"


def test_a_limit_of_the_operating_system_itself(tmp_path):
    code = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        "from onesense.errors import StorageError\n"
        "from onesense.store.atomic import write_bytes\n"
        "try: write_bytes(sys.argv[1], [b'x' * 10000])\n"
        "except StorageError as error: print(error.message)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "big"], capture_output=True, text=True, check=True
    )
    assert "too large" in done.stdout
    assert names(tmp_path) == []


def test_missing_parents_are_created(tmp_path):
    write_text(tmp_path / "a" / "b c" / "ü.txt", "x")
    assert (tmp_path / "a" / "b c" / "ü.txt").read_text() == "x"


@pytest.mark.parametrize("name", ["n" * 300, "a/" * 10 + "n" * 256, "nul\0byte"])
def test_impossible_names_fail_before_the_work(tmp_path, name):
    entered = []

    def use():
        with atomic_path(tmp_path / name):
            entered.append(True)

    with pytest.raises(StorageError):
        use()
    assert entered == []


def test_a_name_as_long_as_the_file_system_allows(tmp_path):
    name = "n" * 255
    write_text(tmp_path / name, "x")
    assert names(tmp_path) == [name]


def test_a_parent_that_is_a_file(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(StorageError, match="is a file"):
        write_text(tmp_path / "file" / "a", "x")


def test_a_target_that_is_a_folder(tmp_path):
    with pytest.raises(StorageError, match="folder"):
        write_text(tmp_path, "x")


def test_a_circle_of_links(tmp_path):
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    with pytest.raises(StorageError):
        write_text(tmp_path / "a", "x")
    assert (tmp_path / "a").is_symlink()


@pytest.mark.parametrize("exists", [True, False])
def test_a_link_is_followed_and_stays_a_link(tmp_path, exists):
    real = tmp_path / "real" / "a.txt"
    if exists:
        write_text(real, "old")
    link = tmp_path / "link"
    link.symlink_to(real)
    write_text(link, "new")
    assert link.is_symlink()
    assert real.read_text() == "new"
    assert names(real.parent) == ["a.txt"]


def test_the_mode_of_the_target_is_kept(tmp_path):
    target = tmp_path / "a"
    target.write_text("old")
    target.chmod(0o640)
    write_text(target, "new")
    assert stat.S_IMODE(target.stat().st_mode) == 0o640


def test_a_new_file_has_the_mode_of_any_new_file(tmp_path):
    (tmp_path / "plain").write_text("x")
    write_text(tmp_path / "atomic", "x")
    assert (tmp_path / "plain").stat().st_mode == (tmp_path / "atomic").stat().st_mode


def test_a_pipe_is_written_to_as_it_is(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    write_text(pipe, "through")
    assert os.read(reader, 100) == b"through"
    os.close(reader)
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_an_error_about_another_file_is_not_blamed_on_the_target(tmp_path):
    def use():
        with atomic_path(tmp_path / "a"):
            (tmp_path / "somewhere else").read_bytes()

    with pytest.raises(FileNotFoundError):
        use()


def test_the_leftover_of_a_killed_writer_goes_and_that_of_a_living_one_stays(tmp_path):
    code = (
        "import os, signal, sys\n"
        "from onesense.store.atomic import atomic_folder, atomic_path\n"
        "kind = atomic_folder if sys.argv[2] == 'folder' else atomic_path\n"
        "with kind(sys.argv[1]) as path: print(path, flush=True); os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    for kind in ("file", "folder"):
        target = tmp_path / kind
        done = subprocess.run([sys.executable, "-c", code, target, kind], capture_output=True, check=False)
        assert done.returncode == -signal.SIGKILL
    assert len(names(tmp_path)) == 2
    with atomic_path(tmp_path / "file") as living:
        write_text(tmp_path / "file", "x")
        assert living.exists()
    assert len(remove_leftovers(tmp_path)) == 1
    assert names(tmp_path) == ["file"]


def test_a_folder_appears_whole(tmp_path):
    target = tmp_path / "out"
    with atomic_folder(target) as temporary:
        (temporary / "sub").mkdir()
        (temporary / "sub" / "a").write_text("1")
        assert not target.exists()
    assert (target / "sub" / "a").read_text() == "1"
    assert names(tmp_path) == ["out"]


def test_a_folder_is_gone_after_an_interruption(tmp_path):
    def interrupted():
        with atomic_folder(tmp_path / "out") as temporary:
            (temporary / "a").write_text("1")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert names(tmp_path) == []


@pytest.mark.parametrize("kind", ["file", "filled folder"])
def test_a_folder_never_replaces_what_is_there(tmp_path, kind):
    target = tmp_path / "out"
    if kind == "file":
        target.write_text("mine")
    else:
        target.mkdir()
        (target / "mine").write_text("mine")

    def use():
        with atomic_folder(target):
            pass

    with pytest.raises(ConfigurationError, match="exists already"):
        use()
    assert (target if kind == "file" else target / "mine").read_text() == "mine"


def test_an_empty_folder_may_be_filled(tmp_path):
    (tmp_path / "out").mkdir()
    with atomic_folder(tmp_path / "out") as temporary:
        (temporary / "a").write_text("1")
    assert names(tmp_path / "out") == ["a"]


def test_a_full_disk_in_a_folder(tmp_path):
    def use():
        with atomic_folder(tmp_path / "out"):
            raise OSError(errno.ENOSPC, "no space", "some file")

    with pytest.raises(StorageError, match="disk is full"):
        use()
    assert names(tmp_path) == []


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(value=json_values)
def test_json_comes_back_and_its_bytes_depend_on_the_value_only(tmp_path_factory, value):
    folder = tmp_path_factory.getbasetemp()
    first = write_json(folder / "a.json", value)
    assert read_json(folder / "a.json") == value
    turned = dict(reversed(value.items())) if isinstance(value, dict) else value
    assert write_json(folder / "b.json", turned) == first


def test_half_a_surrogate_pair_comes_back_from_json(tmp_path):
    write_json(tmp_path / "a.json", {"token": "x\ud83d", "text": "Ġnurse 😀"})
    raw = (tmp_path / "a.json").read_bytes()
    assert json.loads(raw.decode("utf-8")) == {"token": "x\ud83d", "text": "Ġnurse 😀"}
    assert "Ġnurse 😀".encode() in raw


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), np.float32("nan")])
def test_json_has_no_nan(tmp_path, value):
    with pytest.raises(NumericalError):
        write_json(tmp_path / "a.json", {"deep": [value]})
    assert names(tmp_path) == []


def test_json_takes_numpy_and_paths(tmp_path):
    write_json(tmp_path / "a.json", {"a": np.arange(3), "b": np.int64(2), "c": tmp_path})
    assert read_json(tmp_path / "a.json") == {"a": [0, 1, 2], "b": 2, "c": str(tmp_path)}


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b'{"a": NaN}', b"[" * 100_000])
def test_broken_json(tmp_path, content):
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(FormatError, match=r"a\.json"):
        read_json(tmp_path / "a.json")


def test_absent_json(tmp_path):
    with pytest.raises(NotFoundError):
        read_json(tmp_path / "a.json")


@pytest.mark.parametrize(
    ("code", "expected"), [(errno.ENOSPC, StorageError), (errno.EPERM, RuntimeError), (None, RuntimeError)]
)
def test_a_full_disk_is_told_where_others_call_it_otherwise(tmp_path, monkeypatch, code, expected):
    def fill(folder):
        (folder / "weights").write_bytes(b"half")
        if code is not None:
            monkeypatch.setattr(os, "write", refuse)
        raise RuntimeError("PytorchStreamWriter failed writing file data/3")

    def refuse(*_):
        raise OSError(code, os.strerror(code))

    def use():
        with atomic_folder(tmp_path / "out") as folder:
            fill(folder)

    with pytest.raises(expected):
        use()
    assert names(tmp_path) == []
