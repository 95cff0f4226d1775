"""The packaged sample text: what the demo model writes by itself at temperature 1."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from onesense.model.language_model import LanguageModel
from onesense.model.load import load_model
from onesense.model.tokens import encode_text, pad_batch
from onesense.recipes.openings import openings
from onesense.store.atomic import write_text

SEED = 20
NEW_TOKENS = 400
_BATCH = 52


def write_sample(output: Path, *, documents: int) -> None:
    """Write documents of about ``NEW_TOKENS`` tokens as JSON lines.

    Args:
        output: The file to write.
        documents: How many documents.
    """
    model = load_model("demo", dtype="auto")
    torch.manual_seed(SEED)
    texts: list[str] = []
    starts = list(openings(documents, SEED))
    for first in range(0, documents, _BATCH):
        texts.extend(_written(model, starts[first : first + _BATCH]))
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
