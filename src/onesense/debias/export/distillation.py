"""Distil a hooked model into a LoRA: adapters that make the plain model predict what the hooked one predicts.

Minimises KL(hooked || adapted) on ordinary text, at every position, and on prompts where the edits act most, at
the last position. LoRA: Hu et al. 2021, arXiv:2106.09685; B starts at 0, so the fit starts at the plain model.
Blocks before the first edit are the same in both, so their output is computed once for each text and kept.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple

import torch
from interp_engine.arch import resolve_arch
from pydantic import Field
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from onesense.debias.export.copies import copy_of, quiet_peft
from onesense.debias.export.divergence import kl_by_position, last_positions
from onesense.debias.export.tail import entering, keeping
from onesense.debias.export.texts import ExportText
from onesense.engine.stages import Silent, Stages
from onesense.errors import IncompatibleError, NumericalError
from onesense.model.capture import forward_arguments
from onesense.model.hook_points import HookPoint
from onesense.model.language_model import LanguageModel
from onesense.model.tokens import TokenBatch
from onesense.steer.apply import applied
from onesense.steer.checked import Checked
from onesense.steer.intervention import Intervention

_WARM_UP = 0.05
_MOST_RECOVERIES = 5
_ADAM = {"betas": (0.9, 0.99), "eps": 1e-8}


class DistillationSettings(Checked):
    """How a LoRA is fitted.

    Attributes:
        rank: Rank of each adapter.
        steps: Optimiser steps.
        learning_rate: At its peak; warms up over 5 % of the steps and falls to 0 as a cosine.
        rows: Windows of text of a step.
        prompt_rows: Prompts of a step.
        prompt_weight: Weight of the KL on prompts beside the KL on text.
        check_every: Steps between looks at the validation part.
        target_kl: KL per token to the hooked model that the export should reach.
        seed: Of the adapters' start and of the order of texts.
    """

    rank: Annotated[int, Field(ge=1)] = 16
    steps: Annotated[int, Field(ge=1)] = 200
    learning_rate: Annotated[float, Field(gt=0)] = 3e-4
    rows: Annotated[int, Field(ge=1)] = 2
    prompt_rows: Annotated[int, Field(ge=1)] = 12
    prompt_weight: Annotated[float, Field(ge=0)] = 1.0
    check_every: Annotated[int, Field(ge=1)] = 25
    target_kl: Annotated[float, Field(gt=0)] = 0.005
    seed: Annotated[int, Field(ge=0)] = 0


class Check(NamedTuple):
    """The fit at one step, on the validation part.

    Attributes:
        step: Steps done.
        text: KL per token on text.
        prompts: KL at the last position of prompts; 0 without prompts.
    """

    step: int
    text: float
    prompts: float


@dataclass(frozen=True, slots=True, eq=False)
class Distilled:
    """A fitted LoRA.

    Attributes:
        adapted: A copy of the model with the adapters in it (a ``peft.PeftModel``).
        checks: The course of the fit; the first is the plain model.
        best: The check whose adapters are kept.
        recoveries: How often a loss was not finite and the last good step was restored.
        first_block: The first block with adapters.
    """

    adapted: Any
    checks: tuple[Check, ...]
    best: Check
    recoveries: int
    first_block: int


def first_adapted_block(point: HookPoint) -> int:
    """The block that writes what is edited at a hook point; adapters begin there."""
    return max(point.layer - 1, 0) if point.suffix == "hook_resid_pre" else point.layer


def distil(
    model: LanguageModel,
    interventions: Sequence[Intervention],
    text: ExportText,
    prompts: ExportText,
    settings: DistillationSettings,
    stages: Stages | None = None,
) -> Distilled:
    """Fit a LoRA to the hooked model; the model itself is left as it is.

    Args:
        model: The model.
        interventions: The edits, ready to run; one at least.
        text: Ordinary text.
        prompts: Texts whose last position counts; may be empty.
        settings: How to fit.
        stages: Told about progress.

    Raises:
        IncompatibleError: The blocks have no linear modules.
        NumericalError: The loss is NaN or infinite whatever the learning rate.
    """
    start = min(first_adapted_block(one.point) for one in interventions)
    fit = _Fit(model, interventions, start, settings)
    checks, recoveries = fit.run(text, prompts, stages or Silent())
    return Distilled(fit.adapted, tuple(checks), fit.best[0], recoveries, start)


class _Target(NamedTuple):
    """What is known of a batch once the hooked model has seen it.

    ``entry`` is the input of the first adapted block, ``final`` the output of the hooked model's last block, both
    [batch, seq, d_model].
    """

    batch: TokenBatch
    counted: Tensor
    entry: Tensor
    final: Tensor


class _Fit:
    """The copy with its adapters, and the optimiser."""

    def __init__(
        self,
        model: LanguageModel,
        interventions: Sequence[Intervention],
        start: int,
        settings: DistillationSettings,
    ) -> None:
        self._model, self._interventions = model, interventions
        self._start, self._settings = start, settings
        self._teacher_blocks = list(resolve_arch(model.hf, model.hf.config).decoder_layers)
        student = copy_of(model).hf
        self._blocks = list(resolve_arch(student, student.config).decoder_layers)
        self.adapted = _with_adapters(student, self._blocks, start, settings)
        self._student = student
        self._weights = [weight for weight in self.adapted.parameters() if weight.requires_grad]
        self._optimiser = self._new_optimiser()
        self._scale = 1.0
        self._targets: dict[int, _Target] = {}
        self.best: tuple[Check, list[Tensor]] = (Check(0, math.inf, math.inf), self._snapshot())

    def run(self, text: ExportText, prompts: ExportText, stages: Stages) -> tuple[list[Check], int]:
        """Fit, and leave the best adapters in the copy."""
        settings = self._settings
        order = torch.Generator().manual_seed(settings.seed)
        feeds = (_endless(text.fit, order), _endless(prompts.fit, order))
        checks, recoveries = [self._check(0, text, prompts)], 0
        good = self._snapshot()
        with stages.stage("Distilling", "steps") as progress:
            for step in range(1, settings.steps + 1):
                loss = self._loss(feeds)
                if not bool(loss.isfinite()):
                    recoveries += 1
                    self._recover(good, recoveries)
                    continue
                good = self._snapshot()
                self._step(loss, step)
                progress(step, settings.steps)
                if step % settings.check_every == 0 or step == settings.steps:
                    checks.append(self._check(step, text, prompts))
        self._restore(self.best[1])
        return checks, recoveries

    def _loss(self, feeds: Sequence[Callable[[], TokenBatch | None]]) -> Tensor:
        total = torch.zeros((), device=self._model.device)
        for feed, last_only in zip(feeds, (False, True), strict=True):
            batch = feed()
            if batch is not None:
                weight = self._settings.prompt_weight if last_only else 1.0
                total = total + weight * self._divergence(self._target(batch, last_only)).mean()
        return total

    def _step(self, loss: Tensor, step: int) -> None:
        rate = self._settings.learning_rate * self._scale * _schedule(step, self._settings.steps)
        for group in self._optimiser.param_groups:
            group["lr"] = rate
        self._optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self._weights, 1.0)
        self._optimiser.step()

    def _recover(self, good: Sequence[Tensor], recoveries: int) -> None:
        """Back to the last weights whose loss was finite, slower, without Adam's memory of what led here."""
        if recoveries > _MOST_RECOVERIES:
            raise NumericalError(
                f"The loss of the distillation was NaN or infinite {recoveries} times, at ever smaller steps.",
                hint="Lower the learning rate or the edits of the recipe, or load the model in float32.",
            )
        self._restore(good)
        self._scale /= 2
        self._optimiser = self._new_optimiser()

    def _check(self, step: int, text: ExportText, prompts: ExportText) -> Check:
        check = Check(
            step, self._mean(text.validation, last_only=False), self._mean(prompts.validation, last_only=True)
        )
        weight, kept = self._settings.prompt_weight, self.best[0]
        # NaN compares as worse.
        if check.text + weight * check.prompts < kept.text + weight * kept.prompts:
            self.best = (check, self._snapshot())
        return check

    @torch.no_grad()
    def _mean(self, batches: Sequence[TokenBatch], *, last_only: bool) -> float:
        found = [self._divergence(self._target(batch, last_only)) for batch in batches]
        return float(torch.cat(found).mean(dtype=torch.float64)) if found else 0.0

    def _divergence(self, target: _Target) -> Tensor:
        """KL of the adapted model at the counted positions, [positions]."""
        arguments = forward_arguments(target.batch)
        with torch.no_grad(), entering(self._blocks, len(self._blocks), target.final):
            wanted = self._student(**arguments).logits[target.counted]
        with entering(self._blocks, self._start, target.entry):
            found = self._student(**arguments).logits[target.counted]
        return kl_by_position(wanted, found)

    @torch.no_grad()
    def _target(self, batch: TokenBatch, last_only: bool) -> _Target:
        if id(batch) not in self._targets:
            found: dict[int, Tensor] = {}
            last = len(self._blocks)
            with (
                applied(self._model, self._interventions, warn=False),
                keeping(self._teacher_blocks, self._start, found),
                keeping(self._teacher_blocks, last, found),
            ):
                self._model.hf.base_model(**forward_arguments(batch))
            counted = last_positions(batch) if last_only else batch.attention_mask == 1
            self._targets[id(batch)] = _Target(batch, counted, found[self._start], found[last])
        return self._targets[id(batch)]

    def _new_optimiser(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self._weights, lr=self._settings.learning_rate, **_ADAM)  # type: ignore[arg-type]

    def _snapshot(self) -> list[Tensor]:
        return [weight.detach().clone() for weight in self._weights]

    @torch.no_grad()
    def _restore(self, weights: Sequence[Tensor]) -> None:
        for weight, kept in zip(self._weights, weights, strict=True):
            weight.copy_(kept)


