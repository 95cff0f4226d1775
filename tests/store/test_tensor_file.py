import mmap
import subprocess
import sys

import numpy as np
import pytest
import safetensors.numpy
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from onesense.errors import FormatError, NotFoundError, StorageError
from onesense.store import tensor_file
from onesense.store.atomic import write_tensors
from onesense.store.tensor_file import read_metadata, read_tensors

DTYPES = ["bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"]
DTYPES += ["float16", "float32", "float64", ">f4", ">i8"]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "a.safetensors"


@pytest.fixture
def written(path):
    write_tensors(path, {"b": np.arange(6, dtype=np.int32).reshape(2, 3), "a": np.ones(3)}, {"k": "v"})
    return path.read_bytes()


@given(
    tensors=st.dictionaries(
        st.text(st.characters(codec="utf-8"), max_size=8).filter(lambda name: name != "__metadata__"),
        st.sampled_from(DTYPES).flatmap(
            lambda dtype: hnp.arrays(np.dtype(dtype), hnp.array_shapes(min_dims=0, max_dims=3, min_side=0))
        ),
        max_size=4,
    )
)
def test_arrays_come_back_here_and_through_the_safetensors_package(tmp_path_factory, tensors):
    path = tmp_path_factory.getbasetemp() / "round trip.safetensors"
    write_tensors(path, tensors)
    for found in (read_tensors(path, own=True), safetensors.numpy.load_file(path)):
        assert sorted(found) == sorted(tensors)
        for name, array in tensors.items():
            assert found[name].dtype == array.dtype.newbyteorder("=")
            np.testing.assert_array_equal(found[name], array)


def test_torch_tensors_are_written_bit_by_bit(path):
    tensors = {
        "bf16": torch.tensor([1.5, -0.0, float("inf")], dtype=torch.bfloat16),
        "turned": torch.arange(6).reshape(2, 3).T,
        "grad": torch.ones(2, requires_grad=True),
        "scalar": torch.tensor(3.0),
        "empty": torch.zeros(0, 4),
    }
    write_tensors(path, tensors)
    found = safetensors.torch.load_file(path)
    for name, tensor in tensors.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor.detach())
    assert read_tensors(path)["bf16"].dtype == np.float32
    np.testing.assert_array_equal(read_tensors(path)["bf16"], [1.5, -0.0, np.inf])


def test_order_and_process_do_not_change_the_bytes(path):
    code = (
        "import sys, numpy as np; from onesense.store.atomic import write_tensors\n"
        "write_tensors(sys.argv[1], {'b': np.arange(3), 'a': np.zeros(2)}, {c: c for c in 'zyxwv'})"
    )
    subprocess.run([sys.executable, "-c", code, path], check=True, env={"PYTHONHASHSEED": "7"})
    elsewhere = path.read_bytes()
    tensors = {"a": np.zeros(2), "b": np.arange(3)}
    for ordered in (tensors, dict(reversed(tensors.items()))):
        write_tensors(path, ordered, {c: c for c in "vwxyz"})
        assert path.read_bytes() == elsewhere


def test_metadata(path, written):
    assert read_metadata(path) == {"k": "v"}


def test_every_flipped_bit_is_found(path, written):
    undetected = []
    for position in range(len(written) * 8):
        flipped = bytearray(written)
        flipped[position // 8] ^= 1 << (position % 8)
        path.write_bytes(flipped)
        try:
            read_tensors(path)
        except FormatError:
            continue
        undetected.append(position)
    assert undetected == []


def test_every_truncation_is_found(path, written):
    for length in range(len(written)):
        path.write_bytes(written[:length])
        with pytest.raises(FormatError):
            read_tensors(path)


def with_header(header: bytes, data: bytes = b"") -> bytes:
    return len(header).to_bytes(8, "little") + header + data


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0" * 8,
        (2**63).to_bytes(8, "little") + b"{}",
        (2**64 - 1).to_bytes(8, "little") + b"{}",
        with_header(b"not json"),
        with_header(b"[]"),
        with_header(b'{"a": 1}'),
        with_header(b'{"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}'),
        with_header(b'{"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}}', b"\0" * 4),
        with_header(b'{"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}}', b"\0" * 4),
        with_header(b'{"a": {"dtype": "X9", "shape": [1], "data_offsets": [0, 4]}}', b"\0" * 4),
        with_header(
            b'{"a": {"dtype": "U8", "shape": [4], "data_offsets": [0, 4]},'
            b' "b": {"dtype": "U8", "shape": [4], "data_offsets": [2, 6]}}',
            b"\0" * 6,
        ),
        with_header(
            b'{"a": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]},'
            b' "a": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}}',
            b"\0",
        ),
        with_header(b"[" * 100_000),
        b"\x80\x04cos\nsystem\n",
    ],
)
def test_files_that_are_none(path, content):
    path.write_bytes(content)
    with pytest.raises(FormatError, match=r"a\.safetensors"):
        read_tensors(path)


def test_trailing_bytes(path, written):
    path.write_bytes(written + b"\0")
    with pytest.raises(FormatError):
        read_tensors(path)


def test_files_of_others_are_read_unless_ours_is_asked_for(path):
    safetensors.numpy.save_file({"a": np.arange(3)}, path)
    np.testing.assert_array_equal(read_tensors(path)["a"], [0, 1, 2])
    with pytest.raises(FormatError):
        read_tensors(path, own=True)


def test_an_8_bit_float_is_refused_by_name(path):
    header = b'{"w": {"dtype": "F8_E4M3", "shape": [1], "data_offsets": [0, 1]}}'
    path.write_bytes(with_header(header, b"\0"))
    with pytest.raises(FormatError, match="F8_E4M3"):
        read_tensors(path)


def test_a_dtype_without_a_code(path):
    with pytest.raises(FormatError, match="complex"):
        write_tensors(path, {"a": np.zeros(2, dtype=np.complex128)})
    with pytest.raises(FormatError, match="'o'"):
        write_tensors(path, {"o": np.array([object()])})
    assert not path.exists()


def test_absent_and_unreadable(path, tmp_path):
    with pytest.raises(NotFoundError):
        read_tensors(path)
    with pytest.raises(StorageError, match="is a folder"):
        read_tensors(tmp_path)


def test_what_is_read_can_be_changed_and_is_aligned(path, written):
    array = read_tensors(path)["a"]
    array += 1
    assert array.flags.aligned


def test_metadata_that_are_null_are_none(tmp_path):
    header = b'{"__metadata__":null,"x":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}'
    path = tmp_path / "x.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + b"\7")
    assert read_tensors(path)["x"].tolist() == [7]
    assert read_metadata(path) == {}
    with pytest.raises(FormatError, match="SHA-256"):
        read_tensors(path, own=True)


def test_a_large_file_is_mapped_and_still_checked(path, written, monkeypatch):
    monkeypatch.setattr(tensor_file, "_MAPPED_FROM", 1)
    whole = read_tensors(path)
    assert all(is_mapped(array) for array in whole.values())
    assert {name: array.tobytes() for name, array in whole.items()} == {
        name: np.asarray(array).tobytes() for name, array in read_plain(path, monkeypatch).items()
    }
    before = path.read_bytes()
    for array in whole.values():
        array[...] = 0
    assert path.read_bytes() == before
    path.write_bytes(before[:-1] + bytes([before[-1] ^ 1]))
    with pytest.raises(FormatError):
        read_tensors(path)


def read_plain(path, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(tensor_file, "_MAPPED_FROM", 2**40)
        return read_tensors(path)


def is_mapped(array):
    while isinstance(array, np.ndarray):
        array = array.base
    return isinstance(array, mmap.mmap)
