"""Run texts again and again from the first edited block on, with gradients to the edits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from onesense.bias.scoring.batch import ScoringBatch, row_batches, tree_batches
from onesense.bias.scoring.encoded import Encoded, encode_requests
from onesense.bias.scoring.layout import layout_of
from onesense.bias.scoring.passes import first_block, logits_at, read_inputs, skipping
from onesense.bias.scoring.requests import Request
from onesense.model.hooks import model_lock
from onesense.model.language_model import LanguageModel
from onesense.steer.apply import applied_by_row
from onesense.steer.intervention import Intervention


@dataclass(frozen=True, eq=False)
class PreparedTexts:
    """Texts in one batch, with what the model computes before the first edit.

    Attributes:
        batch: The batch; its spans name texts by their place in the list that was prepared.
        resume: The block to go on from and its input [rows, columns, d_model]; None to run everything.
        nodes: Nodes whose logits are wanted, sorted, [nodes].
        origin: For each scored step the place of its node in ``nodes``, [steps].
        target: For each scored step the token that it goes to, [steps].
        text: For each scored step the number of its text, [steps].
        n_texts: How many texts were prepared; those of other batches count here as 0.
    """

    batch: ScoringBatch
    resume: tuple[int, Tensor] | None
    nodes: Tensor
    origin: Tensor
    target: Tensor
    text: Tensor
    n_texts: int


def prepare_texts(
    model: LanguageModel,
    requests: Sequence[Request],
    start: int,
    *,
    max_tokens: int = 1 << 30,
    resume: bool = True,
) -> list[PreparedTexts]:
    """Texts as batches, each with the input of block ``start`` kept where the model can go on from it.

    Args:
        model: The model; it is run once over all texts, without edits.
        requests: The texts.
        start: The first block that an edit may change.
        max_tokens: Tokens of a batch, at most.
        resume: Whether to keep anything; off, every pass runs the whole model.

    Raises:
        ConfigurationError: A text has no token to score.
    """
    layout = layout_of(model)
    texts = dict(enumerate(encode_requests(model, requests)))
    longest = max((len(text.ids) for text in texts.values()), default=0)
    tree = layout.trees and longest <= layout.longest_tree
    batches = tree_batches(texts, max_tokens) if tree else row_batches(texts, max_tokens)
    return [_prepared(model, batch, texts, start if resume and layout.resumes else 0) for batch in batches]


def unedited(model: LanguageModel, texts: PreparedTexts) -> PreparedTexts:
    """The same texts with what the last block of the unedited model gives, from where they can go on."""
    if texts.resume is None:
        return texts
    last = model.n_layers
    with model_lock(model), skipping(model, texts.resume):
        hidden = read_inputs(model, texts.batch, [last])[last]
    return replace(texts, resume=(last, hidden))


def edited_until(
    model: LanguageModel, texts: PreparedTexts, interventions: Sequence[Intervention], start: int
) -> PreparedTexts:
    """The same texts with the input of a later block, as edits that act before it leave it.

    Args:
        model: The model.
        texts: Texts with what the model computes before the first of the edits.
        interventions: The edits; all of them act before block ``start``.
        start: The block to go on from.
    """
    with (
        model_lock(model),
        skipping(model, texts.resume),
        applied_by_row(model, [list(interventions)], None, prompt_lengths=_lengths(texts.batch)),
    ):
        hidden = read_inputs(model, texts.batch, [start])[start]
    return replace(texts, resume=(start, hidden))


def first_edited_block(interventions: Sequence[Intervention]) -> int:
    """The first block whose input some edits may change."""
    return min(first_block(one.point) for one in interventions)


def token_logits(model: LanguageModel, texts: PreparedTexts, interventions: Sequence[Intervention]) -> Tensor:
    """Logits at ``texts.nodes`` with edits, float32 [nodes, vocabulary]; gradients flow to the edits' amounts."""
    batch = texts.batch
    with (
        model_lock(model),
        skipping(model, texts.resume),
        frozen(model),
        applied_by_row(model, [list(interventions)], None, prompt_lengths=_lengths(batch)),
    ):
        return logits_at(model, batch, texts.nodes)


def log_probabilities(texts: PreparedTexts, logits: Tensor) -> Tensor:
    """The log-probability of each text, [texts], from the logits of ``token_logits``."""
    steps = logits.log_softmax(-1)[texts.origin, texts.target.to(logits.device)]
    zero = torch.zeros(texts.n_texts, dtype=steps.dtype, device=steps.device)
    return zero.index_add(0, texts.text.to(steps.device), steps)


@contextmanager
def frozen(model: LanguageModel) -> Iterator[None]:
    """No gradient goes to the weights meanwhile, which would cost as much again.

    Raises:
        IncompatibleError: Weights are offloaded.
    """
    model.require_gradients()
    wanted = [parameter for parameter in model.hf.parameters() if parameter.requires_grad]
    for parameter in wanted:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in wanted:
            parameter.requires_grad_(True)


def _lengths(batch: ScoringBatch) -> Sequence[int]:
    return [batch.tokens.shape[1]] if batch.prompt_lengths is None else batch.prompt_lengths


def _prepared(
    model: LanguageModel, batch: ScoringBatch, texts: dict[int, Encoded], start: int
) -> PreparedTexts:
    steps, owner = [], []
    for span in batch.spans:
        step = span.last
        for _ in range(len(texts[span.text].ids) - texts[span.text].start):
            steps.append(step)
            owner.append(span.text)
            step = int(batch.previous[step])
    chosen = np.array(steps, dtype=np.int64)
    nodes, origin = np.unique(batch.origin[chosen], return_inverse=True)
    resume = (start, read_inputs(model, batch, [start])[start]) if start > 0 else None
    return PreparedTexts(
        batch=batch,
        resume=resume,
        nodes=torch.from_numpy(nodes),
        origin=torch.from_numpy(origin),
        target=torch.from_numpy(batch.target[chosen]),
        text=torch.tensor(owner),
        n_texts=len(texts),
    )
