"""Cosines of decoder rows: with the most similar other row, and with the encoder of the same feature."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from onesense.errors import ConfigurationError, IncompatibleError, NumericalError


class DecoderCosines(NamedTuple):
    """How similar the decoder row of each feature is to another one, and to its encoder.

    Attributes:
        largest: Largest cosine with the row of another live feature, float64 [d_sae]; NaN for a dead feature.
        nearest: Which feature that is, long [d_sae]; -1 for a dead feature.
        encoder: Cosine with the feature's own encoder, float64 [d_sae]; NaN for a dead feature, and for all
            where no encoder was given.
    """

    largest: Tensor
    nearest: Tensor
    encoder: Tensor


@torch.no_grad()
def decoder_cosines(
    decoder: Tensor, encoder: Tensor | None = None, *, live: Tensor | None = None, block: int = 1024
) -> DecoderCosines:
    """Cosines of the decoder rows of a dictionary.

    Rows meet block by block, so that beside the rows themselves memory does not grow with their number.

    Args:
        decoder: As ``Dictionary.W_dec``, [d_sae, d_in].
        encoder: As ``Dictionary.W_enc``, [d_in, d_sae].
        live: Which features fire, bool [d_sae]; None for all. A row of zeros counts as dead.
        block: Rows of one block.

    Raises:
        ConfigurationError: Fewer than two features are live, or the block is empty.
        IncompatibleError: Shapes disagree.
        NumericalError: NaN or infinity.
    """
    _check(decoder, encoder, live, block)
    norms = torch.linalg.vector_norm(decoder, dim=1, dtype=torch.float64)
    alive = norms > 0 if live is None else (norms > 0) & live.to(decoder.device)
    ids = alive.nonzero(as_tuple=True)[0]
    if len(ids) < 2:
        raise ConfigurationError(
            f"{len(ids)} live features have no neighbours.", hint="Take a dictionary with two live features."
        )
    largest = torch.full((len(ids),), -torch.inf, dtype=torch.float64, device=decoder.device)
    nearest = torch.zeros_like(ids)
    for first in range(0, len(ids), block):
        rows = _unit(decoder, ids[first : first + block])
        for second in range(first, len(ids), block):
            cosines = (rows @ _unit(decoder, ids[second : second + block]).T).double()
            if second == first:
                cosines.fill_diagonal_(-torch.inf)
            _improve(largest, nearest, cosines, first, second)
            if second != first:
                _improve(largest, nearest, cosines.T, second, first)
    found = torch.full_like(norms, torch.nan)
    found[ids] = largest.clamp(-1, 1)
    which = torch.full_like(alive, -1, dtype=torch.long)
    which[ids] = ids[nearest]
    return DecoderCosines(found.cpu(), which.cpu(), _with_encoder(decoder, encoder, alive, block).cpu())


def _check(decoder: Tensor, encoder: Tensor | None, live: Tensor | None, block: int) -> None:
    if decoder.ndim != 2 or (encoder is not None and encoder.shape != decoder.T.shape):
        raise IncompatibleError(
            f"The decoder has shape {list(decoder.shape)}"
            + ("." if encoder is None else f", the encoder {list(encoder.shape)}."),
            hint="They are [d_sae, d_in] and [d_in, d_sae].",
        )
    if live is not None and (live.dtype != torch.bool or live.shape != decoder.shape[:1]):
        raise IncompatibleError(
            f"{list(live.shape)} {live.dtype} values cannot say which of {decoder.shape[0]} features live.",
            hint="Give true or false for each feature.",
        )
    if block < 1:
        raise ConfigurationError(f"A block holds at least one row, not {block}.")
    for name, values in (("decoder", decoder), ("encoder", encoder)):
        if values is not None and not bool(values.isfinite().all()):
            raise NumericalError(
                f"The {name} holds NaN or infinity.", hint="The file is damaged; download or train it again."
            )


def _unit(decoder: Tensor, ids: Tensor) -> Tensor:
    """Rows with norm 1, in float32 at least."""
    rows = decoder[ids]
    rows = rows.to(torch.promote_types(torch.float32, rows.dtype))
    # in two steps: the square of a tiny number is 0
    rows = rows / rows.abs().amax(dim=1, keepdim=True)
    norms: Tensor = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
    return rows / norms


def _improve(largest: Tensor, nearest: Tensor, cosines: Tensor, first: int, second: int) -> None:
    """Keep what is larger than the best so far; of equals the one with the smaller id."""
    best, where = cosines.max(dim=1)
    rows = slice(first, first + len(best))
    better = best > largest[rows]
    largest[rows] = torch.where(better, best, largest[rows])
    nearest[rows] = torch.where(better, where + second, nearest[rows])


def _with_encoder(decoder: Tensor, encoder: Tensor | None, alive: Tensor, block: int) -> Tensor:
    found = torch.full((len(decoder),), torch.nan, dtype=torch.float64, device=decoder.device)
    if encoder is None:
        return found
    for start in range(0, len(decoder), block):
        rows = slice(start, start + block)
        one, other = decoder[rows].double(), encoder[:, rows].T.double()
        found[rows] = (torch.nn.functional.normalize(one) * torch.nn.functional.normalize(other)).sum(dim=1)
    # without an encoder a feature cannot fire, so its cosine is no number
    dead = ~alive | (encoder == 0).all(dim=0)
    return found.masked_fill(dead, torch.nan)
