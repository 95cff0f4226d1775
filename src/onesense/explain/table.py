"""The original project's table of features as the beginning of a run: tokens are all that is known of each."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from onesense.errors import FormatError
from onesense.features.word_sets import token_texts
from onesense.store.atomic import read_json
from onesense.store.catalog import Catalog, FeatureRow
from onesense.store.provenance import provenance
from onesense.store.run_folder import RunFolder

COMMAND = "interpret table"
"""What ``run.json`` says of a run that was begun from a table."""

_NUMBERS = ("mean", "std", "skewness", "kurtosis", "sparsity")
_MOST_FEATURES = 2**31


def read_table(path: Path) -> list[FeatureRow]:
    """Read ``top_activations_per_feature.json``.

    Args:
        path: A list of records with ``feature`` and ``top_activated_words``, which holds token strings of a
            vocabulary with a blank between them.

    Returns:
        A row for each record, in order of their ids; tokens as they are read, not as vocabularies spell them.

    Raises:
        NotFoundError: There is no such file.
        FormatError: It is no such table; says which record and what is wrong with it.
    """
    found = read_json(path)
    if not isinstance(found, list) or not found:
        raise FormatError(
            f"{path} is no table of features: it should be a list of records.",
            hint="Give the JSON that `onesense extract --output-file` wrote.",
        )
    spelled = [_row(record, number, path) for number, record in enumerate(found)]
    distinct = sorted({word for row in spelled for word in row.top_tokens})
    text = dict(zip(distinct, token_texts(distinct), strict=True))
    rows = [replace(row, top_tokens=tuple(text[word] for word in row.top_tokens)) for row in spelled]
    seen: set[int] = set()
    for row in rows:
        if row.feature in seen:
            raise FormatError(f"{path} has feature {row.feature} twice.", hint="Remove one of the records.")
        seen.add(row.feature)
    return sorted(rows, key=lambda row: row.feature)


def run_from_table(rows: list[FeatureRow], folder: Path) -> RunFolder:
    """A run folder whose catalogue holds these features.

    Raises:
        IncompatibleError: The folder holds another run.
        LockedError: Another process writes there.
        StorageError: It cannot be written.
    """
    content = json.dumps([[row.feature, *row.top_tokens] for row in rows]).encode()
    run = RunFolder.create_or_resume(
        folder,
        command=COMMAND,
        configuration={"features": len(rows)},
        provenance=provenance(
            model=None, dictionary=None, text={"table_sha256": hashlib.sha256(content).hexdigest()}, seeds=0
        ),
    )
    with run.lock(), Catalog(run.catalog_path) as catalog:
        catalog.replace_features(rows)
    return run


def _row(record: object, number: int, path: Path) -> FeatureRow:
    where = f"{path}, record {number}"
    if not isinstance(record, Mapping):
        raise FormatError(f"{where} is no record of a feature.", hint="It should be an object.")
    feature, words = record.get("feature"), record.get("top_activated_words")
    if not isinstance(feature, int) or isinstance(feature, bool) or not 0 <= feature < _MOST_FEATURES:
        raise FormatError(f"{where}: `feature` should be a number from 0 up.", hint="Mend the record.")
    if not isinstance(words, str):
        raise FormatError(
            f"{where}: `top_activated_words` should be a text.", hint="Mend the record or remove it."
        )
    mean, std, skewness, kurtosis, sparsity = (
        _number(record.get(name), f"{where}: `{name}`") for name in _NUMBERS
    )
    tokens = tuple(word for word in words.split(" ") if word)
    return FeatureRow(feature, mean, std, skewness, kurtosis, sparsity, top_tokens=tokens)


def _number(value: Any, where: str) -> float | None:
    if value is None:
        return None
    try:
        if not isinstance(value, bool) and isinstance(value, int | float) and math.isfinite(value):
            return float(value)
    except OverflowError:  # a whole number beyond what floats reach
        pass
    raise FormatError(f"{where} should be a number or null.", hint="Mend the record.")
