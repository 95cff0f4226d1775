"""A model spread over devices and disk gives what it gives on one device; what cannot work there is refused."""

from __future__ import annotations

import gc
import os
import pickle
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from onesense.bias.scoring.requests import Request
from onesense.bias.scoring.scorer import ModelScorer, ScoringSettings
from onesense.config import cache_directory, load_settings
from onesense.debias.attribution import contrast_attributions
from onesense.debias.contrasts import Contrast
from onesense.debias.export.copies import copy_of
from onesense.errors import ConfigurationError, DeviceError, IncompatibleError, StorageError
from onesense.model.capture import capture
from onesense.model.hook_points import HookPoint
from onesense.model.language_model import LanguageModel
from onesense.model.load import load_model, save_model
from onesense.model.placement import offload_folder
from onesense.model.reopen import reopen_model
from onesense.model.tokens import pad_batch
from onesense.model.unembedding import unembedding
from onesense.steer.edit import Operation
from onesense.steer.generate import generate, sweep
from onesense.steer.sampling import GREEDY
from small_recipes import PROMPTS, dictionary_at, group_of

NAMES = {
    "gpt2": ("transformer.wte", "transformer.wpe", "transformer.h", "transformer.ln_f", "lm_head"),
    "llama": ("model.embed_tokens", "model.rotary_emb", "model.layers", "model.norm", "lm_head"),
}
POINTS = [
    HookPoint(0, "hook_resid_pre"),
    HookPoint(1, "hook_resid_post"),
    HookPoint(2, "hook_resid_pre"),
    HookPoint(2, "mlp.hook_post"),
    HookPoint(2, "attn.hook_z"),
]
GROUPS = [
    group_of("blocks.1.hook_resid_post", Operation.SCALE, 0.3),
    group_of("blocks.2.hook_resid_post", Operation.DIRECTION_ADD, 2.0),
]


def device_map(family: str, *, blocks: str = "disk", rest: str = "cpu") -> dict[str, str]:
    """Block 0 stays where the rest is; the norm and the later blocks go elsewhere."""
    body = {name: rest for name in NAMES[family] if name != NAMES[family][2]}
    layers = {f"{NAMES[family][2]}.{index}": rest if index == 0 else blocks for index in range(3)}
    return body | layers | {NAMES[family][3]: blocks}


