"""Tensors that are looked at a few rows at a time."""

import hashlib

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from onesense.errors import NumericalError
from onesense.sae import large_tensors
from onesense.sae.architecture import check_tensors
from onesense.sae.origin import Origin, fingerprint


@given(rows=st.integers(0, 9), columns=st.integers(1, 5), at_once=st.integers(1, 12))
def test_every_row_comes_once_and_in_order(rows, columns, at_once) -> None:
    tensor = torch.arange(rows * columns).reshape(rows, columns)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(large_tensors, "_NUMBERS_AT_ONCE", at_once)
        parts = list(large_tensors.row_parts(tensor))
    assert torch.equal(torch.cat([part for _, part in parts]) if parts else tensor[:0], tensor)
    assert [tensor[first].tolist() for first, _ in parts] == [part[0].tolist() for _, part in parts]
    assert all(part.numel() <= max(at_once, columns) for _, part in parts)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_fingerprint_does_not_depend_on_the_parts(monkeypatch, dtype) -> None:
    tensors = {"W_dec": torch.randn(7, 3).to(dtype), "b_dec": torch.randn(3).to(dtype)}
    whole = hashlib.sha256(b"rule")
    for name, tensor in tensors.items():
        whole.update(f"{name} {tuple(tensor.shape)}".encode() + tensor.float().numpy().tobytes())
    for at_once in (1, 4, 100):
        monkeypatch.setattr(large_tensors, "_NUMBERS_AT_ONCE", at_once)
        assert fingerprint(tensors, "rule") == whole.hexdigest()


@pytest.mark.parametrize("feature", [0, 3, 6])
@pytest.mark.parametrize("name", ["W_enc", "W_dec", "b_enc"])
def test_what_is_not_finite_is_named_in_whatever_part(monkeypatch, name, feature) -> None:
    monkeypatch.setattr(large_tensors, "_NUMBERS_AT_ONCE", 6)
    tensors = {
        "W_enc": torch.ones(3, 7),
        "b_enc": torch.ones(7),
        "W_dec": torch.ones(7, 3),
        "b_dec": torch.ones(3),
    }
    tensors[name][(2, feature) if name == "W_enc" else feature] = torch.nan
    with pytest.raises(NumericalError, match=f"{name} .* first at feature {feature}"):
        check_tensors(tensors, Origin())