def _with_adapters(
    student: nn.Module, blocks: Sequence[nn.Module], start: int, settings: DistillationSettings
) -> Any:
    from peft import LoraConfig, get_peft_model

    inside = {id(module) for block in blocks[start:] for module in block.modules()}
    names = [
        name
        for name, module in student.named_modules()
        if id(module) in inside and isinstance(module, nn.Linear | Conv1D)
    ]
    if not names:
        raise IncompatibleError(
            f"The blocks of this {type(student).__name__} have no linear modules to adapt.",
            hint="Keep the recipe as a hook: onesense steer and onesense audit read it.",
        )
    # The adapters start from a seed of their own and leave the global generator as it was.
    with torch.random.fork_rng(devices=[]), quiet_peft():
        torch.manual_seed(settings.seed)
        return get_peft_model(
            student,
            LoraConfig(
                r=settings.rank,
                lora_alpha=settings.rank,
                lora_dropout=0.0,
                target_modules=names,
                fan_in_fan_out=any(isinstance(module, Conv1D) for module in student.modules()),
                task_type="CAUSAL_LM",
            ),
        )


def _endless(batches: Sequence[TokenBatch], generator: torch.Generator) -> Callable[[], TokenBatch | None]:
    """One batch after the other, each once before any comes again; None where there are none."""
    waiting: list[int] = []

    def feed() -> TokenBatch | None:
        if not batches:
            return None
        if not waiting:
            waiting.extend(torch.randperm(len(batches), generator=generator).tolist())
        return batches[waiting.pop()]

    return feed


def _schedule(step: int, steps: int) -> float:
    """Share of the peak learning rate: up along a line, down along a cosine."""
    warm = max(1, round(_WARM_UP * steps))
    if step < warm:
        return step / warm
    return 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm + 1)))