@pytest.fixture(scope="module", params=sorted(NAMES))
def pair(
    request: pytest.FixtureRequest,
    tiny_model: Callable[[str], LanguageModel],
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[LanguageModel, LanguageModel]:
    """The model in memory, and with most of it on disk."""
    folder = save_model(tiny_model(request.param), tmp_path_factory.mktemp("spread") / "model")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ONESENSE_CACHE", str(tmp_path_factory.mktemp("cache")))
        spread = load_model(str(folder), device_map=device_map(request.param))
    return load_model(str(folder), device="cpu"), spread


def test_it_is_spread(pair: tuple[LanguageModel, LanguageModel]) -> None:
    plain, spread = pair
    assert (plain.spread, plain.offloaded) == (False, False)
    assert (spread.spread, spread.offloaded, spread.device.type) == (True, True, "cpu")


def test_the_same_activations(pair: tuple[LanguageModel, LanguageModel]) -> None:
    plain, spread = pair
    rows = [[256, *range(20, 40)], [256, 7, 8]]
    wanted = capture(plain, pad_batch(plain, rows), POINTS)
    found = capture(spread, pad_batch(spread, rows), POINTS)
    for point in POINTS:
        assert torch.equal(found[point], wanted[point]), point


def test_the_same_fingerprint_and_unembedding(pair: tuple[LanguageModel, LanguageModel]) -> None:
    plain, spread = pair
    assert spread.fingerprint == plain.fingerprint
    for convention in ("folded", "raw"):
        assert torch.equal(
            unembedding(spread, convention=convention), unembedding(plain, convention=convention)
        )


def test_the_same_text(pair: tuple[LanguageModel, LanguageModel]) -> None:
    made = [
        generate(model, PROMPTS[0], GROUPS, samples=2, max_new_tokens=8, use_cache=cache).to_json()
        for model in pair
        for cache in (True, False)
    ]
    assert made[0]["steered"] != made[0]["unsteered"]
    for other in made[1:]:
        assert (other["steered"], other["unsteered"]) == (made[0]["steered"], made[0]["unsteered"])
    swept = [
        sweep(model, PROMPTS[1], GROUPS, [0.0, 1.0], sampling=GREEDY, max_new_tokens=5).to_json()
        for model in pair
    ]
    assert swept[0] == swept[1]


@pytest.mark.parametrize("settings", [ScoringSettings(), ScoringSettings(trees=False, resume=False)])
def test_the_same_scores(pair: tuple[LanguageModel, LanguageModel], settings: ScoringSettings) -> None:
    requests = [Request(f" she was here {number}.", prompt) for number, prompt in enumerate(PROMPTS)]
    found = []
    for model in pair:
        scorer = ModelScorer(model, [None, GROUPS], settings=settings)
        plain = ModelScorer(model, settings=settings)
        found.append((scorer.score(requests), plain.score(requests), scorer.divergence(requests)))
    assert found[0] == found[1]


def test_threads_that_read_at_once(pair: tuple[LanguageModel, LanguageModel]) -> None:
    plain, spread = pair
    rows = [[[256, *range(start, start + 30)]] for start in range(8)]
    found: dict[int, torch.Tensor] = {}

    def read(number: int) -> None:
        for _ in range(5):
            found[number] = capture(spread, pad_batch(spread, rows[number]), POINTS[3:4])[POINTS[3]]

    threads = [threading.Thread(target=read, args=(number,)) for number in range(len(rows))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number, row in enumerate(rows):
        assert torch.equal(found[number], capture(plain, pad_batch(plain, row), POINTS[3:4])[POINTS[3]])


def test_another_process_gets_it_spread(pair: tuple[LanguageModel, LanguageModel]) -> None:
    reopen_model.cache_clear()
    again = pickle.loads(pickle.dumps(pair[1]))  # noqa: S301
    assert again.device_map == pair[1].device_map
    assert again.offloaded
    assert again.fingerprint == pair[0].fingerprint
    reopen_model.cache_clear()


def test_another_number_format(pair: tuple[LanguageModel, LanguageModel]) -> None:
    plain, spread = (model.copy_as(torch.bfloat16) for model in pair)
    assert spread.offloaded
    assert spread.dtype == torch.bfloat16
    assert spread.fingerprint == plain.fingerprint
    point = HookPoint(2, "hook_resid_pre")
    rows = [[256, *range(30)]]
    wanted = capture(plain, pad_batch(plain, rows), [point])[point]
    torch.testing.assert_close(
        capture(spread, pad_batch(spread, rows), [point])[point], wanted, atol=0.05, rtol=0.05
    )


def test_refused_with_the_reason(pair: tuple[LanguageModel, LanguageModel], tmp_path: Path) -> None:
    spread = pair[1]
    with pytest.raises(IncompatibleError, match="cannot be saved"):
        save_model(spread, tmp_path / "saved")
    with pytest.raises(IncompatibleError, match="cannot be copied to be changed"):
        copy_of(spread)
    contrast = Contrast(PROMPTS[0], "she", "he", PROMPTS[0], PROMPTS[0], "all", 0)
    with pytest.raises(IncompatibleError, match="gradients through them"):
        contrast_attributions(spread, [dictionary_at("blocks.1.hook_resid_post")], [contrast])


def test_auto_on_one_device_is_the_plain_model(pair: tuple[LanguageModel, LanguageModel]) -> None:
    if torch.cuda.is_available() or torch.backends.mps.is_available():
        pytest.skip("auto takes the GPU")
    model = load_model(pair[0].name, device_map="auto")
    assert not model.spread
    assert not any((cache_directory() / "offload").glob(f"{os.getpid()}-*/*"))


@pytest.mark.parametrize(
    ("device_map", "device", "error", "said"),
    [
        ("auto", "cpu", ConfigurationError, "not both"),
        ("cpu", "auto", ConfigurationError, "balanced_low_0"),
        ({}, "auto", ConfigurationError, "empty"),
        ({"model": "nowhere"}, "auto", ConfigurationError, "`nowhere`"),
        ({"model": "cuda:99"}, "auto", DeviceError, "does not exist"),
        ({"model.embed_tokens": "disk"}, "auto", ConfigurationError, "every module"),
    ],
)
def test_bad_maps(
    device_map: str | dict[str, str],
    device: str,
    error: type[Exception],
    said: str,
    tiny_llama: LanguageModel,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ONESENSE_CACHE", str(tmp_path / "cache"))
    folder = save_model(tiny_llama, tmp_path / "model")
    with pytest.raises(error, match=said):
        load_model(str(folder), device=device, device_map=device_map)
    assert not any(tmp_path.glob("cache/offload/*"))


def test_the_folder_goes_with_the_model(
    tiny_llama: LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ONESENSE_CACHE", str(tmp_path / "cache"))
    left = tmp_path / "cache" / "offload" / f"{2**22 + 1}-left"  # no process has a number so high
    left.mkdir(parents=True)
    folder = save_model(tiny_llama, tmp_path / "model")
    model = load_model(str(folder), device_map=device_map("llama"))
    assert not left.exists()
    assert len(list(tmp_path.glob("cache/offload/*"))) == 1
    del model
    gc.collect()
    assert not any(tmp_path.glob("cache/offload/*"))


def test_no_room_for_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cache").write_text("")
    monkeypatch.setenv("ONESENSE_CACHE", str(tmp_path / "cache"))
    with pytest.raises(StorageError, match="ONESENSE_CACHE"):
        offload_folder()


def test_the_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ONESENSE_DEVICE_MAP", "balanced")
    assert load_settings().device_map == "balanced"
    with pytest.raises(ConfigurationError, match="device_map"):
        load_settings(device_map="everywhere")
