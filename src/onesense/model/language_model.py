"""The language model: a Hugging Face causal LM behind one small, typed face."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from interp_engine.mappers import tlens_hook_to_point
from interp_engine.model import EagerModel
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from onesense.errors import ConfigurationError, HookPointError, IncompatibleError
from onesense.model.demo_model import DEMO_NAME
from onesense.model.hook_points import MAPPABLE_SUFFIXES, HookPoint
from onesense.model.placement import DeviceMap, input_device, is_offloaded, is_spread, stored_tensors

Side = Literal["input", "output"]


class ResolvedPoint(NamedTuple):
    """Where a hook point lives in the module tree."""

    module: nn.Module
    side: Side
    width: int


class _NoTokenizer:
    """Stands in where a model comes without a tokenizer, so that interp-engine does not go looking for one."""

    bos_token_id = None
    eos_token_id = None
    pad_token_id = None
    chat_template = None


class LanguageModel:
    """A causal LM with its weights as published: never folded, never altered in place.

    Attributes:
        name: What it was asked for by.
        revision: Commit or tag on the hub that was asked for.
        device_map: How it was asked to be spread over devices; None where it lies on one.
        spread: Whether its weights lie on more than one device, or some are offloaded.
        offloaded: Whether weights are fetched for each pass, from main memory for a GPU or from disk.
        hf: The Hugging Face model, in eval mode, with gradients off.
        tokenizer: Its tokenizer, or None.
        family: ``config.model_type``, such as ``gpt2`` or ``llama``.
        n_layers: Number of blocks.
        d_model: Width of the residual stream.
        d_mlp: Width of the MLP's neurons, or 0 where the configuration does not say.
        vocab_size: Tokens that the tokenizer knows; padding rows of the embedding do not count.
        max_context: Longest sequence in tokens.
        bos_id: The token put before every text, or None. Id 0 is an id like any other.
        special_ids: Tokens that never count in statistics.
    """

    def __init__(self, hf: PreTrainedModel, tokenizer: PreTrainedTokenizerBase | None, name: str) -> None:
        self.name = name
        self.revision: str | None = None
        self.device_map: DeviceMap | None = None
        self.hf = hf
        self.hf.train(False)
        self.hf.requires_grad_(False)
        self.spread = is_spread(hf)
        self.offloaded = is_offloaded(hf)
        self._input_device = input_device(hf) if self.spread else None
        self.tokenizer = tokenizer
        config: Any = hf.config.get_text_config()
        self.family: str = config.model_type
        self.n_layers: int = config.num_hidden_layers
        self.d_model: int = config.hidden_size
        self.d_mlp: int = _first_int(config, ("intermediate_size", "n_inner")) or _default_d_mlp(config)
        self.max_context: int = _first_int(config, ("max_position_embeddings", "n_positions")) or 2048
        rows = embedding_rows(hf)
        self.vocab_size: int = rows if tokenizer is None else min(rows, len(tokenizer))
        self.bos_id: int | None = None if tokenizer is None else tokenizer.bos_token_id
        self.special_ids: frozenset[int] = (
            frozenset() if tokenizer is None else frozenset(tokenizer.all_special_ids)
        )
        self._eager = EagerModel(
            name, hf_model=hf, tokenizer=tokenizer if tokenizer is not None else _NoTokenizer()
        )
        self._resolved: dict[HookPoint, ResolvedPoint] = {}

    @classmethod
    def from_hf(
        cls, hf: PreTrainedModel, tokenizer: PreTrainedTokenizerBase | None, name: str
    ) -> LanguageModel:
        """Wrap a model that is loaded already."""
        return cls(hf, tokenizer, name)

    def __reduce__(self) -> tuple[Any, ...]:
        """Another process gets the address and opens the model itself: weights are never sent."""
        from onesense.model.reopen import reopen_model  # it loads models, so it stands above this module

        place = Path(self.name).expanduser()
        # As where it was loaded: a folder that happens to be called demo is not the demo.
        here = self.name != DEMO_NAME and place.exists()
        name = str(place.resolve()) if here else self.name
        dtype = str(self.dtype).removeprefix("torch.")
        device = self.device.type if self.device_map is None else "auto"
        placed = (
            tuple(sorted(self.device_map.items()))
            if isinstance(self.device_map, Mapping)
            else self.device_map
        )
        return reopen_model, (name, self.revision, dtype, device, self.fingerprint, placed)

    @property
    def dtype(self) -> torch.dtype:
        """Number format of the weights."""
        dtype: torch.dtype = self.hf.dtype
        return dtype

    @property
    def device(self) -> torch.device:
        """Where the weights are; of a spread model, where tokens go to and activations are handed out."""
        if self._input_device is not None:
            return self._input_device
        device: torch.device = self.hf.device
        return device

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over the shape of the model and every weight, as 64 hex digits."""
        return self.fingerprint_as(None)

    def fingerprint_as(self, dtype: torch.dtype | None) -> str:
        """The fingerprint that the model would have in another number format; None for its own."""
        digest = hashlib.sha256()
        config: dict[str, Any] = self.hf.config.get_text_config().to_dict()
        shape = {
            key: config.get(key) for key in ("model_type", "hidden_size", "num_hidden_layers", "vocab_size")
        }
        digest.update(json.dumps(shape, sort_keys=True).encode())
        for name, stored in stored_tensors(self.hf):
            tensor = stored.to(dtype) if dtype is not None and stored.is_floating_point() else stored
            digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
            flat = tensor.detach().cpu().contiguous().reshape(-1)
            digest.update(flat.view(torch.uint8).numpy().data)
        return digest.hexdigest()

    def resolve(self, point: HookPoint) -> ResolvedPoint:
        """Find the module and side where a hook point is read and written.

        Raises:
            HookPointError: The layer is out of range, or this family has no such place.
        """
        if point not in self._resolved:
            self._resolved[point] = self._resolve(point)
        return self._resolved[point]

    def address(self, point: HookPoint) -> tuple[str, int]:
        """interp-engine's name of a hook point in this model, such as ``resid_post``, and the layer."""
        self.resolve(point)
        address = tlens_hook_to_point(point.name, self._eager)
        return address.name, address.layer

    def _resolve(self, point: HookPoint) -> ResolvedPoint:
        if not 0 <= point.layer < self.n_layers:
            raise HookPointError(
                f"`{point}`: layer {point.layer} is out of range; `{self.name}` has {self.n_layers} layers.",
                hint=f"Layers run from 0 to {self.n_layers - 1}.",
            )
        try:
            address = tlens_hook_to_point(point.name, self._eager)
            module, side = self._eager.resolve_point(address.name, point.layer)
        except (ValueError, KeyError, AttributeError, LookupError) as error:
            mappable = ", ".join(suffix for suffix in MAPPABLE_SUFFIXES if suffix != point.suffix)
            raise HookPointError(
                f"`{point}` does not map in `{self.name}` (a {self.family} model): {error}",
                hint=f"Other places in a block: {mappable}.",
            ) from error
        if side not in ("input", "output"):
            raise HookPointError(
                f"`{point}` is one of several outputs of its module and cannot be edited.",
                hint="Use a place in the residual stream, such as hook_resid_post.",
            )
        return ResolvedPoint(module, side, self._width(point))

    def _width(self, point: HookPoint) -> int:
        if point.suffix in ("mlp.hook_post", "mlp.hook_pre"):
            return self.d_mlp
        if point.suffix == "attn.hook_z":
            config: Any = self.hf.config.get_text_config()
            head = getattr(config, "head_dim", None) or self.d_model // config.num_attention_heads
            return int(head * config.num_attention_heads)
        return self.d_model

    def copy_as(self, dtype: torch.dtype) -> LanguageModel:
        """The same model in another number format; itself where the format is the same already."""
        if dtype == self.dtype:
            return self
        if self.spread:
            return self._loaded_as(dtype)
        config = self.hf.config
        with torch.device("meta"):
            twin = type(self.hf)(config)
        state = {name: tensor.to(dtype) for name, tensor in self.hf.state_dict().items()}
        twin.load_state_dict(state, strict=False, assign=True)
        _materialise_buffers(self.hf, twin)
        twin.tie_weights()
        twin.generation_config = self.hf.generation_config
        copy = LanguageModel(twin, self.tokenizer, self.name)
        copy.revision = self.revision
        copy.__dict__["fingerprint"] = self.fingerprint
        return copy

    def _loaded_as(self, dtype: torch.dtype) -> LanguageModel:
        """A spread model is read again from where it came: its weights do not lie here to be copied."""
        from onesense.model.load import load_model  # it makes models, so it stands above this module

        self.require_one_device("be turned into another number format", unless=self.device_map is not None)
        name = str(dtype).removeprefix("torch.")
        again = load_model(self.name, dtype=name, device_map=self.device_map, revision=self.revision)
        again.__dict__["fingerprint"] = self.fingerprint
        return again

    def require_one_device(self, what: str, *, unless: bool = False) -> None:
        """Refuse what needs all weights in one place.

        Args:
            what: What a spread model cannot do, for the error.
            unless: Whether it is possible all the same.

        Raises:
            IncompatibleError: The model is spread over devices or disk.
        """
        if self.spread and not unless:
            raise IncompatibleError(
                f"`{self.name}` is spread over several devices (--device-map), and such a model cannot {what}.",
                hint="Load it on one device (--device), in a narrower format (--dtype bfloat16) where it must fit.",
            )

    def require_gradients(self) -> None:
        """Refuse gradients through offloaded weights: all that were fetched would be held until they are done.

        Raises:
            IncompatibleError: Some weights are offloaded.
        """
        if self.offloaded:
            raise IncompatibleError(
                f"Weights of `{self.name}` are fetched for each pass (--device-map), and learning edits needs "
                "gradients through them, which would hold all of them at once.",
                hint="Use devices that have room for it, a narrower format (--dtype bfloat16) or a smaller model.",
            )

    def require_tokenizer(self) -> PreTrainedTokenizerBase:
        """The tokenizer.

        Raises:
            ConfigurationError: The model came without one.
        """
        if self.tokenizer is None:
            raise ConfigurationError(
                f"`{self.name}` has no tokenizer, so text cannot be turned into tokens.",
                hint="Put the tokenizer's files into the model's folder.",
            )
        return self.tokenizer

    def token_strings(self, ids: Iterable[int]) -> list[str]:
        """The text of each token by itself; a part of a character shows as the replacement character."""
        tokenizer = self.require_tokenizer()
        return [str(tokenizer.decode([int(token)], clean_up_tokenization_spaces=False)) for token in ids]

    def vocabulary(self) -> list[str]:
        """The tokenizer's own spelling of each token (``Ġthe``), by id."""
        tokenizer = self.require_tokenizer()
        spelled: Any = tokenizer.convert_ids_to_tokens(list(range(self.vocab_size)))
        return ["" if token is None else str(token) for token in spelled]

    def decode(self, ids: Sequence[int]) -> str:
        """The text of a sequence, special tokens left out."""
        tokenizer = self.require_tokenizer()
        return str(tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False))


def embedding_rows(hf: PreTrainedModel) -> int:
    """Rows of the embedding: tokens of the vocabulary and its padding."""
    embedding: Any = hf.get_input_embeddings()
    return int(embedding.weight.shape[0])


def _first_int(config: Any, names: Sequence[str]) -> int | None:
    for name in names:
        value = getattr(config, name, None)
        if isinstance(value, int) and value > 0:
            return value
    return None


def _default_d_mlp(config: Any) -> int:
    # GPT-2's configuration leaves n_inner empty, which means four times the width.
    return 4 * int(config.hidden_size) if config.model_type in ("gpt2", "gptj", "gpt_neo") else 0


def _materialise_buffers(source: nn.Module, target: nn.Module) -> None:
    """Copy buffers that a state dict leaves out (rotary frequencies), in their own format."""
    modules = dict(target.named_modules())
    for path, module in source.named_modules():
        for name, buffer in module._buffers.items():
            if buffer is not None:
                modules[path]._buffers[name] = buffer.clone()
        original = getattr(module, "original_inv_freq", None)
        if isinstance(original, torch.Tensor):
            modules[path].original_inv_freq = original.clone()
