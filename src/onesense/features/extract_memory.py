"""How much memory an extraction will take, said before it begins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from onesense.features.context_accumulator import ContextAccumulator, token_dtype
from onesense.features.extract import ExtractSettings
from onesense.features.feature_parts import FeaturePart, plan_parts
from onesense.model.dtype import resolve_dtype
from onesense.model.language_model import LanguageModel
from onesense.model.memory import gigabytes, require_room, weights_in_memory
from onesense.sae.dictionary import Dictionary

# Python with torch, transformers and numba loaded, and what compiling the kernels takes the first time.
_LIBRARIES = 1_100 * 10**6
_BLOCKS_AT_ONCE = 4  # activations of a batch that are alive while a block is computed, in widths of its MLP
_CHECK_TOKENS = 2_000
_FLOAT32 = 4
_LENS_BYTES = 3 * 192  # a feature, as arrays, and as they are written
_CONTEXT = 128


@dataclass(frozen=True, slots=True)
class MemoryEstimate:
    """Bytes of main memory at the highest point, by what needs them.

    Attributes:
        libraries: Code.
        model: Weights as loaded, and once more in the number format that text is read in.
        dictionary: Its tensors, in as many formats.
        lens: Decoder rows and the prepared unembedding.
        contexts: Tables of a shard and of the whole.
        activations: Of the tokens that go through the model together.
    """

    libraries: int
    model: int
    dictionary: int
    lens: int
    contexts: int
    activations: int

    @property
    def total(self) -> int:
        """At the highest point: lens and contexts do not meet."""
        return (
            self.libraries + self.model + self.dictionary + max(self.lens, self.contexts + self.activations)
        )

    def __str__(self) -> str:
        parts = ("model", "dictionary", "lens", "contexts", "activations")
        named = ", ".join(f"{name} {gigabytes(getattr(self, name))}" for name in parts)
        return f"about {gigabytes(self.total)} GB of memory at most ({named})"


def estimate_memory(
    model: LanguageModel, dictionaries: Sequence[Dictionary], settings: ExtractSettings
) -> MemoryEstimate:
    """What ``extract`` will take of main memory; what lies on a GPU does not count.

    Of a dictionary on disk that is looked at in parts, all that is read counts: the system can take that back.

    Args:
        model: As loaded.
        dictionaries: As loaded.
        settings: What is extracted.
    """
    on_cpu = model.device.type == "cpu"
    reading = resolve_dtype(settings.dtype, model.device)
    weights = weights_in_memory(model)
    tensors = sum(tensor.nbytes for one in dictionaries for tensor in one.tensors().values())
    parts = plan_parts([one.d_sae for one in dictionaries], settings.contexts.features_at_once)
    copies, narrower, contexts, activations = 1.0, 0.0, 0, 0
    if settings.with_contexts:
        copies += 0.0 if reading == model.dtype else reading.itemsize / model.dtype.itemsize
        narrower = max(_part_bytes(dictionaries[part.dictionary], part, reading) for part in parts)
        contexts = max(_tables(model, part, settings) for part in parts)
        tokens = max(settings.contexts.batch_tokens, _CHECK_TOKENS)
        widths = _BLOCKS_AT_ONCE * max(model.d_mlp, model.d_model) + 2 * max(one.d_in for one in dictionaries)
        activations = tokens * widths * reading.itemsize
        if len(parts) > 1:
            activations += _of_a_shard(dictionaries, settings) * reading.itemsize
    return MemoryEstimate(
        libraries=_LIBRARIES,
        model=int(weights * copies),
        dictionary=int(tensors + narrower),
        lens=_FLOAT32 * 2 * model.vocab_size * model.d_model
        + _LENS_BYTES * sum(one.d_sae for one in dictionaries),
        contexts=contexts,
        activations=activations if on_cpu else 0,
    )


def require_memory(estimate: MemoryEstimate, *, force: bool) -> None:
    """Refuse what this machine has no memory for.

    Raises:
        DeviceError: More is needed than is free, and ``force`` is off.
    """
    require_room(
        estimate.total,
        estimate,
        hint="Keep fewer contexts (--top-contexts), read in a narrower format (--dtype bfloat16)",
        force=force,
    )


def _tables(model: LanguageModel, part: FeaturePart, settings: ExtractSettings) -> int:
    one = part.shape(settings.contexts)._replace(n_features=1)
    whole = ContextAccumulator(one, token_dtype(model.vocab_size)).nbytes
    # A shard's tables, the whole ones, and a shard as it is read or written: never all three at their largest.
    return 2 * whole * part.n_features


def _part_bytes(dictionary: Dictionary, part: FeaturePart, reading: torch.dtype) -> float:
    """A part's own tensors: those of a whole dictionary in its own format are the dictionary's."""
    if part.n_features == dictionary.d_sae and reading == dictionary.dtype:
        return 0
    numbers = sum(tensor.numel() for tensor in dictionary.tensors().values())
    return numbers * part.n_features / dictionary.d_sae * reading.itemsize


def _of_a_shard(dictionaries: Sequence[Dictionary], settings: ExtractSettings) -> int:
    """Numbers that are kept of a shard's activations while its parts are done."""
    chosen = settings.contexts
    sizes = [chosen.context_size or one.origin.context_size or _CONTEXT for one in dictionaries]
    tokens = chosen.windows_per_shard * max(sizes)
    if chosen.max_tokens is not None:
        tokens = min(tokens, chosen.max_tokens)
    return tokens * sum({one.hook_point: one.d_in for one in dictionaries}.values())


__all__ = ["MemoryEstimate", "estimate_memory", "require_memory"]
