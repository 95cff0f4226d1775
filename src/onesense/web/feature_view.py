"""What is known of one feature, as the page shows it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import torch

from onesense.features.bands import histogram_edges
from onesense.features.context_store import Context, Contexts
from onesense.features.lens import LensStatistics
from onesense.sae.registry import is_published, published
from onesense.store.candidates import CandidateRow
from onesense.store.catalog import Catalog
from onesense.store.explanations import read_explanations, read_scores
from onesense.store.feature_columns import read_shown
from onesense.web.resident import TokenTexts
from onesense.web.service import Service
from onesense.web.workspace import KnownRun

_BAND_CONTEXTS = 5
_BINS_OF_LOGITS = 60
_NEAREST = 12
_EFFECTS = ("bias", "fact", "kl")


def said(catalog: Catalog, feature: int) -> dict[str, Any]:
    """Explanations and scores of a feature, of its senses too."""
    return {
        "explanations": [asdict(row) for row in read_explanations(catalog, feature)],
        "scores": [asdict(row) for row in read_scores(catalog, feature)],
    }


def promoted(
    lens: LensStatistics | None,
    feature: int,
    tokens: TokenTexts,
    row_tokens: tuple[Sequence[str], Sequence[str]],
) -> dict[str, list[dict[str, Any]]]:
    """Tokens that a feature promotes and suppresses, with their logits where the run kept them."""
    found: list[list[dict[str, Any]]]
    if lens is None or feature >= lens.n_features:
        found = [[{"token": one, "logit": None} for one in texts] for texts in row_tokens]
    else:
        found = [
            [
                {"token": text, "logit": float(value)}
                for text, value in zip(tokens.strings(ids[feature].tolist()), values[feature], strict=True)
            ]
            for ids, values in ((lens.top_ids, lens.top_values), (lens.bottom_ids, lens.bottom_values))
        ]
    return {"promoted": found[0], "suppressed": found[1]}


def histogram(contexts: Contexts, feature: int) -> dict[str, list[float]]:
    """Firings by activation, on a logarithmic scale: the bins between the smallest and the largest."""
    counts, edges = contexts.histogram(feature), histogram_edges()
    used = np.flatnonzero(counts)
    if not len(used):
        return {"edges": [], "counts": []}
    first, last = int(used[0]), int(used[-1]) + 1
    return {"edges": edges[first : last + 1].tolist(), "counts": counts[first:last].tolist()}


def firing(contexts: Contexts, feature: int, tokens: TokenTexts) -> dict[str, Any]:
    """Where a feature fires: its strongest contexts, and a sample of each band."""
    limits, counts = contexts.band_limits(feature), contexts.band_counts(feature)
    bands = [
        {
            "low": low,
            "high": high,
            "count": int(counts[band]),
            "contexts": [described(one, tokens) for one in contexts.sample(feature, band)[:_BAND_CONTEXTS]],
        }
        for band, (low, high) in enumerate(limits)
    ]
    return {
        "firings": int(contexts.count[feature]),
        "of_tokens": contexts.tokens_counted,
        "top": [described(one, tokens) for one in contexts.top(feature)],
        "bands": [band for band in bands if band["contexts"]],
        "histogram": histogram(contexts, feature),
    }


def described(context: Context, tokens: TokenTexts) -> dict[str, Any]:
    """A context as JSON values."""
    return {
        "document": context.document,
        "peak": context.peak,
        "tokens": tokens.strings(context.token_ids.tolist()),
        "activations": [round(float(value), 3) for value in context.activations],
    }


def effects(known: KnownRun | None, hook_point: str, feature: int) -> dict[str, Any] | None:
    """What debias knows of a feature, beside the largest of its kind; None where it knows nothing."""
    if known is None:
        return None
    names = ", ".join(f"max(abs({name}))" for name in _EFFECTS)
    with Catalog(known.path / "catalog.sqlite", read_only=True) as catalog:
        rows = catalog.rows(
            f"SELECT {', '.join(_EFFECTS)}, toward_women, factor FROM candidates WHERE hook_point = ? AND feature = ?",
            (hook_point, feature),
        )
        if not rows:
            return None
        largest = catalog.rows(f"SELECT {names} FROM candidates WHERE hook_point = ?", (hook_point,))[0]
    row = CandidateRow(
        hook_point, feature, bias=rows[0][0], fact=rows[0][1], kl=rows[0][2], toward_women=rows[0][3],
        factor=rows[0][4],
    )  # fmt: skip
    return {
        "run": known.id,
        "toward_women": row.toward_women,
        "factor": row.factor,
        "values": {
            name: {"value": getattr(row, name), "largest": most}
            for name, most in zip(_EFFECTS, largest, strict=True)
        },
    }


def neuronpedia(dictionary: str, feature: int) -> str:
    """The feature's page on Neuronpedia, where its release has one; else empty."""
    release, slash, sae_id = dictionary.partition("/")
    if not slash or not is_published(release):
        return ""
    name = str(published(release, sae_id).overrides.get("neuronpedia_id", ""))
    return f"https://www.neuronpedia.org/{name}/{feature}" if name.count("/") == 1 else ""


def nearest(uses: Service, run: KnownRun, feature: int) -> list[dict[str, Any]]:
    """Features whose decoder rows point most nearly the same way, by cosine.

    Raises:
        NotFoundError: The dictionary is not there any more, or has no such feature.
    """
    dictionary = uses.resident.dictionary(uses.workspace.dictionary(run.dictionary_key))
    rows = dictionary.W_dec.float()
    cosines = (rows @ rows[feature]) / (
        dictionary.decoder_norms.float() * dictionary.decoder_norms[feature].float()
    )
    cosines[feature] = -2.0
    values, ids = cosines.topk(min(_NEAREST, len(cosines) - 1))
    with Catalog(run.path / "catalog.sqlite", read_only=True) as catalog:
        shown = {row.feature: row for row in read_shown(catalog, ids.tolist())}
    return [
        {
            "feature": one,
            "cosine": value,
            "explanation": shown[one].explanation,
            "promoted": list(shown[one].promoted[:5]),
            "density": shown[one].density,
        }
        for one, value in zip(ids.tolist(), values.tolist(), strict=True)
        if one in shown
    ]


def logits(uses: Service, run: KnownRun, feature: int) -> dict[str, Any]:
    """Histogram of what a feature adds to the logits of the vocabulary.

    Raises:
        OnesenseError: Model or dictionary are not there.
    """
    dictionary = uses.resident.dictionary(uses.workspace.dictionary(run.dictionary_key))
    W_U = uses.resident.unembedding(run.fact("model"))
    values = dictionary.decoder_rows(torch.tensor([feature]))[0].to(W_U.device) @ W_U
    counts, edges = np.histogram(values.cpu().numpy(), bins=_BINS_OF_LOGITS)
    return {"edges": [float(edge) for edge in edges], "counts": counts.tolist()}
