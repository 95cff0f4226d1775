"""Change good files by the bytes that a fuzzer gives, so that most of what is tried gets past the first check."""

from __future__ import annotations

import io
import json
import zipfile
from collections import deque
from collections.abc import Callable, Sequence
from copy import deepcopy
from typing import Any, TypeVar

_T = TypeVar("_T")
_DEPTH = 150
_MOST_PLACES = 500
_MOST_OPERATIONS = 4

VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2**31, 2**53 + 1, 2**63, 2**64, -(2**63), 10**400, 0.5, -0.0, 1e-320, 1e308,
    float("nan"), float("inf"), "", "0", "-1", "1e999", "nan", "\0", "\ud800", "é" * 300, "../../etc/passwd",
    "blocks.0.hook_resid_pre", "blocks.99999999999999999999.hook_resid_pre", "topk", "gated", [], {}, [[]],
    [None], {"": None}, [0] * 50, "x" * 5000, ["a", 1, None], {"k": 2**70}, "\u2028", "{{7*7}}",
)  # fmt: skip
WORDS = (
    b"\0", b"\xff\xff\xff\xff", b"\x80", b"{}", b"[]", b"null", b"NaN", b"1e999", b"\xed\xa0\x80", b"\"", b"\\u",
    b"[" * 200, b"{\"a\":" * 100, b"\r\n", b"\t", b"\xe2\x80\xa8", b"-1", b"99999999999999999999", b"\xef\xbb\xbf",
)  # fmt: skip


class Choices:
    """Decisions that bytes make; when they are used up, every decision is the first.

    Args:
        data: The bytes.
    """

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def below(self, limit: int) -> int:
        """A number from 0 to ``limit - 1``."""
        if limit <= 1:
            return 0
        size = (limit.bit_length() + 7) // 8
        taken = self._data[self._at : self._at + size]
        self._at += size
        return int.from_bytes(taken, "little") % limit

    def of(self, options: Sequence[_T]) -> _T:
        """One of several."""
        return options[self.below(len(options))]

    def some(self, most: int = 32) -> bytes:
        """Up to so many bytes as they are."""
        count = self.below(most + 1)
        taken = self._data[self._at : self._at + count]
        self._at += count
        return taken


def changed_bytes(choices: Choices, whole: bytes) -> bytes:
    """A file with a few bytes changed, put in, left out or said twice."""
    data = bytearray(whole)
    for _ in range(1 + choices.below(_MOST_OPERATIONS)):
        at = choices.below(len(data) + 1)
        match choices.below(7):
            case 0 if data:
                data[min(at, len(data) - 1)] ^= 1 << choices.below(8)
            case 1:
                piece = choices.some()
                data[at : at + len(piece)] = piece
            case 2:
                data[at:at] = choices.some()
            case 3:
                data[at:at] = choices.of(WORDS)
            case 4:
                del data[at : at + 1 + choices.below(64)]
            case 5:
                del data[at:]
            case _:
                data[at:at] = data[at : at + 1 + choices.below(256)]
    return bytes(data)


def changed_json(choices: Choices, whole: bytes) -> bytes:
    """A JSON file with a few values changed, left out, renamed or nested deep; sometimes its bytes."""
    if choices.below(5) == 4:
        return changed_bytes(choices, whole)
    value = json.loads(whole)
    for _ in range(1 + choices.below(_MOST_OPERATIONS)):
        value = _changed_value(choices, value)
    try:
        return json.dumps(value).encode()
    except (ValueError, RecursionError):
        return whole


def changed_json_lines(choices: Choices, whole: bytes) -> bytes:
    """JSON lines, one of which is changed."""
    lines = whole.split(b"\n")
    at = choices.below(max(1, len(lines) - 1))
    if lines[at].strip():
        lines[at] = changed_json(choices, lines[at])
    return b"\n".join(lines)


def changed_safetensors(choices: Choices, whole: bytes) -> bytes:
    """A safetensors file whose header, numbers or bytes are changed; the length of its header stays true."""
    kind = choices.below(4)
    length = int.from_bytes(whole[:8], "little")
    header, data = whole[8 : 8 + length], whole[8 + length :]
    if kind == 0:
        return changed_bytes(choices, whole)
    if kind == 1:
        return whole[: 8 + length] + changed_bytes(choices, data)[: len(data)].ljust(len(data), b"\0")
    header = changed_json(choices, header)
    return len(header).to_bytes(8, "little") + header + data


def changed_zip(choices: Choices, whole: bytes) -> bytes:
    """An archive (``torch.save``, ``np.savez``) of which one member is changed, and packed again."""
    if choices.below(4) == 0:
        return changed_bytes(choices, whole)
    with zipfile.ZipFile(io.BytesIO(whole)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    name = choices.of(sorted(members))
    members[name] = changed_bytes(choices, members[name])
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for member, data in members.items():
            archive.writestr(member, data)
    return packed.getvalue()


def changed_text(choices: Choices, whole: bytes) -> bytes:
    """Lines of a table or a text, some of them changed, moved or left out."""
    lines = whole.split(b"\n")
    for _ in range(1 + choices.below(_MOST_OPERATIONS)):
        at = choices.below(len(lines))
        match choices.below(5):
            case 0:
                lines[at] = changed_bytes(choices, lines[at])
            case 1:
                cells = lines[at].split(choices.of((b"\t", b",", b" ")))
                cells[choices.below(len(cells))] = choices.of(WORDS)
                lines[at] = choices.of((b"\t", b",", b" ")).join(cells)
            case 2:
                del lines[at]
                lines = lines or [b""]
            case 3:
                lines.insert(at, lines[choices.below(len(lines))])
            case _:
                lines[at] = choices.of(WORDS)
    return b"\n".join(lines)


Change = Callable[[Choices, bytes], bytes]

CHANGES: dict[str, Change] = {
    ".json": changed_json,
    ".jsonl": changed_json_lines,
    ".safetensors": changed_safetensors,
    ".pt": changed_zip,
    ".npz": changed_zip,
    ".csv": changed_text,
    ".tsv": changed_text,
    ".txt": changed_text,
}


def change_of(name: str) -> Change:
    """How files of a name are changed."""
    return CHANGES.get(name[name.rfind(".") :], changed_bytes)


def _changed_value(choices: Choices, value: Any) -> Any:
    places: list[tuple[Any, Any]] = []
    _collect(value, places)
    if not places:
        return deepcopy(choices.of(VALUES))
    holder, key = choices.of(places)
    match choices.below(6):
        case 0 | 1 | 2:
            holder[key] = deepcopy(choices.of(VALUES))
        case 3 if isinstance(holder, dict):
            del holder[key]
        case 4 if isinstance(holder, dict):
            holder[choices.of(("", "x", "k", "metadata", str(key) + "s"))] = holder.pop(key)
        case 5:
            deep = holder[key]
            for _ in range(choices.below(_DEPTH)):
                deep = [deep]
            holder[key] = deep
        case _:
            holder[key] = [holder[key]]
    return value


def _collect(value: Any, places: list[tuple[Any, Any]]) -> None:
    """Every place in a value that can be changed, outermost first."""
    pending = deque([value])
    while pending and len(places) < _MOST_PLACES:
        holder = pending.popleft()
        if isinstance(holder, dict):
            keys: Sequence[Any] = list(holder)
        elif isinstance(holder, list):
            keys = range(len(holder))
        else:
            continue
        for key in keys:
            places.append((holder, key))
            pending.append(holder[key])
