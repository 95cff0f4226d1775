"""What each feature adds to a quantity of the model's output: gradient times latent, for all features at once.

The attribution of feature i to a quantity f is the sum over positions of ``z_i * (W_dec[i] . df/dh)``: to first
order what ``f`` changes by when the latent is scaled by ``1 + d`` is ``d`` times it (Marks et al. 2024,
arXiv:2403.19647, without their integration over the path).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from interp_engine.hooks import HookManager
from numpy.typing import NDArray
from scipy.sparse import coo_array, csr_array, vstack
from torch import Tensor

from onesense.bias.scoring.batch import ScoringBatch, row_batches
from onesense.bias.scoring.encoded import encode_requests
from onesense.bias.scoring.layout import layout_of
from onesense.bias.scoring.passes import first_block, logits_at, read_inputs, skipping
from onesense.bias.scoring.requests import Request
from onesense.debias.contrasts import Contrast
from onesense.debias.forward import frozen
from onesense.errors import ConfigurationError, NumericalError
from onesense.model.hook_points import HookPoint
from onesense.model.hooks import model_lock
from onesense.model.language_model import LanguageModel
from onesense.sae.dictionary import Dictionary

Progress = Callable[[int, int | None], None]
TOKENS_ON_CPU = 512
"""Tokens that go through the model together on a CPU."""
_TOKENS_ON_GPU = 4096
# Below this share of firing latents a product for each costs less than the product with the whole decoder.
_SPARSE = 0.01
_FIRINGS_AT_ONCE = 4096


@dataclass(frozen=True, eq=False)
class Attributions:
    """Attributions of a quantity for some texts.

    Attributes:
        values: The quantity for each text, float32 [texts].
        effects: For each dictionary the attribution of its features, sparse float32 [texts, d_sae]: most features
            fire in few texts, so that memory grows with what fires and not with the dictionary's width.
        tokens: Positions of each text that were read, [texts].
        fired: For each dictionary at how many positions of all texts each feature fires, [d_sae].
        latents: For each dictionary the sum of each latent over all positions, [d_sae].
    """

    values: Tensor
    effects: tuple[csr_array[np.float32], ...]
    tokens: Tensor
    fired: tuple[Tensor, ...]
    latents: tuple[Tensor, ...]


class _Quantity(NamedTuple):
    """A number for each row of a batch: at which nodes it needs logits, and what it is."""

    nodes: Callable[[ScoringBatch], Tensor]
    value: Callable[[Tensor, ScoringBatch], Tensor]


def contrast_attributions(
    model: LanguageModel,
    dictionaries: Sequence[Dictionary],
    contrasts: Sequence[Contrast],
    *,
    progress: Progress | None = None,
) -> Attributions:
    """Attributions of the log-odds of the woman's word against the man's.

    Where the words are several tokens, the log-odds of the first in which they differ count.

    Args:
        model: The model.
        dictionaries: One for each hook point.
        contrasts: Beginnings of sentences.
        progress: Told how many contrasts are done.

    Raises:
        ConfigurationError: Two words of a contrast are the same tokens.
        NumericalError: A gradient is NaN.
    """
    encoded = encode_requests(model, [request for one in contrasts for request in one.requests()])
    prompts, words = [], []
    for contrast, women, men in zip(contrasts, encoded[::2], encoded[1::2], strict=True):
        fork = _fork(women.ids, men.ids)
        if fork is None:
            raise ConfigurationError(
                f"“{contrast.women}” and “{contrast.men}” begin with the same tokens in this model.",
                hint="Choose words that differ.",
            )
        prompts.append(women.ids[:fork])
        words.append((women.ids[fork], men.ids[fork]))
    chosen = torch.tensor(words)

    def last(batch: ScoringBatch) -> Tensor:
        return torch.tensor([int(batch.origin[span.last]) for span in batch.spans])

    def log_odds(logits: Tensor, batch: ScoringBatch) -> Tensor:
        texts = torch.tensor([span.text for span in batch.spans])
        pairs = logits.gather(1, chosen[texts].to(logits.device))
        return pairs[:, 0] - pairs[:, 1]

    # The last id of an encoded text is never run, so a token stands there in its place.
    requests = [Request("", ids=(*ids, ids[-1]), start=len(ids)) for ids in prompts]
    return _attributions(model, dictionaries, requests, _Quantity(last, log_odds), progress)


def fisher_scores(
    model: LanguageModel,
    dictionaries: Sequence[Dictionary],
    passages: Sequence[Request],
    *,
    seed: int,
    progress: Progress | None = None,
) -> Attributions:
    """Attributions of the log-probability of tokens that the model itself draws, summed over each passage.

    Scores of different positions are uncorrelated, so half the mean over tokens of their squares is the KL
    divergence that scaling latents by ``1 + d`` makes, to second order in ``d`` (the Fisher information).

    Args:
        model: The model.
        dictionaries: One for each hook point.
        passages: Ordinary text.
        seed: Of the draw.
        progress: Told how many passages are done.
    """
    generator = torch.Generator().manual_seed(seed)

    def every(batch: ScoringBatch) -> Tensor:
        return torch.from_numpy(batch.origin)

    def drawn(logits: Tensor, batch: ScoringBatch) -> Tensor:
        nodes = every(batch).to(logits.device)
        probabilities = logits.log_softmax(-1)
        uniform = torch.rand(len(nodes), generator=generator).to(logits.device)
        reached = probabilities.detach().exp().cumsum(-1)
        token = torch.searchsorted(reached, uniform[:, None]).clamp_max(logits.shape[-1] - 1)
        steps = probabilities.gather(1, token)[:, 0]
        rows = nodes // batch.tokens.shape[1]
        total = torch.zeros(batch.tokens.shape[0], device=logits.device).index_add(0, rows, steps)
        return total[: len(batch.spans)]

    return _attributions(model, dictionaries, passages, _Quantity(every, drawn), progress)


def _fork(first: Sequence[int], second: Sequence[int]) -> int | None:
    for place, (one, other) in enumerate(zip(first, second, strict=False)):
        if one != other:
            return place
    return None


def _attributions(
    model: LanguageModel,
    dictionaries: Sequence[Dictionary],
    requests: Sequence[Request],
    quantity: _Quantity,
    progress: Progress | None,
) -> Attributions:
    texts = dict(enumerate(encode_requests(model, requests)))
    size = TOKENS_ON_CPU if model.device.type == "cpu" else _TOKENS_ON_GPU
    values = torch.zeros(len(texts))
    tokens = torch.zeros(len(texts))
    tallies = [_Tally(dictionary.to(device=model.device)) for dictionary in dictionaries]
    done = 0
    for batch in row_batches(texts, size):
        where = torch.tensor([span.text for span in batch.spans])
        found, activations, gradients = _gradients(model, batch, dictionaries, quantity)
        values[where] = found.cpu()
        counted = _counted(model, batch)
        tokens[where] = counted.sum(1).float().cpu()
        for tally, hidden, gradient in zip(tallies, activations, gradients, strict=True):
            tally.add(where, hidden, gradient, counted)
        done += len(batch.spans)
        if progress is not None:
            progress(done, len(texts))
    return Attributions(
        values,
        tuple(tally.effects for tally in tallies),
        tokens,
        tuple(tally.fired for tally in tallies),
        tuple(tally.latents for tally in tallies),
    )


class _Tally:
    """Sums over positions for one dictionary, of the latents that fire; see ``Attributions``."""

    def __init__(self, dictionary: Dictionary) -> None:
        self._dictionary = dictionary
        self._fired = np.zeros(dictionary.d_sae, dtype=np.int64)
        self._latents = np.zeros(dictionary.d_sae)
        self._where: list[NDArray[np.int64]] = []
        self._effects: list[csr_array[np.float32]] = []

    def add(self, where: Tensor, hidden: Tensor, gradient: Tensor, counted: Tensor) -> None:
        """Count the positions of a batch whose rows are the texts ``where``."""
        dictionary = self._dictionary
        rows, columns = counted.nonzero(as_tuple=True)
        inputs, slopes = hidden[rows, columns].float(), gradient[rows, columns].float()
        if dictionary.preparation.normalization.per_token:
            slopes = slopes * dictionary.token_scale(inputs)
        latents = dictionary.encode(inputs)
        positions, features = latents.nonzero(as_tuple=True)
        values = latents[positions, features].cpu().double()  # Apple's devices have no float64
        if len(positions) < _SPARSE * latents.numel():
            slope = _slopes(dictionary, slopes, positions, features)
        else:
            every = torch.arange(dictionary.d_sae, device=dictionary.device)
            slope = (slopes @ dictionary.decoder_rows(every).T)[positions, features]
        ids = features.cpu().numpy()
        self._fired += np.bincount(ids, minlength=dictionary.d_sae)
        self._latents += np.bincount(ids, values.numpy(), minlength=dictionary.d_sae)
        effects = coo_array(
            ((values * slope.cpu()).numpy(), (rows[positions].cpu().numpy(), ids)),
            shape=(len(where), dictionary.d_sae),
        )
        self._effects.append(effects.tocsr().astype(np.float32))
        self._where.append(where.numpy())

    @property
    def effects(self) -> csr_array[np.float32]:
        """Of each text, [texts, d_sae]."""
        order = np.argsort(np.concatenate(self._where))
        return csr_array(vstack(self._effects, format="csr")[order])

    @property
    def fired(self) -> Tensor:
        """Positions at which each feature fires, float32 [d_sae]."""
        return torch.from_numpy(self._fired).float()

    @property
    def latents(self) -> Tensor:
        """The sum of each latent, float32 [d_sae]."""
        return torch.from_numpy(self._latents).float()


def _slopes(dictionary: Dictionary, slopes: Tensor, positions: Tensor, features: Tensor) -> Tensor:
    """What one unit of a latent adds to the quantity, for each latent that fires, [firings]."""
    used, place = features.unique(return_inverse=True)
    decoder = dictionary.decoder_rows(used)
    # In parts, so that the rows gathered for each firing stay in the processor's cache.
    parts = zip(positions.split(_FIRINGS_AT_ONCE), place.split(_FIRINGS_AT_ONCE), strict=True)
    return torch.cat([(slopes[at] * decoder[rows]).sum(-1) for at, rows in parts])


def _counted(model: LanguageModel, batch: ScoringBatch) -> Tensor:
    """Positions that edits may change: neither special tokens nor padding, bool [rows, columns]."""
    lengths = torch.zeros(batch.tokens.shape[0], dtype=torch.long)
    columns = batch.tokens.shape[1]
    for step in batch.origin:
        row, column = divmod(int(step), columns)
        lengths[row] = max(int(lengths[row]), column + 1)
    real = torch.arange(columns) < lengths[:, None]
    special = torch.isin(batch.tokens, torch.tensor(sorted(model.special_ids), dtype=torch.long))
    return (real & ~special).to(model.device)


def _gradients(
    model: LanguageModel,
    batch: ScoringBatch,
    dictionaries: Sequence[Dictionary],
    quantity: _Quantity,
) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    """The quantity of each row, and activations and gradients at each dictionary's hook point."""
    points = [dictionary.hook_point for dictionary in dictionaries]
    start = min(first_block(point) for point in points)
    # An activation after the first block that runs can be a leaf only if the pass begins before it.
    begin = max(0, min(point.layer for point in points))
    resume = None
    if layout_of(model).resumes and 0 < begin < start:
        resume = (begin, read_inputs(model, batch, [begin])[begin])
    found: dict[HookPoint, Tensor] = {}
    with model_lock(model), skipping(model, resume), frozen(model), _leaves(model, points, found):
        logits = logits_at(model, batch, quantity.nodes(batch))
    values = quantity.value(logits, batch)
    activations = [found[point] for point in points]
    here = model.device  # blocks may lie on different ones
    gradients = [_flat(one).to(here) for one in torch.autograd.grad(values.sum(), activations)]
    if any(bool(gradient.isnan().any()) for gradient in gradients):
        raise NumericalError(
            f"A gradient through `{model.name}` is NaN.", hint="Load the model in float32 (--dtype float32)."
        )
    return values.detach(), [_flat(one.detach()).to(here) for one in activations], gradients


def _flat(activation: Tensor) -> Tensor:
    """Heads side by side, [rows, columns, width]."""
    return activation.flatten(2) if activation.ndim > 3 else activation


@contextmanager
def _leaves(
    model: LanguageModel, points: Sequence[HookPoint], found: dict[HookPoint, Tensor]
) -> Iterator[None]:
    """Keep the activations at some hook points as part of the graph, the earliest as its leaf."""
    with HookManager() as hooks:
        for point in dict.fromkeys(points):
            target = model.resolve(point)

            def keep(hidden: Tensor, point: HookPoint = point) -> Tensor:
                kept = hidden if hidden.requires_grad else hidden.detach().requires_grad_(True)
                found[point] = kept
                return kept

            hooks.write(target.module, keep, point=target.side)
        yield
