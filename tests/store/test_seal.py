from __future__ import annotations

from pathlib import Path

import pytest

from onesense.store.seal import SEAL_FILE, is_whole, keep_json, kept_json, seal_folder


def test_what_was_kept_comes_back_and_what_was_changed_does_not(tmp_path: Path) -> None:
    path = tmp_path / "known.json"
    assert kept_json(path) is None
    keep_json(path, {"a": [0.5, None], "é": "x"})
    assert kept_json(path) == {"a": [0.5, None], "é": "x"}
    whole = path.read_bytes()
    for at in range(len(whole)):
        changed = bytearray(whole)
        changed[at] ^= 4
        path.write_bytes(changed)
        assert kept_json(path) in (None, {"a": [0.5, None], "é": "x"})


@pytest.mark.parametrize("text", ["", "[]", "3", "{}", '{"a": 1}', "\0", "[" * 5000])
def test_what_nobody_kept_is_nothing(tmp_path: Path, text: str) -> None:
    path = tmp_path / "known.json"
    path.write_text(text)
    assert kept_json(path) is None


def test_a_sealed_folder_notices_every_change(tmp_path: Path) -> None:
    (tmp_path / "weights.pt").write_bytes(b"abc")
    assert is_whole(tmp_path)  # an older onesense did not seal
    seal_folder(tmp_path)
    assert is_whole(tmp_path)
    (tmp_path / "weights.pt").write_bytes(b"abd")
    assert not is_whole(tmp_path)
    (tmp_path / "weights.pt").write_bytes(b"abc")
    (tmp_path / "more").touch()
    assert not is_whole(tmp_path)
    (tmp_path / "more").unlink()
    (tmp_path / SEAL_FILE).write_text("{}")
    assert not is_whole(tmp_path)
