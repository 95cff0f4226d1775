"""A short fine-tune of children; everything else in the dictionary is frozen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from onesense.engine.stages import Stages
from onesense.errors import ConfigurationError, NumericalError
from onesense.senses.split.children import Children
from onesense.senses.split.split_text import Part, SplitText

_EVALUATE_EVERY = 20
_ROWS_AT_ONCE = 4096
_TINY = 1e-9


@dataclass(frozen=True, slots=True)
class RefineSettings:
    """How children are fine-tuned.

    Attributes:
        steps: Of Adam; 0 leaves the children as they are.
        batch_size: Positions of a step.
        learning_rate: As a share of what a tensor is large, falling to 0.
        sparsity: Cost of a firing too much, as a share of the squared norm that a parent's firing gives.
        bandwidth: Of the threshold's gradient, as a share of a child's mean activation (Rajamanoharan et al. 2024,
            arXiv:2407.14435).
        seed: Of the batches.
    """

    steps: int = 300
    batch_size: int = 1024
    learning_rate: float = 3e-3
    sparsity: float = 0.2
    bandwidth: float = 0.2
    seed: int = 0

    def __post_init__(self) -> None:
        if self.steps < 0 or self.batch_size < 1 or min(self.learning_rate, self.bandwidth) <= 0:
            raise ConfigurationError(
                "The fine-tune needs at least 0 steps, a batch of at least 1, and a learning rate and bandwidth "
                "above 0."
            )
        if self.sparsity < 0:
            raise ConfigurationError("The cost of a firing too much cannot be negative.")


class _Fires(torch.autograd.Function):
    """1 where a pre-activation is above the threshold; its gradient is that of a ramp around it."""

    @staticmethod
    def forward(context: torch.autograd.function.FunctionCtx, above: Tensor, bandwidth: float) -> Tensor:
        context.save_for_backward(above)
        context.bandwidth = bandwidth  # type: ignore[attr-defined]
        return (above > 0).to(above.dtype)

    @staticmethod
    def backward(context: torch.autograd.function.FunctionCtx, *gradients: Tensor) -> tuple[Tensor, None]:
        (above,) = context.saved_tensors  # type: ignore[attr-defined]
        bandwidth = context.bandwidth  # type: ignore[attr-defined]
        return gradients[0] * (above.abs() < bandwidth / 2) / bandwidth, None


class _Tuned:
    """The children of all parents as one layer, each in units of its own mean activation."""

    def __init__(self, families: Sequence[Children], text: SplitText, settings: RefineSettings) -> None:
        self.settings = settings
        self.family = torch.tensor([at for at, one in enumerate(families) for _ in range(len(one))])
        tensors = [
            torch.cat([one.W_enc for one in families], dim=1),
            torch.cat([one.b_enc for one in families]),
            torch.cat([one.threshold for one in families]),
            torch.cat([one.W_dec for one in families]),
        ]
        rows = text.rows(Part.FIT)
        latents = torch.cat([_latents(tensors, text.inputs[part]) for part in rows.split(_ROWS_AT_ONCE)])
        firing = (latents > 0).sum(0)
        mean = latents.sum(0) / firing.clamp_min(1)
        self.unit = torch.where(firing > 0, mean, torch.ones_like(mean))
        parameters = [tensors[0] / self.unit, tensors[1] / self.unit, tensors[2] / self.unit]
        self.parameters = [
            one.clone().requires_grad_() for one in (*parameters, tensors[3] * self.unit[:, None])
        ]

    def loss(self, text: SplitText, rows: Tensor, energy: Tensor) -> Tensor:
        """Squared error, and what firings too much cost, per position.

        Args:
            text: The text.
            rows: Positions.
            energy: Squared norm of what a parent's firing gives, [parents].
        """
        weight, bias, threshold, decoder = self.parameters
        pre = text.inputs[rows] @ weight + bias
        fires: Tensor = _Fires.apply(pre - threshold, self.settings.bandwidth)  # type: ignore[no-untyped-call]
        error = text.residual[rows] - (pre.relu() * fires) @ decoder
        number = torch.zeros(len(rows), len(text.features)).index_add(1, self.family, fires)
        excess = (number - (text.latents[rows] > 0).float()).relu()
        loss: Tensor = error.square().sum(1).mean() + self.settings.sparsity * (excess @ energy).mean()
        return loss

    def groups(self) -> list[dict[str, object]]:
        """Parameters, each with a step that suits its size."""
        rate = self.settings.learning_rate
        sizes = [one.detach().square().mean().sqrt() for one in self.parameters]
        # Biases and thresholds are in units of the mean activation.
        sizes[1] = sizes[2] = torch.tensor(1.0)
        return [
            {"params": [one], "lr": rate * max(float(size), _TINY)}
            for one, size in zip(self.parameters, sizes, strict=True)
        ]

    def children(self, families: Sequence[Children], decoder_rows: Tensor) -> list[Children]:
        """As they are now, family by family, decoder rows as long as the parent's."""
        weight, bias, threshold, decoder = (one.detach() for one in self.parameters)
        found = []
        for at, family in enumerate(families):
            own = self.family == at
            length = decoder_rows[at].norm() / decoder[own].norm(dim=1).clamp_min(_TINY)
            found.append(
                Children(
                    family.parent,
                    weight[:, own] / length,
                    bias[own] / length,
                    threshold[own] / length,
                    decoder[own] * length[:, None],
                )
            )
        return found


