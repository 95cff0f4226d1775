"""How far an artefact is from the hooked model: KL per token, on text that nothing was fitted to."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from onesense.engine.stages import Silent, Stages
from onesense.errors import NumericalError
from onesense.model.capture import forward_arguments
from onesense.model.language_model import LanguageModel
from onesense.model.tokens import TokenBatch
from onesense.steer.apply import applied
from onesense.steer.checked import Checked
from onesense.steer.intervention import Intervention


class Divergence(Checked):
    """KL(hooked || other) in nats, the mean over tokens.

    Attributes:
        kl: Of the artefact.
        unedited: Of the model without the recipe: what an artefact that does nothing would have.
        tokens: Positions that were averaged over, those after a BOS included.
    """

    kl: float
    unedited: float
    tokens: int


def kl_by_position(wanted: Tensor, found: Tensor) -> Tensor:
    """KL(wanted || found) from logits, [..., vocabulary], in nats, [...]; float32 log-softmax."""
    target = wanted.float().log_softmax(-1)
    other = found.float().log_softmax(-1)
    divergence: Tensor = (target.exp() * (target - other)).sum(-1)
    return divergence


def last_positions(batch: TokenBatch) -> Tensor:
    """True at the last token of each row, bool [batch, seq]."""
    columns = torch.arange(batch.ids.shape[1], device=batch.ids.device)
    last = (columns * batch.attention_mask).argmax(dim=1)
    return columns == last[:, None]


def measure_divergence(
    model: LanguageModel,
    interventions: Sequence[Intervention],
    artefact: LanguageModel,
    batches: Sequence[TokenBatch],
    *,
    last_only: bool = False,
    stages: Stages | None = None,
) -> Divergence:
    """Compare an artefact, and the unedited model, with the hooked model.

    Args:
        model: The model that the recipe was made for.
        interventions: The recipe's edits, ready to run.
        artefact: The exported model.
        batches: Text, right-padded.
        last_only: Whether only the last position of each row counts.
        stages: Told about progress.

    Raises:
        NumericalError: The KL is not finite.
    """
    sums = torch.zeros(2, dtype=torch.float64)
    tokens = 0
    with (stages or Silent()).stage("Measuring the KL", "batches") as progress, torch.no_grad():
        for number, batch in enumerate(batches, start=1):
            counted = last_positions(batch) if last_only else batch.attention_mask == 1
            arguments = forward_arguments(batch)
            with applied(model, interventions, warn=False):
                wanted = model.hf(**arguments).logits[counted]
            for which, other in enumerate((artefact, model)):
                found = other.hf(**arguments).logits[counted]
                sums[which] += kl_by_position(wanted, found).sum(dtype=torch.float64).cpu()
            tokens += int(counted.sum())
            progress(number, len(batches))
    if not bool(sums.isfinite().all()):
        raise NumericalError(
            "The KL of the export is NaN or infinite.",
            hint="Lower the edits of the recipe, or load it in float32.",
        )
    # Rounding alone can make a sum of zeros slightly negative.
    kl, unedited = (sums / tokens).clamp(min=0).tolist()
    return Divergence(kl=kl, unedited=unedited, tokens=tokens)
