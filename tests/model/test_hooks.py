"""Hooks that write: only for their thread, only for their time."""

from __future__ import annotations

import threading

import pytest
import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from onesense.errors import HookPointError, IncompatibleError
from onesense.model.hook_points import HookPoint
from onesense.model.hooks import writing
from onesense.model.language_model import LanguageModel
from onesense.model.positions import Positions

POINT = HookPoint.parse("blocks.1.hook_resid_post")
IDS = torch.tensor([[1, 2, 3, 4]])


@pytest.fixture(scope="module")
def model() -> LanguageModel:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=50, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2
    )
    return LanguageModel.from_hf(LlamaForCausalLM(config), None, "tiny")


def _shift(hidden: Tensor, positions: Positions) -> Tensor:
    return hidden + 1


def _logits(model: LanguageModel) -> Tensor:
    with torch.no_grad():
        return model.hf(IDS).logits


def _hooks(model: LanguageModel) -> int:
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.hf.modules())


@pytest.mark.parametrize(
    "name",
    [
        "blocks.0.hook_resid_pre",
        "blocks.1.hook_resid_mid",
        "blocks.1.hook_mlp_out",
        "blocks.0.attn.hook_z",
        "blocks.0.mlp.hook_post",
    ],
)
def test_what_is_written_moves_the_logits_and_goes_away(model: LanguageModel, name: str) -> None:
    plain, count = _logits(model), _hooks(model)
    widths = []

    def write(hidden: Tensor, positions: Positions) -> Tensor:
        widths.append(hidden.shape[-1])
        return hidden + torch.arange(hidden.shape[-1])

    point = HookPoint.parse(name)
    with writing(model, {point: write}) as firings:
        written = _logits(model)
    assert widths == [model.resolve(point).width]
    assert firings.counts == {point: 1}
    assert not torch.equal(plain, written)
    assert _hooks(model) == count
    assert torch.equal(_logits(model), plain)


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_hooks_go_away_after_an_error(model: LanguageModel, error: type[BaseException]) -> None:
    plain, count = _logits(model), _hooks(model)

    def fail(hidden: Tensor, positions: Positions) -> Tensor:
        raise error

    with pytest.raises(error), writing(model, {POINT: fail}):
        _logits(model)
    assert _hooks(model) == count
    assert torch.equal(_logits(model), plain)


def test_a_hook_that_cannot_be_placed_leaves_none_behind(model: LanguageModel) -> None:
    count = _hooks(model)
    with pytest.raises(HookPointError), writing(model, {POINT: _shift, POINT.at_layer(9): _shift}):
        pass
    assert _hooks(model) == count


def test_another_threads_plain_run_is_not_touched(model: LanguageModel) -> None:
    plain, seen = _logits(model), []
    with writing(model, {POINT: _shift}) as firings:
        thread = threading.Thread(target=lambda: seen.append(_logits(model)))
        thread.start()
        thread.join()
    assert torch.equal(seen[0], plain)
    assert firings.counts[POINT] == 0


def test_a_second_thread_that_writes_waits_for_the_first(model: LanguageModel) -> None:
    order: list[str] = []
    ready = threading.Event()

    def second() -> None:
        ready.set()
        with writing(model, {POINT: _shift}):
            order.append("second")

    thread = threading.Thread(target=second)
    with writing(model, {POINT: _shift}):
        thread.start()
        ready.wait(10)
        _logits(model)
        order.append("first")
    thread.join(10)
    assert order == ["first", "second"]


def test_blocks_may_be_nested(model: LanguageModel) -> None:
    with writing(model, {POINT: _shift}), writing(model, {POINT: _shift}):
        nested = _logits(model)
    with writing(model, {POINT: lambda hidden, _: hidden + 2}):
        assert torch.allclose(nested, _logits(model), atol=1e-6)


def test_running_a_block_by_itself_is_refused(model: LanguageModel) -> None:
    module = model.resolve(POINT).module
    with writing(model, {POINT: _shift}):
        _logits(model)
        with pytest.raises(IncompatibleError, match="shape"):
            module(torch.zeros(1, 9, 16), position_embeddings=(torch.ones(1, 9, 8), torch.zeros(1, 9, 8)))


def test_a_hook_that_never_ran_is_told(model: LanguageModel) -> None:
    with writing(model, {POINT: _shift}) as firings:
        pass
    with pytest.raises(HookPointError, match="never ran"):
        firings.require_all(model)
