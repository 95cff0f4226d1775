"""`onesense.load`: recipes, exports and models as plain transformers models."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaForCausalLM

import onesense
from onesense.debias.export.export import ExportSettings, export_model
from onesense.errors import FormatError, IncompatibleError, NotFoundError
from onesense.model.language_model import LanguageModel
from onesense.model.load import load_model, load_tokenizer, save_model
from onesense.sae.load import load_dictionary
from onesense.sae.write import write_saelens
from onesense.steer.apply import applied
from onesense.steer.edit import Edit, Operation
from onesense.steer.intervention import EditGroup
from onesense.steer.recipe import Recipe, make_recipe, write_recipe
from onesense.steer.where import Where, Window
from small_recipes import group_of

IDS = torch.tensor([[256, 72, 101, 32, 115]])


@pytest.fixture(scope="module")
def base(tiny_llama: LanguageModel, tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    folder = save_model(tiny_llama, tmp_path_factory.mktemp("models") / "tiny")
    return load_model(str(folder))


def on_disk(group: EditGroup, folder: Path) -> EditGroup:
    """The same group with a dictionary that a recipe can name."""
    write_saelens(group.dictionary, folder)
    return EditGroup(load_dictionary(path=str(folder)), group.edits)


@pytest.fixture
def recipe(base: LanguageModel, tmp_path: Path) -> tuple[Path, Recipe]:
    group = on_disk(group_of("blocks.1.hook_resid_post", Operation.DIRECTION_ADD, 2.0), tmp_path / "sae")
    made = make_recipe(base, [group])
    write_recipe(made, tmp_path / "recipe.json")
    return tmp_path / "recipe.json", made


def logits(hf: Any) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = hf(IDS).logits
    return found


def wanted(base: LanguageModel, recipe: Recipe) -> torch.Tensor:
    with applied(base, recipe, warn=False):
        return logits(base.hf)


def test_a_recipe(base: LanguageModel, recipe: tuple[Path, Recipe]) -> None:
    path, made = recipe
    model = onesense.load(path)
    assert type(model) is LlamaForCausalLM
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert not model.training
    assert torch.equal(logits(model), wanted(base, made))
    assert not torch.equal(logits(model), logits(base.hf))
    half = onesense.load(str(path), dtype="bfloat16")
    assert half.dtype == torch.bfloat16
    assert (logits(half).float() - wanted(base, made)).abs().max() < 0.5


def test_another_model_is_refused(
    recipe: tuple[Path, Recipe], tmp_path: Path, byte_tokenizer: Any, other_llama: LanguageModel
) -> None:
    path, _ = recipe
    other = str(save_model(other_llama, tmp_path / "other"))
    for dtype in ("float32", "bfloat16"):
        with pytest.raises(IncompatibleError, match="other weights"):
            onesense.load(path, model=other, dtype=dtype)
    assert onesense.load(path, model=other, force=True)


@pytest.fixture(scope="module")
def other_llama(byte_tokenizer: Any) -> LanguageModel:
    from tiny_models import tiny_hf

    return LanguageModel.from_hf(tiny_hf("llama", seed=1), byte_tokenizer, "other-llama")


@pytest.mark.parametrize("how", ["merged", "lora", "gguf", "vllm", "neuronpedia"])
def test_an_export(
    base: LanguageModel,
    recipe: tuple[Path, Recipe],
    quick: Callable[..., ExportSettings],
    tmp_path: Path,
    how: str,
) -> None:
    _, made = recipe
    export_model(base, made, tmp_path / "out", settings=quick(how, steps=2))
    model = onesense.load(tmp_path / "out")
    assert type(model) is LlamaForCausalLM
    if how in ("merged", "lora"):
        # a fit of two steps: another model than the unedited one, and plain weights
        assert not torch.equal(logits(model), logits(base.hf))
        model.save_pretrained(tmp_path / "saved")
        again = LlamaForCausalLM.from_pretrained(tmp_path / "saved")
        torch.testing.assert_close(logits(again), logits(model), atol=1e-5, rtol=1e-5)
        return
    torch.testing.assert_close(logits(model), wanted(base, made), atol=1e-5, rtol=1e-5)
    with pytest.raises(IncompatibleError, match="unedited"):
        model.save_pretrained(tmp_path / "saved")
    half = onesense.load(tmp_path / "out", dtype="bfloat16")
    assert logits(half).dtype == torch.bfloat16


def test_a_model_and_what_is_none(base: LanguageModel, tmp_path: Path, recipe: tuple[Path, Recipe]) -> None:
    assert torch.equal(logits(onesense.load(base.name)), logits(base.hf))
    with pytest.raises(NotFoundError, match="nothing to apply"):
        onesense.load(base.name, model="demo")
    with pytest.raises(NotFoundError):
        onesense.load(tmp_path / "missing.json")
    with pytest.raises(NotFoundError):
        onesense.load(tmp_path / "missing")
    with pytest.raises(FormatError, match="Give its recipe"):
        onesense.load(recipe[0].parent)
    with pytest.raises(AttributeError, match="nothing_of_the_kind"):
        onesense.nothing_of_the_kind  # noqa: B018


def test_the_package_itself_loads_nothing() -> None:
    code = "import sys, onesense; print('torch' in sys.modules, 'pydantic' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


def test_the_demo_model(tmp_path: Path) -> None:
    """The real model: a latent edit in the generated part and a direction; one text with and without a cache."""
    dictionary = load_dictionary(release="demo", sae_id="blocks.15.hook_resid_post")
    edits = [
        Edit(feature=10, operation=Operation.CLAMP, value=60.0, where=Where(window=Window.GENERATION)),
        Edit.plain(7, 40.0),
    ]
    demo = load_model("demo")
    write_recipe(make_recipe(demo, [EditGroup(dictionary, edits)]), tmp_path / "recipe.json")
    model: Any = onesense.load(tmp_path / "recipe.json")
    tokenizer: Any = load_tokenizer("demo")
    tokenizer.padding_side = "left"
    batch = tokenizer(["Once upon a time", "The nurse said that"], return_tensors="pt", padding=True)
    texts = [
        one.generate(**batch, max_new_tokens=8, do_sample=False, use_cache=use_cache)
        for one, use_cache in ((model, True), (model, False), (demo.hf, True))
    ]
    assert torch.equal(texts[0], texts[1])
    assert not torch.equal(texts[0], texts[2])
