"""How much memory an extraction will take, said before it begins."""

from __future__ import annotations

from dataclasses import dataclass

from onesense.features.context_accumulator import ContextAccumulator, ContextShape, token_dtype
from onesense.features.extract import ExtractSettings
from onesense.model.dtype import resolve_dtype
from onesense.model.language_model import LanguageModel
from onesense.model.memory import gigabytes, require_room, weights_in_memory
from onesense.sae.dictionary import Dictionary

# Python with torch, transformers and numba loaded, and what compiling the kernels takes the first time.
_LIBRARIES = 1_100 * 10**6
_BLOCKS_AT_ONCE = 4  # activations of a batch that are alive while a block is computed, in widths of its MLP
_CHECK_TOKENS = 2_000
_FLOAT32 = 4


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
    model: LanguageModel, dictionary: Dictionary, settings: ExtractSettings
) -> MemoryEstimate:
    """What ``extract`` will take of main memory; what lies on a GPU does not count.

    Args:
        model: As loaded.
        dictionary: As loaded.
        settings: What is extracted.
    """
    on_cpu = model.device.type == "cpu"
    reading = resolve_dtype(settings.dtype, model.device)
    weights = weights_in_memory(model)
    tensors = sum(one.nbytes for one in dictionary.tensors().values())
    copies, contexts, activations = 1.0, 0, 0
    if settings.with_contexts:
        copies += 0.0 if reading == model.dtype else reading.itemsize / model.dtype.itemsize
        contexts = _tables(model, dictionary, settings)
        tokens = max(settings.contexts.batch_tokens, _CHECK_TOKENS)
        widths = _BLOCKS_AT_ONCE * max(model.d_mlp, model.d_model) + 2 * dictionary.d_in
        activations = tokens * widths * reading.itemsize
    return MemoryEstimate(
        libraries=_LIBRARIES,
        model=int(weights * copies),
        dictionary=int(tensors * copies),
        lens=_FLOAT32 * (dictionary.d_sae * dictionary.d_in + 2 * model.vocab_size * model.d_model),
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


def _tables(model: LanguageModel, dictionary: Dictionary, settings: ExtractSettings) -> int:
    chosen = settings.contexts
    one = ContextShape(1, chosen.top_k, chosen.bands, chosen.per_band, chosen.width, chosen.seed)
    whole = ContextAccumulator(one, token_dtype(model.vocab_size)).nbytes
    # A shard's tables, the whole ones, and a shard as it is read or written: never all three at their largest.
    return 2 * whole * dictionary.d_sae


__all__ = ["MemoryEstimate", "estimate_memory", "require_memory"]
