"""Where edited features fire in ordinary text: the strongest contexts of each, kept in the run folder."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from onesense.debias.controls.documents import fitting_documents
from onesense.debias.results import FeatureContext
from onesense.engine.stages import Stages
from onesense.features.contexts import Context, ContextSettings
from onesense.features.joint_contexts import collect_joint_contexts
from onesense.model.language_model import LanguageModel
from onesense.sae.dictionary import Dictionary
from onesense.store.provenance import provenance
from onesense.store.run_folder import RunFolder
from onesense.text.corpus import Document, text_identity

FeatureKey = tuple[str, int]
"""Name of a hook point, and a feature of the dictionary there."""

_DOCUMENTS = 64
_CHARACTERS = 400
_SETTINGS = ContextSettings(top_k=5, bands=2, per_band=1, width=24, max_tokens=10_000)


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
        folder: Where contexts are kept, in a run folder; those that are there are not made again.
        source: Ordinary text; None for the packaged sample.
        stages: Told about progress.

    Returns:
        The contexts of each feature, the strongest first; none for a feature that never fires there.

    Raises:
        IncompatibleError: The folder holds contexts of other features or text.
        OnesenseError: See ``collect_joint_contexts``.
    """
    wanted = [
        (one, sorted({feature for point, feature in features if point == one.hook_point.name}))
        for one in dictionaries
    ]
    wanted = [(dictionary, several) for dictionary, several in wanted if several]
    keys = [(dictionary.hook_point.name, feature) for dictionary, several in wanted for feature in several]
    if not keys:
        return {}
    run = RunFolder.create_or_resume(
        folder,
        command="debias contexts",
        configuration={
            "features": {dictionary.hook_point.name: several for dictionary, several in wanted},
            "documents": _DOCUMENTS,
            "characters": _CHARACTERS,
            "contexts": asdict(_SETTINGS),
        },
        provenance=provenance(
            model={"fingerprint": model.fingerprint, "name": model.name},
            dictionary={one.hook_point.name: one.origin.fingerprint for one, _ in wanted},
            text=text_identity(source),
            seeds=_SETTINGS.seed,
        ),
    )
    with run.lock(), stages.stage("Contexts of edited features", "tokens") as progress:
        contexts = collect_joint_contexts(
            model, wanted, _beginnings(model, source), run, settings=_SETTINGS, progress=progress
        )
        return {key: tuple(_plain(model, one) for one in contexts.top(row)) for row, key in enumerate(keys)}


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
