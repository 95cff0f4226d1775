"""The activation stream: resumable, shuffled, memory-bounded (sae.md 3: 1, 14, 28, 47)."""

from __future__ import annotations

from collections import Counter
from itertools import islice
from pathlib import Path

import pytest
import torch

from onesense.errors import ConfigurationError, NumericalError
from onesense.model.capture import capture
from onesense.model.hook_points import HookPoint
from onesense.model.language_model import LanguageModel
from onesense.sae.activations import (
    ActivationStream,
    HarvestSettings,
    harvest,
    shard_name,
    usable_positions,
)
from onesense.store.run_folder import RunFolder
from onesense.text.corpus import Document
from onesense.text.windows import batch_windows, iter_windows
from tiny_models import tiny_hf

POINT = HookPoint(1, "hook_resid_post")
OTHER = HookPoint(0, "mlp.hook_post")
SIZES = HarvestSettings(context_size=17, windows_per_shard=8, windows_per_batch=3)
TEXTS = [Document(index, str(index), chr(97 + index) * (40 + 13 * index)) for index in range(12)]


def new_run(folder: Path) -> RunFolder:
    return RunFolder.create_or_resume(folder, command="test", configuration={}, provenance={})


@pytest.fixture
def run(tmp_path: Path, tiny_gpt2: LanguageModel) -> RunFolder:
    run = new_run(tmp_path / "run")
    harvest(tiny_gpt2, [POINT, OTHER], TEXTS, run, SIZES)
    return run


def shards_of(run: RunFolder) -> list[int]:
    return [index for index in range(1000) if run.has_result(shard_name(POINT, index))]


def test_shards_hold_the_activations_of_content_alone(run: RunFolder, tiny_gpt2: LanguageModel) -> None:
    first = list(islice(iter_windows(tiny_gpt2, TEXTS, context_size=17), 8))
    batch = batch_windows(tiny_gpt2, first)
    found = capture(tiny_gpt2, batch, [POINT, OTHER])
    usable = usable_positions(found[OTHER], usable_positions(found[POINT], batch.content))
    stored = torch.from_numpy(run.read_result(shard_name(POINT, 0))["activations"])
    assert stored.shape[1] == 32
    assert int(batch.content.sum()) >= len(stored) > 0.8 * int(batch.content.sum())
    if len(stored) == int(usable.sum()):
        torch.testing.assert_close(stored, found[POINT][usable], rtol=1e-2, atol=1e-2)
    other = run.read_result(shard_name(OTHER, 0))["activations"]
    assert other.shape == (len(stored), 128)


def test_outliers_are_left_out() -> None:
    activation = torch.ones(1, 6, 4)
    activation[0, 2] = 100.0
    content = torch.tensor([[False, True, True, True, True, True]])
    assert usable_positions(activation, content).tolist() == [[False, True, False, True, True, True]]
    assert not usable_positions(activation, torch.zeros_like(content)).any()


def test_a_second_harvest_computes_nothing_and_keeps_the_bytes(
    run: RunFolder, tiny_gpt2: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {path: path.read_bytes() for path in run.path.rglob("*.safetensors")}
    victim = run.result_path(shard_name(POINT, 1))
    victim.unlink()
    passes: list[int] = []
    real = capture

    def counted(*arguments: object) -> object:
        passes.append(1)
        return real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr("onesense.sae.activations.capture", counted)
    harvest(tiny_gpt2, [POINT, OTHER], TEXTS, run, SIZES)
    assert len(passes) == 3
    assert {path: path.read_bytes() for path in run.path.rglob("*.safetensors")} == before


def test_an_epoch_gives_every_row_once_in_another_order_each_time(run: RunFolder) -> None:
    shards = shards_of(run)
    rows = sum(len(run.read_result(shard_name(POINT, shard))["activations"]) for shard in shards)
    stream = ActivationStream(run, POINT, shards, batch_size=1, seed=5, shards_per_group=2)
    first, second = (torch.cat(list(islice(stream, rows))) for _ in range(2))
    assert Counter(map(tuple, first.tolist())) == Counter(map(tuple, second.tolist()))
    assert not torch.equal(first, second)
    ordered = torch.cat(
        [torch.from_numpy(run.read_result(shard_name(POINT, s))["activations"]) for s in shards]
    )
    assert Counter(map(tuple, first.tolist())) == Counter(map(tuple, ordered.tolist()))
    assert not torch.equal(first, ordered)


def test_a_stream_goes_on_exactly_where_another_stopped(run: RunFolder) -> None:
    def stream(position: int) -> ActivationStream:
        return ActivationStream(
            run, POINT, shards_of(run), batch_size=7, seed=1, shards_per_group=2, position=position
        )

    whole = list(islice(stream(0), 60))
    for position in (1, 5, 17, 40):
        resumed = list(islice(stream(position), 60 - position))
        assert all(torch.equal(a, b) for a, b in zip(whole[position:], resumed, strict=True))


def test_no_more_than_a_group_is_in_memory(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = ActivationStream(run, POINT, shards_of(run), batch_size=4, seed=0, shards_per_group=1)
    largest = 0
    real = torch.cat

    def measured(tensors: list[torch.Tensor], *arguments: object) -> torch.Tensor:
        nonlocal largest
        largest = max(largest, len(tensors))
        return real(tensors, *arguments)  # type: ignore[call-overload]

    monkeypatch.setattr("onesense.sae.activations.torch.cat", measured)
    list(islice(stream, 50))
    assert largest == 1


def test_text_too_short_says_so(run: RunFolder, tiny_gpt2: LanguageModel, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="holds no token"):
        harvest(tiny_gpt2, [POINT], [Document(0, "", "")], new_run(tmp_path / "empty"), SIZES)
    with pytest.raises(ConfigurationError, match="fewer activations than one batch"):
        next(ActivationStream(run, POINT, shards_of(run), batch_size=100_000, seed=0))


def test_nan_in_a_model_stops_the_harvest(tmp_path: Path, byte_tokenizer: object) -> None:
    hf = tiny_hf("gpt2")
    with torch.no_grad():
        hf.transformer.h[0].mlp.c_fc.bias[0] = float("nan")
    broken = LanguageModel.from_hf(hf, byte_tokenizer, "broken")  # type: ignore[arg-type]
    run = new_run(tmp_path / "run")
    with pytest.raises(NumericalError, match="document 0"):
        harvest(broken, [POINT], TEXTS, run, SIZES)
    assert not run.results()


@pytest.mark.parametrize("spoiled", [b"", b"short", None])
def test_a_damaged_shard_is_harvested_again(
    run: RunFolder, tiny_gpt2: LanguageModel, spoiled: bytes | None
) -> None:
    victim = run.result_path(shard_name(POINT, 1))
    before = victim.read_bytes()
    changed = bytearray(before)
    changed[-3] ^= 1
    victim.write_bytes(bytes(changed) if spoiled is None else spoiled)
    harvest(tiny_gpt2, [POINT, OTHER], TEXTS, run, SIZES)
    assert victim.read_bytes() == before
