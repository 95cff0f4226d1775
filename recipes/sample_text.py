"""The packaged sample text: what the demo model writes by itself at temperature 1."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch

from onesense.model.language_model import LanguageModel
from onesense.model.load import load_model
from onesense.model.tokens import encode_text, pad_batch
from onesense.store.atomic import write_text
from recipes.openings import openings

SEED = 20
NEW_TOKENS = 160
_BATCH = 104


def write_sample(output: Path, *, documents: int, seed: int = SEED) -> None:
    """Write documents of about ``NEW_TOKENS`` tokens as JSON lines.

    Args:
        output: The file to write.
        documents: How many documents.
        seed: Of the openings and of the sampling.
    """
    model = load_model("demo", dtype="auto")
    torch.manual_seed(seed)
    texts: list[str] = []
    starts = list(openings(documents, seed))
    for first in range(0, documents, _BATCH):
        texts.extend(_written(model, starts[first : first + _BATCH]))
        print(f"{len(texts)} of {documents} documents", flush=True)  # noqa: T201 - a recipe's progress
    lines = [json.dumps({"text": text}, ensure_ascii=False) for text in texts]
    write_text(output, "\n".join(lines) + "\n")


def _written(model: LanguageModel, starts: list[str]) -> list[str]:
    batch = pad_batch(model, [encode_text(model, start) for start in starts], side="left")
    out = model.hf.generate(  # type: ignore[operator]
        input_ids=batch.ids,
        attention_mask=batch.attention_mask,
        do_sample=True,
        temperature=1.0,
        top_k=0,
        max_new_tokens=NEW_TOKENS,
        pad_token_id=model.hf.config.eos_token_id,
    )
    return [model.decode(row) for row in out.tolist()]


def main() -> None:
    """``python -m recipes.sample_text --output FILE``."""
    parser = argparse.ArgumentParser(prog="python -m recipes.sample_text", description=__doc__)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--documents", type=int, default=1248)
    parser.add_argument("--seed", type=int, default=SEED, help="another seed writes other text, to train on")
    arguments = parser.parse_args()
    write_sample(arguments.output, documents=arguments.documents, seed=arguments.seed)


if __name__ == "__main__":
    main()
