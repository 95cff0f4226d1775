"""A recipe becomes a folder that plain transformers or peft loads, with what was measured of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from onesense.bias.audit import AuditSettings
from onesense.debias.export.copies import copy_of
from onesense.debias.export.distillation import DistillationSettings
from onesense.debias.export.export import Export, ExportSettings, export_model
from onesense.debias.export.kinds import ExportKind
from onesense.debias.export.manifest import hashes, read_manifest
from onesense.debias.export.texts import TextSettings, read_prompts, read_text
from onesense.debias.export.verify import verify_export
from onesense.debias.export.write import Work, write_artefact
from onesense.engine.stages import Silent
from onesense.errors import ConfigurationError, IncompatibleError
from onesense.model.language_model import LanguageModel
from onesense.sae.load import load_dictionary
from onesense.steer.apply import applied
from onesense.steer.edit import Edit, Operation
from onesense.steer.intervention import EditGroup, Intervention
from onesense.steer.recipe import Recipe, make_recipe
from report.audits import audit as before_and_after
from small_recipes import PROMPTS, group_of

Quick = Callable[..., ExportSettings]


def export(
    model: LanguageModel,
    folder: Path,
    settings: ExportSettings,
    group: EditGroup,
    note: str = "",
    **more: object,
) -> Export:
    dictionaries = {group.dictionary.origin.fingerprint: group.dictionary}
    recipe = make_recipe(model, [group], note=note)
    return export_model(model, recipe, folder, settings=settings, dictionaries=dictionaries, **more)  # type: ignore[arg-type]


def scaled(point: str = "blocks.1.hook_resid_post") -> EditGroup:
    return group_of(point, Operation.SCALE, 0.0)


def projected() -> EditGroup:
    return group_of("blocks.0.hook_resid_pre", Operation.PROJECT_OUT, 1.0)


def added() -> EditGroup:
    return group_of("blocks.1.hook_resid_post", Operation.DIRECTION_ADD, 2.0)


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_projection_as_plain_weights(
    family: str,
    tiny_model: Callable[[str], LanguageModel],
    tmp_path: Path,
    quick: Quick,
    random_ids: torch.Tensor,
) -> None:
    model = tiny_model(family)
    made = export(model, tmp_path / "out", quick(), projected())
    assert made.kind is ExportKind.PROJECTION
    assert made.manifest.divergence.kl < 1e-6 < 1e-3 < made.manifest.divergence.unedited
    hf = AutoModelForCausalLM.from_pretrained(made.folder)
    with torch.no_grad():
        with applied(model, [projected()], warn=False):
            wanted = model.hf(random_ids).logits
        torch.testing.assert_close(hf(random_ids).logits, wanted, atol=1e-5, rtol=1e-5)
    assert hf.config.tie_word_embeddings is False
    assert not torch.equal(hf.get_input_embeddings().weight, hf.get_output_embeddings().weight)
    assert AutoTokenizer.from_pretrained(made.folder)("abc").input_ids


def test_merged_lora_as_plain_weights(tiny_llama: LanguageModel, tmp_path: Path, quick: Quick) -> None:
    made = export(tiny_llama, tmp_path / "out", quick(steps=30, learning_rate=5e-3), scaled(), note="a trial")
    assert made.kind is ExportKind.MERGED
    assert made.manifest.divergence.kl < 0.8 * made.manifest.divergence.unedited
    assert made.manifest.prompt_divergence is not None
    assert made.manifest.prompt_divergence.tokens == 2
    hf = AutoModelForCausalLM.from_pretrained(made.folder)
    assert not any("lora" in name for name in hf.state_dict())
    assert made.within_target == (made.manifest.divergence.kl <= 0.005)
    card = (made.folder / "README.md").read_text(encoding="utf-8")
    assert "a trial" in card
    assert "not “unbiased”" in card
    assert "No audit was recorded" in card


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_an_adapter_gives_what_the_merged_weights_give(
    family: str,
    tiny_model: Callable[[str], LanguageModel],
    tmp_path: Path,
    quick: Quick,
    random_ids: torch.Tensor,
) -> None:
    model = tiny_model(family)
    merged = export(model, tmp_path / "merged", quick("merged"), scaled())
    adapter = export(model, tmp_path / "lora", quick("lora"), scaled())
    assert merged.manifest.divergence.kl == pytest.approx(adapter.manifest.divergence.kl, rel=1e-3)
    config = json.loads((adapter.folder / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == model.name
    assert not (adapter.folder / "model.safetensors").exists()
    loaded = PeftModel.from_pretrained(copy_of(model).hf, str(adapter.folder))
    with torch.no_grad():
        plain = AutoModelForCausalLM.from_pretrained(merged.folder)(random_ids).logits
        torch.testing.assert_close(loaded(random_ids).logits, plain, atol=1e-4, rtol=1e-4)
        assert (plain - model.hf(random_ids).logits).abs().max() > 1e-3


def test_control_vector(tiny_llama: LanguageModel, tmp_path: Path, quick: Quick) -> None:
    made = export(tiny_llama, tmp_path / "out", quick("gguf"), added())
    assert sorted(path.name for path in made.folder.iterdir()) == [
        "README.md", "control-vector.gguf", "onesense.json", "recipe.json",
    ]  # fmt: skip
    assert made.manifest.divergence.kl < 1e-6 < made.manifest.divergence.unedited
    with pytest.raises(IncompatibleError, match="constant direction"):
        export(tiny_llama, tmp_path / "other", quick("gguf"), scaled())
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize(
    ("how", "name", "said"),
    [
        ("vllm", "vllm-steering.json", "vLLM itself was not run"),
        ("neuronpedia", "neuronpedia-vector-002.json", "nothing was uploaded"),
    ],
)
def test_vectors_for_others(
    tiny_llama: LanguageModel, tmp_path: Path, quick: Quick, how: str, name: str, said: str
) -> None:
    group = added()
    made = export(tiny_llama, tmp_path / "out", quick(how), group, note="toward parity")
    names = sorted(path.name for path in made.folder.iterdir())
    assert names == sorted(["README.md", "onesense.json", "recipe.json", name])
    assert made.manifest.divergence.kl < 1e-6 < made.manifest.divergence.unedited
    assert said in (made.folder / "README.md").read_text(encoding="utf-8")
    if how == "neuronpedia":
        assert json.loads((made.folder / name).read_text())["vectorLabel"] == "toward parity"
    memory = {group.dictionary.origin.fingerprint: group.dictionary}
    verify_export(made.folder, base=tiny_llama, dictionaries=memory).require()
    with pytest.raises(IncompatibleError, match=f"exported as {how}"):
        export(tiny_llama, tmp_path / "other", quick(how), scaled())
    assert not (tmp_path / "other").exists()


def test_what_the_folder_says(tiny_llama: LanguageModel, tmp_path: Path, quick: Quick) -> None:
    group = projected()
    made = export(tiny_llama, tmp_path / "out", quick(), group)
    read = read_manifest(made.folder)
    assert read == made.manifest
    assert read.files == hashes(made.folder)
    assert {"README.md", "recipe.json", "config.json", "model.safetensors"} <= set(read.files)
    recipe = json.loads((made.folder / "recipe.json").read_text())
    assert recipe["content_hash"] == read.recipe_hash
    assert read.base.fingerprint == tiny_llama.fingerprint
    assert read.dictionaries[0].fingerprint == group.dictionary.origin.fingerprint
    assert len(read.text_identity["sha256"]) == 64


def test_audits_are_recorded_and_shown(tiny_llama: LanguageModel, tmp_path: Path, quick: Quick) -> None:
    group = projected()
    settings = AuditSettings(benchmarks=("occupations-tune", "kl"), draws=100)
    chosen = ExportSettings(audit=settings, text=quick().text)
    made = export(tiny_llama, tmp_path / "out", chosen, group, recipe_audit=before_and_after())
    recorded = made.manifest.audit
    assert recorded is not None
    assert recorded.benchmarks == ("occupations-tune", "kl")
    assert {metric.benchmark for metric in recorded.metrics} == {"occupations-tune"}
    assert made.manifest.recipe_audit is not None
    decimals = {metric.key: metric.decimals for metric in made.manifest.recipe_audit.metrics}
    headline = [metric for metric in recorded.metrics if metric.headline]
    assert headline
    card = (made.folder / "README.md").read_text(encoding="utf-8")
    for metric in headline:
        assert f"{metric.found.value:.{decimals.get(metric.key, metric.decimals)}f} (" in card
    assert "| StereoSet test, gender · SS | % | 62.65 (59.24 to 66.06) | 57.21 (" in card
    assert "repeats the column of this export" in card
    assert read_manifest(made.folder) == made.manifest
    assert str(tmp_path) not in card


def test_a_folder_that_is_not_empty_is_refused(
    tiny_llama: LanguageModel, tmp_path: Path, quick: Quick
) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    export(tiny_llama, folder, quick(), projected())  # an empty one is welcome
    before = hashes(folder)
    with pytest.raises(ConfigurationError, match="holds README.md"):
        export(tiny_llama, folder, quick(), projected())
    assert hashes(folder) == before
    with pytest.raises(ConfigurationError, match="is a file"):
        export(tiny_llama, folder / "README.md", quick(), projected())


def test_a_recipe_for_another_model_is_refused(
    tiny_llama: LanguageModel, tiny_gpt2: LanguageModel, tmp_path: Path, quick: Quick
) -> None:
    recipe = make_recipe(tiny_gpt2, [projected()])
    with pytest.raises(IncompatibleError, match="was made for `tiny-gpt2`"):
        export_model(tiny_llama, recipe, tmp_path / "out", settings=quick())
    with pytest.raises(ConfigurationError, match="no edits"):
        export_model(tiny_llama, Recipe(model=make_recipe(tiny_llama, []).model), tmp_path / "out")
    with pytest.raises(ConfigurationError, match="no export of kind"):
        ExportSettings(how="onnx")
    assert not (tmp_path / "out").exists()


def test_hostile_names_stay_text(tiny_llama: LanguageModel, tmp_path: Path, quick: Quick) -> None:
    note = "<script>alert(1)</script> | [x](javascript:y) \x1b[31m"
    made = export(tiny_llama, tmp_path / "out", quick(), projected(), note=note)
    card = (made.folder / "README.md").read_text(encoding="utf-8")
    assert "<script" not in card
    assert "\x1b" not in card
    assert "\\[x\\]" in card


def test_the_demo_model(demo_model: LanguageModel, tmp_path: Path) -> None:
    """The real model, which was read from GGUF, becomes a folder that plain transformers loads."""
    dictionary = load_dictionary(release="demo", sae_id="blocks.21.hook_resid_post")
    edits = [Edit(feature=feature, operation=Operation.SCALE, value=0.0) for feature in range(0, 4000, 40)]
    settings = TextSettings(context_size=24, fit_windows=8, validation_windows=1, measured_windows=1)
    work = Work(
        demo_model,
        [Intervention(demo_model, EditGroup(dictionary, edits))],
        read_text(demo_model, settings, rows=1),
        read_prompts(demo_model, PROMPTS, rows=2),
        DistillationSettings(rank=2, steps=3, rows=1, prompt_rows=2),
        Silent(),
    )
    distilled = write_artefact(ExportKind.MERGED, work, tmp_path)
    assert distilled is not None
    assert distilled.first_block == 21
    hf = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert not hasattr(hf.config, "quantization_config")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    ids = torch.tensor([[1, *tokenizer("The nurse said that", add_special_tokens=False).input_ids]])
    with torch.no_grad():
        found, merged, plain = (one(ids).logits for one in (hf, distilled.adapted, demo_model.hf))
    torch.testing.assert_close(found, merged, atol=1e-4, rtol=1e-4)
    assert (found - plain).abs().max() > 1e-3
    early, late = (f"model.layers.{layer}.mlp.down_proj.weight" for layer in (20, 21))
    state, own = hf.state_dict(), demo_model.hf.state_dict()
    assert torch.equal(state[early], own[early])
    assert not torch.equal(state[late], own[late])
