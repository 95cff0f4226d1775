"""The matrix that turns a direction in the residual stream into logits: the logit lens of a model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, get_args

import torch
from interp_engine.arch import resolve_arch
from torch import Tensor, nn

from onesense.errors import ConfigurationError, IncompatibleError
from onesense.model.placement import fetched, plain_copy

if TYPE_CHECKING:
    from onesense.model.language_model import LanguageModel

Convention = Literal["folded", "raw"]

_USE_RAW = "`--lens raw` needs no final norm: it reads the unembedding as it is stored."


def unembedding(model: LanguageModel, *, convention: Convention = "folded") -> Tensor:
    """Build ``W_U``, so that ``direction @ W_U`` are the logits that a direction promotes.

    ``folded`` is what TransformerLens calls ``fold_ln`` and ``center_unembed``: the gain of the final norm is
    multiplied in as the family applies it (Gemma's is 1 + weight), every token's column is centred over
    ``d_model`` where the final norm takes the mean away (LayerNorm), and every row is centred over the
    vocabulary. Centring over the vocabulary adds the same number to all logits, which no probability sees.
    ``raw`` is the stored weight. In both, rows that pad the vocabulary are dropped first. A bias of the
    unembedding, a logit scale and a logit soft cap are not part of either.

    Args:
        model: The model; its weights are left as they are.
        convention: ``folded`` or ``raw``.

    Returns:
        ``W_U`` ``[d_model, vocab_size]``, float32, contiguous, on the model's device.

    Raises:
        ConfigurationError: There is no such convention.
        IncompatibleError: The model has no unembedding of this shape, or, for ``folded``, no final norm that
            acts as LayerNorm or RMSNorm with a gain.
    """
    if convention not in get_args(Convention):
        raise ConfigurationError(
            f"There is no lens convention `{convention}`.",
            hint="Use `folded` (final norm's gain folded in, centred) or `raw` (as stored).",
        )
    stored = _stored_rows(model)
    matrix = torch.empty((stored.shape[1], stored.shape[0]), dtype=torch.float32, device=model.device)
    matrix.copy_(stored.T)
    if convention == "raw":
        return matrix
    gain, centres = _gain_of_final_norm(model)
    matrix.mul_(gain.to(matrix.device)[:, None])
    if centres:
        matrix.sub_(matrix.mean(dim=0, keepdim=True))
    return matrix.sub_(matrix.mean(dim=1, keepdim=True))


def _stored_rows(model: LanguageModel) -> Tensor:
    head: Any = model.hf.get_output_embeddings()
    weight = None if getattr(head, "weight", None) is None else fetched(head, "weight")
    if not isinstance(weight, Tensor) or weight.ndim != 2 or not weight.is_floating_point():
        raise IncompatibleError(
            f"`{model.name}` (a {model.family} model) has no unembedding matrix of plain numbers.",
            hint="The lens needs a causal language model whose output layer is not quantised.",
        )
    if weight.shape[1] != model.d_model:
        raise IncompatibleError(
            f"The unembedding of `{model.name}` reads {weight.shape[1]} numbers, "
            f"but the residual stream is {model.d_model} wide.",
            hint="A model with a projection between its blocks and its unembedding has no logit lens.",
        )
    return weight.detach()[: model.vocab_size]


def _gain_of_final_norm(model: LanguageModel) -> tuple[Tensor, bool]:
    """Measure the gain [d_model] of the final norm, and whether the norm takes the mean away.

    Families store the gain differently (as it is, as an offset from 1, not at all) and no configuration says
    which, so the norm is asked: what it does to two probes tells.
    """
    norm = _final_norm(model)
    try:
        replica = plain_copy(norm).to(device="cpu", dtype=torch.float32)
        first, second = _probe(model.d_model, seed=0), _probe(model.d_model, seed=1)
        with torch.no_grad():
            bias = replica.forward(torch.zeros_like(first))
            answers = [replica.forward(probe) - bias for probe in (first, second)]
        for centres in (False, True):
            gain = answers[0] / _normalized(first, centres)
            if torch.allclose(gain * _normalized(second, centres), answers[1], rtol=1e-4, atol=1e-5):
                return gain, centres
    except (TypeError, ValueError, RuntimeError, AttributeError) as error:
        raise _unknown_norm(model, f"{type(norm).__name__} cannot be applied by itself: {error}") from error
    raise _unknown_norm(model, f"{type(norm).__name__} acts neither as RMSNorm nor as LayerNorm")


def _final_norm(model: LanguageModel) -> nn.Module:
    try:
        architecture = resolve_arch(model.hf, model.hf.config)
    except (ValueError, AttributeError) as error:
        raise _unknown_norm(model, str(error)) from error
    norm: nn.Module = architecture.final_norm
    # The search by name goes down into the blocks where the trunk itself has no norm.
    if any(module is norm for layer in architecture.decoder_layers for module in layer.modules()):
        raise _unknown_norm(model, "only norms inside its blocks were found")
    return norm


def _unknown_norm(model: LanguageModel, reason: str) -> IncompatibleError:
    return IncompatibleError(
        f"The final norm of `{model.name}` (a {model.family} model) cannot be folded in: {reason}.",
        hint=_USE_RAW,
    )


def _probe(width: int, *, seed: int) -> Tensor:
    """Numbers far from 0, before and after centring, and so large that a norm's epsilon does not count."""
    sizes = 1 + torch.rand(width, generator=torch.Generator().manual_seed(seed))
    signs = 1 - 2 * (torch.arange(width) % 2)
    return 100 * (sizes * signs + 0.3)


def _normalized(probe: Tensor, centres: bool) -> Tensor:
    centred = probe - probe.mean() if centres else probe
    return centred / centred.square().mean().sqrt()
