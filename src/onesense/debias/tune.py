"""Tune: learn the amounts of chosen features by gradient through the frozen model, within a KL budget."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from onesense.debias.objective import Losses, Objective
from onesense.debias.tunable import Tunable
from onesense.errors import FormatError, NotFoundError, NumericalError
from onesense.store.atomic import write_tensors
from onesense.store.tensor_file import read_metadata, read_tensors

_WARM_UP = 5
_LAST_RATE = 0.1
_SMOOTHING = 0.8
_PRICE_RATE = 0.06
_PATIENCE = 3
_CHECKPOINT_EVERY = 10
_ADAM = ("exp_avg", "exp_avg_sq")


@dataclass(frozen=True, slots=True)
class TuneSettings:
    """How amounts are learned.

    Attributes:
        steps: Steps; in a run of debias those of the middle budget, from which the others go on with half as many.
        learning_rate: Of Adam, at its highest.
        facts_weight: What a squared nat of margin lost costs, beside the bias, which begins at 1.
        price: What a nat per token of divergence costs to begin with; it rises where the budget is overdrawn
            and falls where it is not used up.
    """

    steps: int = 40
    learning_rate: float = 0.03
    facts_weight: float = 0.3
    price: float = 20.0


@dataclass(frozen=True, slots=True)
class StepReport:
    """How tuning stands.

    Attributes:
        step: Steps done.
        steps: Steps wanted.
        bias: Variance of the log-odds as a share of the unedited model's, smoothed.
        facts: Mean squared loss of margin in nats², smoothed.
        kl: Divergence in nats per token, smoothed.
    """

    step: int
    steps: int
    bias: float
    facts: float
    kl: float


def tune(
    tunable: Tunable,
    objective: Objective,
    *,
    budget: float,
    settings: TuneSettings,
    checkpoint: Path | None = None,
    identity: str = "",
    report: Callable[[StepReport], None] | None = None,
) -> list[StepReport]:
    """Learn the amounts; an interrupted call goes on from its checkpoint, to the same amounts.

    Args:
        tunable: What is learned; changed in place.
        objective: What is made small.
        budget: KL divergence per token that should not be exceeded, in nats.
        settings: How.
        checkpoint: File that keeps the state, or None.
        identity: What the checkpoint belongs to; one of something else is not used.
        report: Told after each step.

    Returns:
        The report of every step of this call.

    Raises:
        NumericalError: The loss was NaN or infinite again and again, at ever smaller steps.
    """
    loop = _Loop(tunable, objective, budget, settings)
    first = loop.load(checkpoint, identity) if checkpoint is not None else 0
    reports = []
    for step in range(first, settings.steps):
        reports.append(loop.step(step))
        if report is not None:
            report(reports[-1])
        last = step + 1 == settings.steps
        if checkpoint is not None and (last or (step + 1) % _CHECKPOINT_EVERY == 0):
            loop.save(checkpoint, identity, step + 1)
    return reports


class _Loop:
    def __init__(self, tunable: Tunable, objective: Objective, budget: float, settings: TuneSettings) -> None:
        self.tunable, self.objective, self.budget, self.settings = tunable, objective, budget, settings
        self.optimizer = torch.optim.Adam(tunable.parameters, lr=settings.learning_rate)
        self.price = settings.price
        self.smooth: Losses | None = None
        self.slower = 1.0
        self.failures = 0
        self.good = tunable.state()

    def step(self, step: int) -> StepReport:
        """One step; one that gives NaN is undone, and the next ones are smaller."""
        for group in self.optimizer.param_groups:
            group["lr"] = self._rate(step) * self.slower
        self.optimizer.zero_grad()
        losses = self.objective.backward(
            step, self.tunable.edited, facts=self.settings.facts_weight, kl=self.price
        )
        if self._finite(losses):
            self.good = self.tunable.state()
            self.failures = 0
            self.optimizer.step()
            self._account(losses)
        else:
            self._undo(step)
        smooth = self.smooth or losses
        return StepReport(
            step + 1, self.settings.steps, float(smooth.bias), float(smooth.facts), float(smooth.kl)
        )

    def _rate(self, step: int) -> float:
        warm = min(1.0, (step + 1) / _WARM_UP)
        cosine = 0.5 * (1 + math.cos(math.pi * step / self.settings.steps))
        return self.settings.learning_rate * warm * (_LAST_RATE + (1 - _LAST_RATE) * cosine)

    def _finite(self, losses: Losses) -> bool:
        gradients = [parameter.grad for parameter in self.tunable.parameters]
        return all(bool(loss.isfinite()) for loss in losses) and all(
            gradient is None or bool(gradient.isfinite().all()) for gradient in gradients
        )

    def _account(self, losses: Losses) -> None:
        """Smooth the losses, and let the price follow how much of the budget is used."""
        before = self.smooth
        self.smooth = (
            losses
            if before is None
            else Losses(
                *(_SMOOTHING * old + (1 - _SMOOTHING) * new for old, new in zip(before, losses, strict=True))
            )
        )
        used = float(self.smooth.kl) / self.budget
        self.price *= math.exp(_PRICE_RATE * max(-1.0, min(1.0, math.log(max(used, 1e-6)))))

    def _undo(self, step: int) -> None:
        self.failures += 1
        if self.failures >= _PATIENCE:
            raise NumericalError(
                f"Tuning gave NaN {_PATIENCE} times in a row at step {step + 1}.",
                hint="Load the model in float32, or tune with a smaller learning rate.",
            )
        self.tunable.restore(self.good)
        self.optimizer.state.clear()
        self.slower /= 2

    def save(self, path: Path, identity: str, done: int) -> None:
        """Write amounts, Adam's memory and the price."""
        tensors: dict[str, Tensor] = dict(self.tunable.state())
        for number, parameter in enumerate(self.tunable.parameters):
            for name in _ADAM:
                memory = self.optimizer.state[parameter].get(name)
                tensors[f"{name}.{number}"] = torch.zeros_like(parameter) if memory is None else memory
        smooth = self.smooth or Losses(*(torch.tensor(math.nan) for _ in range(3)))
        tensors["numbers"] = torch.tensor(
            [self.price, self.slower, *(float(loss) for loss in smooth)], dtype=torch.float64
        )
        write_tensors(
            path,
            {name: tensor.cpu() for name, tensor in tensors.items()},
            {"of": identity, "done": str(done)},
        )

    def load(self, path: Path, identity: str) -> int:
        """Take the state from a checkpoint of the same work; how many steps are done."""
        try:
            metadata, arrays = read_metadata(path), read_tensors(path, own=True)
        except (NotFoundError, FormatError):
            return 0
        if metadata.get("of") != identity:
            return 0
        tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
        self.tunable.restore(tensors)
        done = int(metadata["done"])
        for number, parameter in enumerate(self.tunable.parameters):
            self.optimizer.state[parameter] = {
                "step": torch.tensor(float(done)),
                **{name: tensors[f"{name}.{number}"].to(parameter.device) for name in _ADAM},
            }
        self.price, self.slower, *smooth = tensors["numbers"].tolist()
        self.smooth = None if math.isnan(smooth[0]) else Losses(*(torch.tensor(one) for one in smooth))
        self.good = self.tunable.state()
        return done
