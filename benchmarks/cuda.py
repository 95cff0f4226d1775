"""What reading text for features costs on a GPU, for a model and a dictionary of usual sizes.

``python -m benchmarks.cuda`` makes a model in the shape of a Llama of 7 billion parameters and a dictionary in its
middle, both of random numbers, and runs ``extract`` on the GPU: seconds of each stage, tokens a second, memory.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, LlamaConfig

from benchmarks.wide import L0, Timed, random_directions
from onesense.features.context_settings import ContextSettings
from onesense.features.extract import ExtractSettings, extract
from onesense.model.hook_points import HookPoint
from onesense.model.language_model import LanguageModel
from onesense.model.load import load_model

_HEADS = 32


def random_model(layers: int, width: int, device: str) -> LanguageModel:
    """Random weights in the shape of a Llama, with the demo's tokenizer, in bfloat16."""
    tokenizer = load_model("demo", dtype="float32", device="cpu").require_tokenizer()
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=width * 43 // 16,
        num_hidden_layers=layers,
        num_attention_heads=_HEADS,
        max_position_embeddings=2048,
    )
    torch.manual_seed(0)
    with torch.device(device):
        hf = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    return LanguageModel.from_hf(hf.eval(), tokenizer, f"random-llama-{layers}-{width}")


def measured(layers: int, width: int, features: int, tokens: int, device: str) -> dict[str, Any]:
    """Seconds of each stage of ``extract``, and what they come to."""
    model = random_model(layers, width, device)
    dictionary = random_directions(model, HookPoint(layers // 2, "hook_resid_post"), features)
    stages = Timed()
    settings = ExtractSettings(dtype="bfloat16", contexts=ContextSettings(max_tokens=tokens), check=False)
    on_gpu = device == "cuda"
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
    with tempfile.TemporaryDirectory() as folder:
        found = extract(model, dictionary, Path(folder) / "run", settings, stages=stages).contexts
    if found is None or found.tokens_seen != tokens:
        raise RuntimeError(f"not {tokens} tokens were read")
    return {
        "parameters": sum(one.numel() for one in model.hf.parameters()),
        "features": features,
        "tokens": tokens,
        "device": torch.cuda.get_device_name() if on_gpu else device,
        "l0": float(found.count.sum() / found.tokens_counted),
        "wanted_l0": L0,
        "seconds": stages.seconds,
        "tokens_per_second": tokens / stages.seconds["Contexts"],
        "lens_milliseconds_per_feature": 1e3 * stages.seconds["Logit"] / features,
        "gpu_gigabytes": torch.cuda.max_memory_allocated() / 1e9 if on_gpu else None,
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print one line of JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cuda", description=__doc__)
    parser.add_argument("--layers", type=int, default=32)
    parser.add_argument("--width", type=int, default=4096)
    parser.add_argument("--features", type=int, default=65_536)
    parser.add_argument("--tokens", type=int, default=65_536)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--quick", action="store_true", help="a small model")
    options = parser.parse_args(arguments)
    if options.device == "cuda" and not torch.cuda.is_available():
        print("Left out: there is no CUDA device.")
        return
    if options.quick:
        options.layers, options.width, options.features, options.tokens = 2, 256, 4_096, 4_096
    sizes = (options.layers, options.width, options.features, options.tokens)
    print(json.dumps({"benchmark": "cuda", **measured(*sizes, options.device)}))


if __name__ == "__main__":
    main()
