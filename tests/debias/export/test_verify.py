"""An export is verified: files by hash, numbers by measuring them again."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from onesense.bias.audit import AuditSettings
from onesense.debias.export.export import ExportSettings, export_model
from onesense.debias.export.manifest import hashes, read_manifest
from onesense.debias.export.texts import TextSettings
from onesense.debias.export.verify import (
    Finding,
    NotReproducedError,
    TamperedError,
    verify_export,
    verify_files,
)
from onesense.errors import ConfigurationError, FormatError, IncompatibleError, NotFoundError
from onesense.model.language_model import LanguageModel
from onesense.sae.dictionary import Dictionary
from onesense.steer.edit import Operation
from onesense.steer.recipe import make_recipe
from small_recipes import group_of

GROUP = group_of("blocks.0.hook_resid_pre", Operation.PROJECT_OUT, 1.0)
MEMORY: Mapping[str, Dictionary] = {GROUP.dictionary.origin.fingerprint: GROUP.dictionary}


@pytest.fixture(scope="module")
def audited(tiny_llama: LanguageModel, text_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exports") / "audited"
    settings = ExportSettings(
        text=TextSettings(source=str(text_file), context_size=32, measured_windows=6),
        audit=AuditSettings(benchmarks=("occupations-tune", "gender-facts-tune"), draws=100),
    )
    export_model(tiny_llama, make_recipe(tiny_llama, [GROUP]), folder, settings=settings, dictionaries=MEMORY)
    return folder


@pytest.fixture
def copied(audited: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(audited, tmp_path / "copy"))


def test_a_sound_export_passes(audited: Path, tiny_llama: LanguageModel) -> None:
    found = verify_export(audited, base=tiny_llama, dictionaries=MEMORY)
    found.require()
    assert found.files == len(found.manifest.files) > 4
    assert found.notes == ()
    assert {line.finding for line in found.lines} == {Finding.OK}
    assert found.lines[0].name == "KL to the recipe"
    assert len(found.lines) == 1 + len(found.manifest.audit.metrics)  # type: ignore[union-attr]
    for line in found.lines[1:]:
        assert line.found == line.recorded.value or line.found == pytest.approx(line.recorded.value, abs=1e-4)


@pytest.mark.parametrize(
    ("damage", "fault"),
    [
        (lambda folder: (folder / "config.json").write_text("{}"), "changed: config.json"),
        (lambda folder: (folder / "README.md").unlink(), "missing: README.md"),
        (lambda folder: (folder / "extra.bin").write_bytes(b"x"), "added: extra.bin"),
        (lambda folder: (folder / "link").symlink_to("config.json"), "added: link"),
    ],
)
def test_a_file_that_differs_is_named(copied: Path, damage: Callable[[Path], object], fault: str) -> None:
    verify_files(copied)
    damage(copied)
    with pytest.raises(TamperedError, match=fault) as refused:
        verify_files(copied)
    assert refused.value.exit_code == 11


def test_one_byte_of_the_weights_is_enough(copied: Path) -> None:
    path = copied / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(TamperedError, match="changed: model.safetensors"):
        verify_export(copied)


def test_a_changed_manifest_is_refused(copied: Path, tmp_path: Path) -> None:
    path = copied / "onesense.json"
    document = json.loads(path.read_text())
    document["divergence"]["kl"] = 0.0001
    path.write_text(json.dumps(document))
    with pytest.raises(FormatError, match="content hash does not match"):
        verify_files(copied)
    path.write_text(json.dumps(document | {"schema_version": 99}))
    with pytest.raises(IncompatibleError, match="schema 99"):
        verify_files(copied)
    with pytest.raises(NotFoundError, match="not an export"):
        verify_files(tmp_path / "nowhere")


def reseal(folder: Path) -> None:
    """Make the hashes right again, as someone would who swaps the weights on purpose."""
    manifest = read_manifest(folder)
    manifest.model_copy(update={"files": hashes(folder)}).write(folder)


def test_other_weights_under_right_hashes_give_other_numbers(copied: Path, tiny_llama: LanguageModel) -> None:
    path = copied / "model.safetensors"
    generator = torch.Generator().manual_seed(0)
    noisy = {
        name: tensor + 0.3 * tensor.std() * torch.randn(tensor.shape, generator=generator)
        for name, tensor in load_file(path).items()
    }
    save_file(noisy, path, metadata={"format": "pt"})
    reseal(copied)
    found = verify_export(copied, base=tiny_llama, dictionaries=MEMORY)
    assert found.lines[0].finding is Finding.FAILED
    assert any(line.finding is Finding.FAILED for line in found.lines[1:])
    with pytest.raises(NotReproducedError, match="did not come out again") as refused:
        found.require()
    assert refused.value.exit_code == 12


def test_without_audit_or_base_it_says_what_was_not_verified(
    tiny_llama: LanguageModel, text_file: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "out"
    settings = ExportSettings(text=TextSettings(source=str(text_file), context_size=32, measured_windows=6))
    export_model(tiny_llama, make_recipe(tiny_llama, [GROUP]), folder, settings=settings, dictionaries=MEMORY)
    found = verify_export(folder, base=tiny_llama, dictionaries=MEMORY)
    assert [line.finding for line in found.lines] == [Finding.OK]
    assert any("No audit was recorded" in note for note in found.notes)
    unmeasured = verify_export(folder, base=tiny_llama)  # the dictionary is nowhere to be loaded from
    assert unmeasured.lines[0].finding is Finding.NOT_COMPARED
    assert any("not measured again" in note for note in unmeasured.notes)


def test_another_base_or_suite_is_refused(audited: Path, tiny_gpt2: LanguageModel) -> None:
    with pytest.raises(IncompatibleError, match="is not the model"):
        verify_export(audited, base=tiny_gpt2)
    with pytest.raises(ConfigurationError, match="no suite"):
        verify_export(audited, base=tiny_gpt2, suite="slow")
