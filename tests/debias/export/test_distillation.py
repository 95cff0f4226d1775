"""A LoRA distilled from a hooked model comes close to it, and survives a loss that is not a number."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from onesense.debias.export import distillation
from onesense.debias.export.distillation import (
    DistillationSettings,
    Distilled,
    distil,
    first_adapted_block,
)
from onesense.debias.export.texts import TextSettings, read_prompts, read_text
from onesense.errors import NumericalError
from onesense.model.hook_points import HookPoint
from onesense.model.language_model import LanguageModel
from onesense.steer.apply import applied
from onesense.steer.edit import Operation
from onesense.steer.intervention import Intervention
from small_recipes import PROMPTS, group_of

POINT = "blocks.1.hook_resid_post"


def fit(model: LanguageModel, text_file: Path, point: str = POINT, **settings: float) -> Distilled:
    text = read_text(
        model, TextSettings(source=str(text_file), context_size=32, validation_windows=4), rows=4
    )
    prompts = read_prompts(model, PROMPTS, rows=8)
    edits = [Intervention(model, group_of(point, Operation.SCALE, 0.0))]
    chosen = DistillationSettings(**{"rank": 4, "steps": 25, "rows": 4, "check_every": 8, **settings})  # type: ignore[arg-type]
    return distil(model, edits, text, prompts, chosen)


@pytest.mark.parametrize(
    ("family", "point"),
    [
        ("llama", POINT),
        ("gpt2", POINT),
        ("gpt_neox", POINT),
        ("gemma2", POINT),
        ("llama", "blocks.0.hook_resid_pre"),
    ],
)
def test_it_comes_close(
    family: str,
    point: str,
    tiny_model: Callable[[str], LanguageModel],
    text_file: Path,
    random_ids: torch.Tensor,
) -> None:
    model = tiny_model(family)
    before = {name: tensor.clone() for name, tensor in model.hf.state_dict().items()}
    found = fit(model, text_file, point, learning_rate=5e-3)
    start, best = found.checks[0], found.best
    assert start.step == 0
    assert best.text < 0.8 * start.text
    assert best.prompts < 0.8 * start.prompts
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.hf.state_dict().items())
    merged = found.adapted.merge_and_unload()
    with torch.no_grad():
        assert (merged(random_ids).logits - model.hf(random_ids).logits).abs().max() > 1e-3


def test_it_starts_as_the_plain_model_and_adapts_the_end_only(
    tiny_llama: LanguageModel, text_file: Path
) -> None:
    found = fit(tiny_llama, text_file, "blocks.2.hook_resid_pre", steps=1, learning_rate=1e-12)
    assert found.first_block == 1
    names = [name for name, weight in found.adapted.named_parameters() if weight.requires_grad]
    assert names
    assert all(".layers.1." in name or ".layers.2." in name for name in names)
    assert sum(".layers.1." in name for name in names) == 14
    ids = torch.tensor([[256, 1, 2, 3]])
    with torch.no_grad():
        torch.testing.assert_close(found.adapted(ids).logits, tiny_llama.hf(ids).logits)


def test_the_cached_pass_is_the_whole_pass(tiny_llama: LanguageModel, text_file: Path) -> None:
    """KL at step 0, from kept hidden states, against two whole passes."""
    found = fit(tiny_llama, text_file, steps=1, learning_rate=1e-12)
    text = read_text(
        tiny_llama, TextSettings(source=str(text_file), context_size=32, validation_windows=4), rows=4
    )
    edits = [Intervention(tiny_llama, group_of(POINT, Operation.SCALE, 0.0))]
    total, tokens = 0.0, 0
    for batch in text.validation:
        with torch.no_grad():
            with applied(tiny_llama, edits, warn=False):
                wanted = tiny_llama.hf(batch.ids).logits.double().log_softmax(-1)
            plain = tiny_llama.hf(batch.ids).logits.double().log_softmax(-1)
        kl = (wanted.exp() * (wanted - plain)).sum(-1)
        total += float(kl[batch.attention_mask == 1].sum())
        tokens += int(batch.attention_mask.sum())
    assert total > 0
    assert found.checks[0].text == pytest.approx(total / tokens, rel=1e-4)


def test_the_same_seed_gives_the_same_adapters(tiny_llama: LanguageModel, text_file: Path) -> None:
    torch.manual_seed(1)
    first = fit(tiny_llama, text_file, steps=4)
    torch.manual_seed(2)
    second, third = fit(tiny_llama, text_file, steps=4), fit(tiny_llama, text_file, steps=4, seed=1)
    states = [
        torch.cat([weight.flatten() for weight in one.adapted.parameters() if weight.requires_grad])
        for one in (first, second, third)
    ]
    assert torch.equal(states[0], states[1])
    assert not torch.equal(states[0], states[2])


def broken_losses(monkeypatch: pytest.MonkeyPatch, bad: Callable[[int], bool]) -> None:
    true, calls = distillation._Fit._loss, iter(range(1000))

    def loss(self: distillation._Fit, feeds: object) -> torch.Tensor:
        number = next(calls)
        if bad(number):
            with torch.no_grad():
                for weight in self._weights:
                    weight.fill_(math.inf)
        return true(self, feeds)  # type: ignore[arg-type]

    monkeypatch.setattr(distillation._Fit, "_loss", loss)


def test_a_loss_of_nan_restores_the_last_good_step(
    tiny_llama: LanguageModel, text_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken_losses(monkeypatch, lambda number: number == 12)
    found = fit(tiny_llama, text_file, learning_rate=5e-3)
    assert found.recoveries == 1
    assert found.best.text < 0.9 * found.checks[0].text
    assert all(math.isfinite(check.text) for check in found.checks)


def test_a_loss_that_stays_nan_is_refused(
    tiny_llama: LanguageModel, text_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken_losses(monkeypatch, lambda _number: True)
    with pytest.raises(NumericalError, match="NaN or infinite 6 times"):
        fit(tiny_llama, text_file)


def test_the_block_that_writes_a_hook_point() -> None:
    points = (
        "blocks.5.hook_resid_post",
        "blocks.5.hook_resid_pre",
        "blocks.0.hook_resid_pre",
        "blocks.5.mlp.hook_post",
    )
    assert [first_adapted_block(HookPoint.parse(point)) for point in points] == [5, 4, 0, 5]
