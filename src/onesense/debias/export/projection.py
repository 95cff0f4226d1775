"""Fold projections of the residual stream into weights, where that is exact.

The stream is a sum: the embedding, then what each sublayer writes. A hook at state ``j`` replaces the whole sum
so far, ``h <- h M_j``. Writers can carry the projection of the state at which they write, ``w_k <- w_k M_k``, and
that is the hooked model exactly if no later hook changes what is in the stream already: ``M_k M_j = M_k`` for
each ``k < j``. So the hooked states must begin with the embedding and follow one another without a gap, and
later ones may take away no more than earlier ones (a hook at the embedding alone is the simplest case). A single
projection further up has no such form: what is read below it must not change, and the embedding is in the stream
above it all the same. ``hook_resid_mid`` is the input of the MLP and no more: it leaves the stream alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from interp_engine.arch import ArchSpec, resolve_arch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from onesense.debias.export.copies import copy_of, untie
from onesense.errors import IncompatibleError
from onesense.model.hook_points import HookPoint
from onesense.model.language_model import LanguageModel
from onesense.model.positions import Positions
from onesense.steer.apply import applied
from onesense.steer.edit import Operation
from onesense.steer.intervention import Intervention
from onesense.steer.where import EVERYWHERE, Where

_OFFSETS = {"hook_resid_pre": 0, "hook_resid_mid": 1, "hook_resid_post": 2}
_ROUNDING = 1e-5
_AGREEMENT = 1e-4
_HINT = "Export it as a distilled LoRA instead (--how merged or --how lora)."


@dataclass(frozen=True, slots=True, eq=False)
class StreamMap:
    """What the hooks at one state of the residual stream do: ``h <- h @ matrix``.

    Attributes:
        matrix: For ordinary tokens, float64 [d_model, d_model].
        special: For special tokens, the same shape.
    """

    matrix: Tensor
    special: Tensor


def why_not_foldable(model: LanguageModel, interventions: Sequence[Intervention]) -> str | None:
    """The reason why the edits cannot be folded into plain weights exactly; None where they can."""
    if not interventions:
        return "there is no edit"
    for one in interventions:
        if one.point.suffix not in _OFFSETS:
            return f"{one.point} is not a state of the residual stream"
        for edit in one.edits:
            if edit.operation is not Operation.PROJECT_OUT:
                return f"feature {edit.feature} is edited by {edit.operation}, and only project_out is linear"
            if edit.where not in (Where(), EVERYWHERE):
                return f"feature {edit.feature} is edited at some positions only"
    maps = stream_maps(model, interventions)
    return _gap(model, maps) or _special_tokens(model, maps) or _writers(model, maps)


def fold_projections(model: LanguageModel, interventions: Sequence[Intervention]) -> LanguageModel:
    """A copy of the model with the projections in its weights.

    The embedding and the unembedding are untied where they share a matrix: only one of them changes.

    Raises:
        IncompatibleError: The edits cannot be folded exactly, or the model does not compute what it should
            with them (a family whose stream has something between a writer and the sum).
    """
    reason = why_not_foldable(model, interventions)
    if reason is not None:
        raise IncompatibleError(f"The recipe is no exact projection of weights: {reason}.", hint=_HINT)
    folded = copy_of(model)
    architecture = resolve_arch(folded.hf, folded.hf.config)
    with torch.no_grad():
        for state, mapped in stream_maps(model, interventions).items():
            if state == 0:
                untie(folded)
                _fold_embeddings(folded, architecture, mapped)
            for writer in _linear_writers(architecture, state):
                _fold_linear(writer, mapped.matrix)
    _require_agreement(model, interventions, folded)
    return folded


def stream_maps(model: LanguageModel, interventions: Sequence[Intervention]) -> dict[int, StreamMap]:
    """What is done at each state of the stream: 0 the embedding, 2l + 1 and 2l + 2 after block l's sublayers.

    The matrices are read off the edits themselves, as their answer to each unit vector.
    """
    ordinary = next(token for token in range(model.vocab_size) if token not in model.special_ids)
    special = min(model.special_ids, default=ordinary)
    maps: dict[int, StreamMap] = {}
    # A hook after a block runs before a hook at the input of the next one: the same state, in that order.
    for one in sorted(
        interventions, key=lambda each: (_state(each.point), each.point.suffix == "hook_resid_pre")
    ):
        state = _state(one.point)
        new = StreamMap(_matrix(one, model, ordinary), _matrix(one, model, special))
        before = maps.get(state)
        maps[state] = (
            new if before is None else StreamMap(before.matrix @ new.matrix, before.special @ new.special)
        )
    return maps


def _state(point: HookPoint) -> int:
    return 2 * point.layer + _OFFSETS[point.suffix]


def _matrix(intervention: Intervention, model: LanguageModel, token: int) -> Tensor:
    width, device = model.d_model, model.device
    line = torch.zeros(1, width, dtype=torch.long, device=device)
    positions = Positions(
        index=line,
        real=torch.ones_like(line, dtype=torch.bool),
        ids=line + token,
        prompt_length=torch.full((1,), width, device=device),
        prompt_known=True,
    )
    units = torch.eye(width, dtype=torch.float64, device=device)[None]
    return intervention(units, positions)[0]


def _gap(model: LanguageModel, maps: Mapping[int, StreamMap]) -> str | None:
    """Neighbouring states are enough: ``M_1 M_2 = M_1`` and ``M_2 M_3 = M_2`` give ``M_1 M_3 = M_1``."""
    parallel = resolve_arch(model.hf, model.hf.config).quirks.parallel_attn_mlp
    identity = torch.eye(model.d_model, dtype=torch.float64, device=model.device)

    def matrix(state: int) -> Tensor:
        return maps[state].matrix if state in maps else identity

    for state in sorted(maps):
        earlier = state - (2 if parallel else 1)
        if state > 0 and _differ(matrix(earlier) @ matrix(state), matrix(earlier)):
            return (
                f"the projection {_place(state)} changes what was in the stream {_place(earlier)}, where it is read "
                "unprojected; only the same directions at every state of the stream, from blocks.0.hook_resid_pre "
                "on, can be folded"
            )
    # What attention writes is read by the MLP as the one hook leaves it, and by all blocks after as the other does.
    for layer in () if parallel else sorted({(state - 1) // 2 for state in maps if state > 0}):
        if _differ(matrix(2 * layer + 1), matrix(2 * layer + 2)):
            return (
                f"hook_resid_mid of block {layer} changes what its MLP reads and not the stream, so it can be folded "
                "only along with the same projection at hook_resid_post"
            )
    return None


def _differ(one: Tensor, other: Tensor) -> bool:
    return bool((one - other).abs().max() > _ROUNDING)


def _special_tokens(model: LanguageModel, maps: Mapping[int, StreamMap]) -> str | None:
    if not model.special_ids:
        return None
    for state, mapped in maps.items():
        if not _differ(mapped.matrix, mapped.special):
            continue
        if state > 0:
            return (
                "special tokens are left out, and a sublayer's weights do not know which token they work on"
            )
        if len(_embeddings(model, resolve_arch(model.hf, model.hf.config))) > 1:
            return "special tokens are left out, and position embeddings do not know which token stands there"
    return None


def _writers(model: LanguageModel, maps: Mapping[int, StreamMap]) -> str | None:
    architecture = resolve_arch(model.hf, model.hf.config)
    for state in maps:
        layer = (state - 1) // 2
        if state == 0:
            continue
        if architecture.is_moe_layer(layer):
            return f"block {layer} has several experts"
        if architecture.post_attn_norm(layer) is not None or architecture.post_mlp_norm(layer) is not None:
            return f"block {layer} normalises what it writes, and a projection does not pass through a norm"
        if not all(isinstance(one, nn.Linear | Conv1D) for one in _linear_writers(architecture, state)):
            return f"a sublayer of block {layer} does not end in a plain matrix"
    return None


def _place(state: int) -> str:
    if state == 0:
        return "by the embedding"
    return f"{'after the attention' if state % 2 else 'after the MLP'} of block {(state - 1) // 2}"


def _linear_writers(architecture: ArchSpec, state: int) -> list[nn.Module]:
    if state == 0:
        return []
    layer = (state - 1) // 2
    if state % 2:
        return [architecture.attn_out_proj(layer)]
    mlp = architecture.mlp_projection(layer, "down")
    parallel = architecture.quirks.parallel_attn_mlp
    return [architecture.attn_out_proj(layer), mlp] if parallel else [mlp]


def _embeddings(model: LanguageModel, architecture: ArchSpec) -> list[nn.Module]:
    """The token embedding, and position embeddings that are added to it."""
    tokens = model.hf.get_input_embeddings()
    inside = {id(module) for block in architecture.decoder_layers for module in block.modules()}
    positions = [
        module
        for module in model.hf.base_model.modules()
        if isinstance(module, nn.Embedding) and module is not tokens and id(module) not in inside
    ]
    return [tokens, *positions]


def _fold_embeddings(model: LanguageModel, architecture: ArchSpec, mapped: StreamMap) -> None:
    tokens, *positions = (_weight(module) for module in _embeddings(model, architecture))
    special = sorted(model.special_ids)
    stored = tokens.to(torch.float64)
    rows = stored @ mapped.matrix
    rows[special] = stored[special] @ mapped.special
    tokens.copy_(rows)
    for table in positions:
        table.copy_(table.to(torch.float64) @ mapped.matrix)


def _fold_linear(writer: nn.Module, matrix: Tensor) -> None:
    weight = _weight(writer)
    exact = weight.to(torch.float64)
    # Conv1D stores [in, out], nn.Linear [out, in].
    weight.copy_(exact @ matrix if isinstance(writer, Conv1D) else matrix.T @ exact)
    bias = getattr(writer, "bias", None)
    if isinstance(bias, Tensor):
        bias.copy_(bias.to(torch.float64) @ matrix)


def _weight(module: nn.Module) -> Tensor:
    weight: Any = module.weight
    return cast(Tensor, weight)


def _require_agreement(
    model: LanguageModel, interventions: Sequence[Intervention], folded: LanguageModel
) -> None:
    """Compare the logits of both on random tokens, special ones among them."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(model.vocab_size, (2, 16), generator=generator)
    ids[:, 0] = model.bos_id if model.bos_id is not None else ids[:, 0]
    ids = ids.to(model.device)
    with torch.no_grad():
        with applied(model, interventions, warn=False):
            wanted = model.hf(input_ids=ids, use_cache=False).logits.float()
        found = folded.hf(input_ids=ids, use_cache=False).logits.float()
    difference = float((wanted - found).abs().max())
    # Half precision rounds the folded weights themselves.
    allowed = _AGREEMENT if model.dtype == torch.float32 else 0.05
    if not difference <= allowed * max(1.0, float(wanted.abs().max())):
        raise IncompatibleError(
            f"With the projections folded in, `{model.name}` (a {model.family} model) gives other logits than "
            f"with hooks: they differ by up to {difference:.2g}.",
            hint=_HINT,
        )
