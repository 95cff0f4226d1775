"""Names under which models are known."""

from __future__ import annotations

# TransformerLens' short names for models whose hub name differs (its own table, OFFICIAL_MODEL_NAMES).
_TRANSFORMER_LENS_NAMES = {
    "gpt2-small": "openai-community/gpt2",
    "gpt2": "openai-community/gpt2",
    "gpt2-medium": "openai-community/gpt2-medium",
    "gpt2-large": "openai-community/gpt2-large",
    "gpt2-xl": "openai-community/gpt2-xl",
    "pythia-14m": "EleutherAI/pythia-14m",
    "pythia-70m": "EleutherAI/pythia-70m",
    "pythia-70m-deduped": "EleutherAI/pythia-70m-deduped",
    "pythia-160m": "EleutherAI/pythia-160m",
    "pythia-160m-deduped": "EleutherAI/pythia-160m-deduped",
    "pythia-410m": "EleutherAI/pythia-410m",
    "pythia-1b": "EleutherAI/pythia-1b",
    "pythia-1.4b": "EleutherAI/pythia-1.4b",
    "pythia-2.8b": "EleutherAI/pythia-2.8b",
    "gemma-2b": "google/gemma-2b",
    "gemma-2b-it": "google/gemma-2b-it",
    "gemma-7b": "google/gemma-7b",
    "gemma-2-2b": "google/gemma-2-2b",
    "gemma-2-2b-it": "google/gemma-2-2b-it",
    "gemma-2-9b": "google/gemma-2-9b",
    "gemma-2-9b-it": "google/gemma-2-9b-it",
    "gemma-2-27b": "google/gemma-2-27b",
    "mistral-7b": "mistralai/Mistral-7B-v0.1",
    "opt-125m": "facebook/opt-125m",
    "llama-3-8b": "meta-llama/Meta-Llama-3-8B",
    "llama-3.1-8b": "meta-llama/Llama-3.1-8B",
}


def hub_name(name: str) -> str:
    """The hub's name of a model that may be known by its TransformerLens name (``gpt2-small`` is ``gpt2``)."""
    return _TRANSFORMER_LENS_NAMES.get(name.lower(), name)


def short_name(name: str) -> str:
    """The TransformerLens name of a model, or the last part of its name in lower case where it has none."""
    hub = hub_name(name).lower()
    known = next((short for short, full in _TRANSFORMER_LENS_NAMES.items() if full.lower() == hub), None)
    if known is None and hub == "gpt2":
        known = "gpt2-small"
    return known or hub.rstrip("/").rpartition("/")[2]
