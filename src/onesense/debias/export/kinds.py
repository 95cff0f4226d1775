"""What a recipe can be exported as."""

from __future__ import annotations

from enum import StrEnum


class ExportKind(StrEnum):
    """A kind of artefact.

    ``projection``: plain weights with projections folded in, exact. ``merged``: plain weights with a distilled
    LoRA merged in. ``lora``: the adapter by itself. ``gguf``: a control vector for llama.cpp, exact. ``vllm``: a
    steering spec for vLLM by way of interp-engine, exact. ``neuronpedia``: vectors to upload to Neuronpedia, exact.
    """

    PROJECTION = "projection"
    MERGED = "merged"
    LORA = "lora"
    GGUF = "gguf"
    VLLM = "vllm"
    NEURONPEDIA = "neuronpedia"

    @property
    def exact(self) -> bool:
        """Whether the artefact computes what the recipe's hooks compute, up to rounding."""
        return self not in (ExportKind.MERGED, ExportKind.LORA)

    @property
    def plain_weights(self) -> bool:
        """Whether the folder is a model by itself."""
        return self in (ExportKind.PROJECTION, ExportKind.MERGED)

    @property
    def hooked(self) -> bool:
        """Whether other software adds the edits to activations, so that transformers needs hooks for them."""
        return self in (ExportKind.GGUF, ExportKind.VLLM, ExportKind.NEURONPEDIA)


AUTO = "auto"
WAYS = (AUTO, *ExportKind)
"""What ``how`` may be: ``auto`` takes the exact projection where there is one, and a merged LoRA otherwise."""