def refine(
    families: Sequence[Children],
    text: SplitText,
    decoder_rows: Tensor,
    settings: RefineSettings,
    stages: Stages,
) -> list[Children]:
    """Fine-tune children for reconstruction, at the positions where a parent or a child fires.

    What keeps L0: where a parent fires one of its children may, elsewhere none; each firing more costs. The step
    that did best on documents that were not fitted on is kept, the start among them.

    Args:
        families: The children of each parent of the text.
        text: The text.
        decoder_rows: Of the parents, [parents, d_in].
        settings: How.
        stages: Told about progress.

    Returns:
        The children, decoder rows as long as the parent's.

    Raises:
        NumericalError: The loss is NaN or infinite.
    """
    if not families:
        return []
    tuned = _Tuned(families, text, settings)
    rows, unseen = (_touched(families, text, part) for part in (Part.FIT, Part.CHOICE))
    if not settings.steps or not len(rows) or not len(unseen):
        return tuned.children(families, decoder_rows)
    squares = (
        text.latents.square().sum(0) / (text.latents > 0).sum(0).clamp_min(1)
    ) * decoder_rows.square().sum(1)
    optimiser = torch.optim.Adam(tuned.groups())
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: 1 - step / settings.steps)
    generator = torch.Generator().manual_seed(settings.seed)
    best, kept = _unseen_loss(tuned, text, unseen, squares), tuned.children(families, decoder_rows)
    with stages.stage("Tuning the children", "steps") as progress:
        for step in range(1, settings.steps + 1):
            batch = rows[torch.randint(len(rows), (settings.batch_size,), generator=generator)]
            optimiser.zero_grad()
            loss = tuned.loss(text, batch, squares)
            _require_finite(float(loss.detach()), step)
            loss.backward()
            optimiser.step()
            schedule.step()
            with torch.no_grad():
                tuned.parameters[2].clamp_min_(0)
            if step % _EVALUATE_EVERY == 0 or step == settings.steps:
                found = _unseen_loss(tuned, text, unseen, squares)
                _require_finite(found, step)
                if found < best:
                    best, kept = found, tuned.children(families, decoder_rows)
            progress(step, settings.steps)
    return kept


@torch.no_grad()
def _unseen_loss(tuned: _Tuned, text: SplitText, rows: Tensor, energy: Tensor) -> float:
    parts = rows.split(_ROWS_AT_ONCE)
    return sum(float(tuned.loss(text, part, energy)) * len(part) for part in parts) / len(rows)


def _touched(families: Sequence[Children], text: SplitText, part: Part) -> Tensor:
    """Positions of a part where a parent or a child fires."""
    rows = text.rows(part)
    kept = []
    for some in rows.split(_ROWS_AT_ONCE):
        inputs = text.inputs[some]
        fires = (text.latents[some] > 0).any(1)
        for family in families:
            fires |= (family.latents(inputs) > 0).any(1)
        kept.append(some[fires])
    return torch.cat(kept)


def _latents(tensors: Sequence[Tensor], inputs: Tensor) -> Tensor:
    weight, bias, threshold, _decoder = tensors
    pre = inputs @ weight + bias
    return pre.relu() * (pre > threshold)


def _require_finite(loss: float, step: int) -> None:
    if not torch.isfinite(torch.tensor(loss)):
        raise NumericalError(
            f"The fine-tune of the children gave NaN or infinity at step {step}.",
            hint="Choose a smaller learning rate.",
        )
