"""Constant directions as a GGUF control vector."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from gguf import GGUFReader

from onesense.debias.export.control_vector import (
    control_vectors,
    install_control_vectors,
    read_control_vectors,
    why_no_control_vector,
    write_control_vectors,
)
from onesense.debias.export.copies import copy_of
from onesense.errors import FormatError, IncompatibleError
from onesense.model.language_model import LanguageModel
from onesense.steer.apply import applied
from onesense.steer.edit import Operation
from onesense.steer.intervention import Intervention
from onesense.steer.where import EVERYWHERE, Where
from small_recipes import dictionary_at, group_of


def added(model: LanguageModel, point: str, where: Where = EVERYWHERE) -> Intervention:
    return Intervention(model, group_of(point, Operation.DIRECTION_ADD, 1.5, where))


def test_the_file_holds_what_llama_cpp_reads(tiny_llama: LanguageModel, tmp_path: Path) -> None:
    edits = [
        added(tiny_llama, point)
        for point in ("blocks.1.hook_resid_post", "blocks.2.hook_resid_pre", "blocks.2.hook_resid_post")
    ]
    path = tmp_path / "vector.gguf"
    write_control_vectors(tiny_llama, control_vectors(tiny_llama, edits), path)
    reader = GGUFReader(path)
    text = {name: field.contents() for name, field in reader.fields.items()}
    assert text["general.architecture"] == "controlvector"
    assert text["controlvector.model_hint"] == "llama"
    assert text["controlvector.layer_count"] == 3
    rows = dictionary_at("blocks.1.hook_resid_post").W_dec[[3, 7]].sum(0) * 1.5
    tensors = {tensor.name: tensor for tensor in reader.tensors}
    assert set(tensors) == {"direction.1", "direction.2"}
    for name, times in (("direction.1", 2), ("direction.2", 1)):
        assert tensors[name].tensor_type.name == "F32"
        assert list(tensors[name].shape) == [32]
        torch.testing.assert_close(torch.tensor(tensors[name].data), times * rows)


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_added_to_blocks_it_does_what_the_recipe_does(family, tiny_model, tmp_path, random_ids) -> None:  # type: ignore[no-untyped-def]
    model = tiny_model(family)
    edits = [added(model, "blocks.2.hook_resid_pre"), added(model, "blocks.2.hook_resid_post")]
    write_control_vectors(model, control_vectors(model, edits), tmp_path / "vector.gguf")
    steered = copy_of(model)
    install_control_vectors(steered, read_control_vectors(tmp_path / "vector.gguf"))
    with torch.no_grad():
        with applied(model, edits, warn=False):
            wanted = model.hf(random_ids).logits
        torch.testing.assert_close(steered.hf(random_ids).logits, wanted, atol=1e-5, rtol=1e-5)
        assert (model.hf(random_ids).logits - wanted).abs().max() > 0.05


def test_what_llama_cpp_cannot_do_is_refused(tiny_llama: LanguageModel) -> None:
    for point in ("blocks.0.hook_resid_post", "blocks.1.hook_resid_pre", "blocks.0.hook_resid_pre"):
        with pytest.raises(IncompatibleError, match="direction.0"):
            control_vectors(tiny_llama, [added(tiny_llama, point)])
    assert "output of a block" in str(
        why_no_control_vector(tiny_llama, [added(tiny_llama, "blocks.1.hook_resid_mid")])
    )
    assert "everywhere" in str(
        why_no_control_vector(tiny_llama, [added(tiny_llama, "blocks.1.hook_resid_post", Where())])
    )
    clamped = Intervention(tiny_llama, group_of("blocks.1.hook_resid_post", Operation.CLAMP, 1.0))
    assert "constant" in str(why_no_control_vector(tiny_llama, [clamped]))


def test_another_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "vector.gguf"
    path.write_bytes(b"not a control vector at all, but long enough to be read")
    with pytest.raises(FormatError, match="not a GGUF control vector"):
        read_control_vectors(path)


def test_the_comparison_with_llama_cpp_says_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    from benchmarks import llama_cpp as comparison

    monkeypatch.setattr(comparison.importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(SystemExit, match="pip install llama-cpp-python"):
        comparison.main([])


def test_vectors_follow_the_model_s_number_format(
    tiny_llama: LanguageModel, random_ids: torch.Tensor
) -> None:
    edits = [added(tiny_llama, "blocks.1.hook_resid_post")]
    steered = copy_of(tiny_llama)
    install_control_vectors(steered, control_vectors(tiny_llama, edits))
    with torch.no_grad():
        full = steered.hf(random_ids).logits
        half = steered.hf.to(torch.bfloat16)(random_ids).logits
    assert half.dtype == torch.bfloat16
    assert (half.float() - full).abs().max() < 0.5
