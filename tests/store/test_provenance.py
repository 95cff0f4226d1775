import getpass
import hashlib
import json
import os
import platform
import socket

import numpy
import pytest

from onesense.errors import NotFoundError
from onesense.store.provenance import file_sha256, provenance


def test_what_was_given_and_nothing_else():
    found = provenance(model="a" * 64, text={"sha256": "b", "name": "sample"}, seeds=3)
    assert found["inputs"] == {"model": {"sha256": "a" * 64}, "text": {"sha256": "b", "name": "sample"}}
    assert found["seeds"] == {"root": 3}
    assert provenance(seeds={"sampling": 1})["seeds"] == {"sampling": 1}


def test_versions():
    software = provenance()["software"]
    assert software["packages"]["numpy"] == numpy.__version__
    assert software["python"] == platform.python_version()


def test_nothing_of_the_user_and_nothing_that_changes():
    text = json.dumps(provenance(model="m"))
    assert text == json.dumps(provenance(model="m"))
    for private in (os.path.expanduser("~"), os.getcwd(), socket.gethostname(), getpass.getuser()):
        assert json.dumps(private) not in text


@pytest.mark.parametrize("size", [0, 1, (1 << 20) + 1])
def test_hash_of_a_file(tmp_path, size):
    (tmp_path / "f").write_bytes(b"x" * size)
    assert file_sha256(tmp_path / "f") == hashlib.sha256(b"x" * size).hexdigest()


def test_hash_of_no_file(tmp_path):
    with pytest.raises(NotFoundError):
        file_sha256(tmp_path / "f")
