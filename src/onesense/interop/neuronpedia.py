"""Explanations in the form that Neuronpedia imports and exports: one JSON object a line.

Fields as in its public export (https://www.neuronpedia.org, explanations of a source): ``modelId``, ``layer`` (its
name for a source, such as ``8-res-jb``), ``index`` (a string), ``description``, ``explanationModelName``, ``typeName``.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Iterator
from pathlib import Path

from onesense.debias.export.neuronpedia_vector import require_id
from onesense.store.atomic import write_bytes
from onesense.store.explanations import WHOLE, ExplanationRow

_TYPES = {"llm": "onesense_contexts-logits", "lexical": "onesense_word-sets"}


def neuronpedia_records(
    rows: Iterable[ExplanationRow], *, model_id: str, source_id: str
) -> Iterator[dict[str, str]]:
    """Explanations of whole features that came back well, as Neuronpedia's records.

    Args:
        rows: Explanations.
        model_id: Neuronpedia's name of the model, such as ``gpt2-small``.
        source_id: Its name of the dictionary, such as ``8-res-jb``.

    Raises:
        ConfigurationError: An id with characters that Neuronpedia's addresses do not have.
    """
    require_id(model_id)
    require_id(source_id)
    return (
        {
            "modelId": model_id,
            "layer": source_id,
            "index": str(row.feature),
            "description": row.text,
            "explanationModelName": row.model or "onesense",
            "typeName": _TYPES[row.method],
        }
        for row in rows
        if row.status == "ok" and row.sense == WHOLE
    )


def write_neuronpedia(path: Path, rows: Iterable[ExplanationRow], *, model_id: str, source_id: str) -> int:
    """Write explanations for Neuronpedia, compressed where the name ends in ``.gz``; how many there are.

    Raises:
        ConfigurationError: See ``neuronpedia_records``.
        StorageError: The file cannot be written.
    """
    lines = [
        json.dumps(record, ensure_ascii=False) + "\n"
        for record in neuronpedia_records(rows, model_id=model_id, source_id=source_id)
    ]
    content = "".join(lines).encode("utf-8", errors="backslashreplace")
    if path.suffix == ".gz":
        content = gzip.compress(content, mtime=0)
    write_bytes(path, [content], need=len(content))
    return len(lines)
