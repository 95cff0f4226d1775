"""Where edited features fire in ordinary text: the strongest contexts of each, kept in the run folder."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import torch

from onesense.debias.controls.documents import fitting_documents
from onesense.debias.results import FeatureContext
from onesense.engine.stages import Stages
from onesense.features.contexts import Context, Contexts, ContextSettings, collect_contexts
from onesense.model.language_model import LanguageModel
from onesense.sae.architecture import Architecture
from onesense.sae.dictionary import Dictionary
from onesense.store.provenance import provenance
from onesense.store.run_folder import RunFolder
from onesense.text.corpus import Document, text_identity

FeatureKey = tuple[str, int]
"""Name of a hook point, and a feature of the dictionary there."""

_DOCUMENTS = 128
_CHARACTERS = 480
_SETTINGS = ContextSettings(top_k=5, bands=2, per_band=1, width=24, max_tokens=20_000)


def feature_contexts(
    model: LanguageModel,
    dictionaries: Sequence[Dictionary],
    features: Sequence[FeatureKey],
    folder: Path,
    *,
    source: str | None,
    stages: Stages,
) -> dict[FeatureKey, tuple[FeatureContext, ...]]:
    """The strongest contexts of some features, each from another document; none that an audit is scored on.

    Args:
        model: The model.
        dictionaries: One for each hook point.
        features: The features.
        folder: Where contexts are kept, in a folder for each hook point; those that are there are not made again.
        source: Ordinary text; None for the packaged sample.
        stages: Told about progress.

    Returns:
        The contexts of each feature, the strongest first; none for a feature that never fires there.

    Raises:
        IncompatibleError: The folder holds contexts of other features or text.
        OnesenseError: See ``collect_contexts``.
    """
    found: dict[FeatureKey, tuple[FeatureContext, ...]] = {}
    for dictionary in dictionaries:
        point = dictionary.hook_point.name
        wanted = sorted({feature for place, feature in features if place == point})
        if not wanted:
            continue
        contexts = _contexts(model, dictionary, wanted, folder / point, source, stages)
        for row, feature in zip(_rows(dictionary, wanted), wanted, strict=True):
            found[point, feature] = tuple(_plain(model, one) for one in contexts.top(row))
    return found


def _contexts(
    model: LanguageModel,
    dictionary: Dictionary,
    features: list[int],
    folder: Path,
    source: str | None,
    stages: Stages,
) -> Contexts:
    point = dictionary.hook_point
    run = RunFolder.create_or_resume(
        folder,
        command="debias contexts",
        configuration={
            "features": features,
            "documents": _DOCUMENTS,
            "characters": _CHARACTERS,
            "contexts": asdict(_SETTINGS),
        },
        provenance=provenance(
            model={"fingerprint": model.fingerprint, "name": model.name},
            dictionary={"fingerprint": dictionary.origin.fingerprint, "name": dictionary.origin.label},
            text=text_identity(source),
            seeds=_SETTINGS.seed,
        ),
    )
    with run.lock(), stages.stage(f"Contexts at {point}", "tokens") as progress:
        return collect_contexts(
            model,
            _searched(dictionary, features),
            _beginnings(model, source),
            run,
            settings=_SETTINGS,
            progress=lambda done, _: progress(done, None),
        )


def _searched(dictionary: Dictionary, features: list[int]) -> Dictionary:
    """What is encoded: the wanted features alone, where the others do not decide about them."""
    return (
        dictionary
        if dictionary.architecture is Architecture.TOPK
        else dictionary.keep(torch.tensor(features))
    )


def _rows(dictionary: Dictionary, features: list[int]) -> Sequence[int]:
    """Where each feature stands in what was encoded."""
    return features if dictionary.architecture is Architecture.TOPK else range(len(features))


def _beginnings(model: LanguageModel, source: str | None) -> Iterator[Document]:
    """The first words of documents: many documents say more of a feature than much of one."""
    for one in fitting_documents(model, documents=_DOCUMENTS, source=source):
        yield Document(one.index, one.name, one.text[:_CHARACTERS].rsplit(" ", 1)[0])


def _plain(model: LanguageModel, context: Context) -> FeatureContext:
    """The context as text and numbers, these with the digits that a reader may want."""
    return FeatureContext(
        tokens=tuple(model.token_strings(context.token_ids.tolist())),
        activations=tuple(float(f"{value:.4g}") for value in context.activations.tolist()),
        peak=context.peak,
    )
