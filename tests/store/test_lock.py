import errno
import os
import signal
import subprocess
import sys

import pytest

from onesense.errors import LockedError, StorageError
from onesense.store import lock
from onesense.store.lock import LOCK_NAME, exclusive_lock

HOLDER = (
    "import sys, time\n"
    "from onesense.store.lock import exclusive_lock\n"
    "with exclusive_lock(sys.argv[1]): print('held', flush=True); time.sleep(60)\n"
)


@pytest.fixture
def holder(tmp_path):
    with subprocess.Popen([sys.executable, "-c", HOLDER, tmp_path], stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"held\n"
        yield process
        process.kill()


def take(folder):
    with exclusive_lock(folder):
        return True


def test_a_second_writer_is_told_who_the_first_is(tmp_path, holder):
    with pytest.raises(LockedError, match=rf"process {holder.pid}\b") as caught:
        take(tmp_path)
    assert caught.value.exit_code == 7
    assert caught.value.hint


def test_the_lock_dies_with_its_holder(tmp_path, holder):
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    assert take(tmp_path)


def test_one_process_excludes_itself(tmp_path):
    with exclusive_lock(tmp_path), pytest.raises(LockedError, match=str(os.getpid())):
        take(tmp_path)


def test_it_is_free_again_after_an_error(tmp_path):
    def fail():
        with exclusive_lock(tmp_path):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert take(tmp_path)
    assert (tmp_path / LOCK_NAME).read_bytes() == b""


@pytest.mark.parametrize("content", [b"", b"99999999", b"x\xff", b"9" * 40])
def test_a_holder_that_left_no_usable_name(tmp_path, content, monkeypatch):
    monkeypatch.setattr(lock, "_NAME_PAUSE_S", 0)
    with exclusive_lock(tmp_path):
        (tmp_path / LOCK_NAME).write_bytes(content)
        with pytest.raises(LockedError, match=r"another process|process 9{32}"):
            take(tmp_path)


@pytest.mark.parametrize("code", [errno.EACCES, errno.EROFS, errno.ENOSPC])
def test_a_folder_that_cannot_be_written(tmp_path, monkeypatch, code):
    def fail(*arguments):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(lock.os, "open", fail)
    with pytest.raises(StorageError, match="Cannot lock"):
        take(tmp_path)


def test_a_file_system_without_locks(tmp_path, monkeypatch):
    def fail(*arguments):
        raise OSError(errno.ENOLCK, "no locks")

    monkeypatch.setattr(lock.fcntl, "flock", fail)
    with pytest.raises(StorageError, match="does not support locks"):
        take(tmp_path)


def test_the_folder_is_made(tmp_path):
    assert take(tmp_path / "new" / "run")
