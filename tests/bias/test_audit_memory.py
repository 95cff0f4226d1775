"""What an audit says that it takes is what it takes; what there is no room for is refused."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from onesense.bias.audit import AuditSettings
from onesense.bias.audit_memory import estimate_audit_memory
from onesense.bias.scoring.scorer import ScoringSettings
from onesense.errors import DeviceError
from onesense.model.language_model import LanguageModel
from onesense.model.load import load_model, save_model
from onesense.model.memory import MemoryNeeded, weights_in_memory
from onesense.sae.load import load_dictionary
from onesense.steer.edit import Edit, Operation
from onesense.steer.intervention import EditGroup
from onesense.steer.recipe import make_recipe
from peak_memory import run_measured

QUICK = AuditSettings(suite="quick")


def test_the_estimate_is_held_to(tmp_path: Path) -> None:
    asked = ["audit", "demo", "--benchmark", "gender-facts-held-out", "--draws", "1000", "--quiet"]
    said, taken = run_measured([*asked, "--run-folder", str(tmp_path / "run")])
    found = re.search(r"about ([\d.]+) GB of memory", said)
    assert found, said
    assert 0.6 < taken / float(found[1]) < 1.15


def test_more_takes_more(demo_model: LanguageModel) -> None:
    dictionary = load_dictionary(release="demo", sae_id="blocks.15.hook_resid_post")
    group = EditGroup(dictionary, [Edit(feature=460, operation=Operation.SCALE, value=0.3)])
    recipe = make_recipe(demo_model, [group])
    plain = estimate_audit_memory(demo_model, [None], QUICK)
    edited = estimate_audit_memory(demo_model, [None, recipe], QUICK)
    tensors = sum(tensor.nbytes for tensor in dictionary.tensors().values())
    assert (plain.dictionaries, edited.dictionaries) == (0, tensors)
    assert estimate_audit_memory(demo_model, [recipe, recipe], QUICK).dictionaries == tensors
    windows = estimate_audit_memory(demo_model, [None], AuditSettings(benchmarks=("wikitext2",)))
    larger = replace(QUICK, scoring=ScoringSettings(batch_tokens=2048))
    assert windows.activations > plain.activations
    assert estimate_audit_memory(demo_model, [None], larger).activations > windows.activations


def test_weights_on_disk_take_no_memory(
    tiny_llama: LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ONESENSE_CACHE", str(tmp_path / "cache"))
    folder = save_model(tiny_llama, tmp_path / "model")
    names = ("embed_tokens", "rotary_emb", "norm", "layers.0")
    places: dict[str, int | str] = {f"model.{name}": "cpu" for name in names}
    places |= {"model.layers.1": "disk", "model.layers.2": "disk", "lm_head": "cpu"}
    spread = load_model(str(folder), device_map=places)
    block = sum(weight.nbytes for weight in tiny_llama.hf.get_submodule("model.layers.1").parameters())
    assert weights_in_memory(spread) == weights_in_memory(tiny_llama) - 2 * block


def test_what_there_is_no_room_for_is_refused_unless_forced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=10**9))
    huge = MemoryNeeded(10**9, 10**13, 0, 5)
    with pytest.raises(DeviceError, match=r"about 10001 GB of memory .* GB are free") as told:
        huge.require(force=False)
    assert "--device-map" in (told.value.hint or "")
    huge.require(force=True)
