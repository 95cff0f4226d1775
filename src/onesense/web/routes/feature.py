"""The page of one feature, and what it asks for once it is there."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated, Any

import torch
from fastapi import Path
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field

from onesense.errors import ConfigurationError, NotFoundError
from onesense.model.capture import capture
from onesense.model.hook_points import HookPoint
from onesense.model.tokens import encode_text, pad_batch
from onesense.senses.measure import FEATURES
from onesense.store.catalog import Catalog
from onesense.web import feature_view as view
from onesense.web.feature_drawing import activation_histogram
from onesense.web.feature_tables import FeatureTable
from onesense.web.pages import Pages, View, json_answer
from onesense.web.sense_contexts import senses_of
from onesense.web.service import Service, Uses
from onesense.web.streaming import stream
from onesense.web.work import Job
from onesense.web.workspace import KnownRun

pages = Pages()

FeatureId = Annotated[int, Path(ge=0, le=2**53)]

_SENSE_CONTEXTS = 6
_MOST_FEATURES = 16


class Text(BaseModel):
    """A text to see features on."""

    model_config = ConfigDict(extra="forbid")

    run: str = Field(max_length=100)
    features: list[Annotated[int, Field(ge=0, le=2**53)]] = Field(min_length=1, max_length=_MOST_FEATURES)
    text: str = Field(min_length=1, max_length=4000)


@pages.get("/runs/{run}/features/{feature}/logits.json", response_model=None)
def logits(run: str, feature: FeatureId, uses: Uses) -> JSONResponse:
    """Histogram of what the feature adds to the logits."""
    known, _ = _known(uses, run, feature)
    return json_answer(view.logits(uses, known, feature))


@pages.get("/runs/{run}/features/{feature}/nearest.json", response_model=None)
def nearest(run: str, feature: FeatureId, uses: Uses) -> JSONResponse:
    """Features whose decoder rows are most like this one's."""
    known, _ = _known(uses, run, feature)
    return json_answer({"nearest": view.nearest(uses, known, feature)})


@pages.get("/runs/{run}/features/{feature}/senses.json", response_model=None)
def senses(run: str, feature: FeatureId, uses: Uses) -> JSONResponse:
    """The senses of the feature, each with its tokens and contexts, where a run measured them."""
    _, table = _known(uses, run, feature)
    source = table.senses
    return json_answer({"run": source.id if source else None, "senses": _senses(uses, source, feature)})


@pages.post("/api/activations", response_class=StreamingResponse)
def activations(asked: Text, uses: Uses) -> StreamingResponse:
    """Activations of features on a text of one's own; the last event has them."""
    known = uses.workspace.run(asked.run, "extract")

    def work(job: Job) -> dict[str, Any]:
        job.check()
        return _activations(uses, known, asked)

    job = uses.queue.submit("activations", f"Activations on a text ({known.path.name})", work)
    return stream(uses.queue, job, owned=True)


@pages.page("/runs/{run}/features/{feature}", "feature.html.j2")
def feature_page(run: str, feature: FeatureId, uses: Uses) -> View:
    """One feature."""
    known, table = _known(uses, run, feature)
    opened, tokens = uses.opened.get(known), uses.resident.tokens(known.fact("model"))
    with Catalog(known.open().catalog_path, read_only=True) as catalog:
        row = catalog.feature(feature)
        said = view.said(catalog, feature)
    contexts = opened.contexts
    fires = None if contexts is None else view.firing(contexts, feature, tokens)
    best = next(
        (one["text"] for one in said["explanations"] if one["status"] == "ok" and one["sense"] == -1), ""
    )
    data = {
        "run": {"id": known.id, "name": known.path.name},
        "feature": feature,
        "of": int(table.index.feature[-1]) + 1,
        "model": known.fact("model"),
        "hook_point": known.fact("hook_point"),
        "dictionary": {"key": known.dictionary_key, "label": known.fact("dictionary")},
        **said,
        **view.promoted(opened.lens, feature, tokens, (row.top_tokens, row.bottom_tokens)),
        "density": row.density,
        "max_activation": row.max_activation,
        "skewness": row.skewness,
        "kurtosis": row.kurtosis,
        "firing": fires,
        "senses_run": table.senses.id if table.senses else "",
        "effects": view.effects(table.effects, known.fact("hook_point"), feature),
        "neuronpedia": view.neuronpedia(known.fact("dictionary"), feature),
    }
    edit = {
        "dictionary": known.dictionary_key,
        "hook_point": data["hook_point"],
        "model": data["model"],
        "feature": feature,
        "operation": "scale",
        "value": 0,
        "unit": "raw",
        "window": "all",
        "label": best or " ".join(row.top_tokens[:4]),
        "on": True,
    }
    drawn = {
        "edit": json.dumps(edit),
        "best": best,
        "histogram": activation_histogram(fires["histogram"]) if fires else "",
    }
    return View(f"Feature {feature} of {known.path.name}", data, drawn)


def _known(uses: Service, run: str, feature: int) -> tuple[KnownRun, FeatureTable]:
    """The run, and its table.

    Raises:
        NotFoundError: No such run or feature.
    """
    known = uses.workspace.run(run, "extract")
    table = uses.tables.table(known, uses.workspace.runs())
    if feature not in table.index:
        last = int(table.index.feature[-1]) if len(table.index) else -1
        raise NotFoundError(
            f"The run {known.path.name} has no feature {feature}.",
            hint=f"Its features go from 0 to {last}." if last >= 0 else "It has none yet.",
        )
    return known, table


def _senses(uses: Service, source: KnownRun | None, feature: int) -> list[dict[str, Any]]:
    if source is None:
        return []
    measured, tokens = uses.opened.get(source).measured, uses.resident.tokens(source.fact("model"))
    table = measured[1][FEATURES]
    if feature >= len(table.number) or not table.known[feature]:
        return []
    found = senses_of(measured, FEATURES, feature, tokens.strings, _SENSE_CONTEXTS)
    return [asdict(one) for one in found]


def _activations(uses: Service, known: KnownRun, asked: Text) -> dict[str, Any]:
    model = uses.resident.model(known.fact("model"))
    dictionary = uses.resident.dictionary(uses.workspace.dictionary(known.dictionary_key))
    if max(asked.features) >= dictionary.d_sae:
        raise NotFoundError(
            f"There is no feature {max(asked.features)}.",
            hint=f"Features go from 0 to {dictionary.d_sae - 1}.",
        )
    ids = encode_text(model, asked.text)
    most = int(getattr(model.hf.config, "max_position_embeddings", len(ids)) or len(ids))
    cut, ids = len(ids) > most, ids[:most]
    if not ids:
        raise ConfigurationError("The text holds no token.", hint="Write a word.")
    point = HookPoint.parse(known.fact("hook_point"))
    stream_ = capture(model, pad_batch(model, [ids]), [point])[point][0]
    chosen = torch.tensor(asked.features)
    latents = dictionary.to(device=model.device, dtype=model.dtype).encode_features(stream_, chosen)
    return {
        "tokens": uses.resident.tokens(model.name).strings(ids),
        "special": [token in model.special_ids for token in ids],
        "features": [
            {"feature": one, "activations": [round(value, 3) for value in column]}
            for one, column in zip(asked.features, latents.T.float().tolist(), strict=True)
        ],
        "cut": cut,
    }
