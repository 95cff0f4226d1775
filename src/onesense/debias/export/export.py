"""Export a recipe as an artefact that needs no hook, with what was measured of it."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from onesense.bias.audit import AuditSettings, audit
from onesense.bias.results import AuditResult
from onesense.debias.export.artefact import load_artefact
from onesense.debias.export.control_vector import why_no_control_vector
from onesense.debias.export.distillation import Check, DistillationSettings, Distilled
from onesense.debias.export.divergence import measure_divergence
from onesense.debias.export.kinds import AUTO, WAYS, ExportKind
from onesense.debias.export.manifest import (
    CARD_FILE,
    RECIPE_FILE,
    AuditRecord,
    Fitting,
    Manifest,
    hashes,
)
from onesense.debias.export.model_card import model_card
from onesense.debias.export.neuronpedia_vector import why_no_vector
from onesense.debias.export.projection import why_not_foldable
from onesense.debias.export.steering_spec import why_no_steering_spec
from onesense.debias.export.texts import (
    ExportText,
    TextSettings,
    default_prompts,
    read_prompts,
    read_text,
)
from onesense.debias.export.write import Work, write_artefact
from onesense.engine.stages import Silent, Stages
from onesense.errors import ConfigurationError, IncompatibleError
from onesense.model.language_model import LanguageModel
from onesense.sae.dictionary import Dictionary
from onesense.steer.intervention import Intervention
from onesense.steer.recipe import ModelReference, Recipe, write_recipe
from onesense.store.atomic import atomic_folder, write_text
from onesense.store.provenance import package_versions
from onesense.text.corpus import text_identity

_SHOWN = 5
_TESTS: Mapping[ExportKind, Callable[[LanguageModel, Sequence[Intervention]], str | None]] = {
    ExportKind.PROJECTION: why_not_foldable,
    ExportKind.GGUF: why_no_control_vector,
    ExportKind.VLLM: why_no_steering_spec,
    ExportKind.NEURONPEDIA: why_no_vector,
}
"""Why a recipe cannot be of a kind; any recipe can be a LoRA."""


@dataclass(frozen=True, slots=True, eq=False)
class Export:
    """A finished export.

    Attributes:
        folder: Where it is.
        manifest: What it is and what was measured, as ``onesense.json`` has it.
        checks: The course of the fit of a LoRA; empty for an exact artefact.
        audit: The audit of the artefact itself, where one was asked for.
    """

    folder: Path
    manifest: Manifest
    checks: tuple[Check, ...]
    audit: AuditResult | None

    @property
    def kind(self) -> ExportKind:
        """What kind of artefact."""
        return self.manifest.kind

    @property
    def within_target(self) -> bool:
        """Whether the KL to the hooked model is as small as it should be."""
        fitting = self.manifest.fitting
        return fitting is None or self.manifest.divergence.kl <= fitting.settings.target_kl


@dataclass(frozen=True, slots=True)
class ExportSettings:
    """How to export.

    Attributes:
        how: ``auto``, ``projection``, ``merged``, ``lora``, ``gguf``, ``vllm`` or ``neuronpedia``.
        distillation: How a LoRA is fitted.
        text: What a LoRA is fitted to and every export measured on.
        prompts: Texts where the edits act most; None for the occupations and gender facts of the tuning split.
        audit: What to measure of the artefact itself; None for no audit.
        force: Whether to go on with another model or dictionary than the recipe was made for.
        model_id: Neuronpedia's name of the model, for ``neuronpedia``; None for the model's short name.
    """

    how: str = AUTO
    distillation: DistillationSettings = field(default_factory=DistillationSettings)
    text: TextSettings = field(default_factory=TextSettings)
    prompts: Sequence[str] | None = None
    audit: AuditSettings | None = None
    force: bool = False
    model_id: str | None = None

    def __post_init__(self) -> None:
        if self.how not in WAYS:
            raise ConfigurationError(
                f"There is no export of kind {self.how!r}.", hint=f"Kinds: {', '.join(WAYS)}."
            )


def export_model(
    model: LanguageModel,
    recipe: Recipe,
    folder: Path | str,
    *,
    settings: ExportSettings | None = None,
    dictionaries: Mapping[str, Dictionary] | None = None,
    recipe_audit: AuditResult | None = None,
    stages: Stages | None = None,
) -> Export:
    """Turn a recipe into weights, an adapter or a control vector, and measure how close it comes.

    The folder appears whole or not at all. The model is left as it is: a copy is changed.

    Args:
        model: The model that the recipe was made for.
        recipe: The edits.
        folder: Where the export goes; must not exist, or be empty.
        settings: How to export.
        dictionaries: Dictionaries in memory, by fingerprint or hook point; the others are loaded.
        recipe_audit: An audit of the recipe as a hook, before and after, for the table of the model card.
        stages: Told about progress.

    Raises:
        ConfigurationError: The folder is not empty, or the recipe has no edits.
        IncompatibleError: The recipe is for another model, or is not of the kind asked for; or the model is spread
            over devices.
        NumericalError: The loss of the distillation, or the KL, is not finite.
        StorageError: The folder cannot be written.
    """
    settings, stages, folder = settings or ExportSettings(), stages or Silent(), Path(folder)
    model.require_one_device("be exported")
    require_free(folder)
    groups = recipe.groups(model, dictionaries, force=settings.force)
    interventions = [Intervention(model, group) for group in groups if group.edits]
    if not interventions:
        raise ConfigurationError(
            "The recipe has no edits: there is nothing to export.", hint="Give another recipe."
        )
    kind = choose_kind(settings.how, model, interventions)
    fitted, rows = settings.distillation, settings.distillation.rows
    text = read_text(model, settings.text, rows=rows)
    prompts = default_prompts() if settings.prompts is None else settings.prompts
    prompt_text = read_prompts(model, () if kind.exact else prompts, rows=fitted.prompt_rows)
    with atomic_folder(folder) as temporary:
        work = Work(
            model, interventions, text, prompt_text, fitted, stages, _label(recipe), settings.model_id
        )
        distilled = write_artefact(kind, work, temporary)
        # Measured on what was written, read back, and not on what was in memory.
        artefact = load_artefact(temporary, kind, model, dtype=_dtype(model), device=str(model.device))
        artefact.name = folder.name
        found = None if settings.audit is None else audit_artefact(artefact, settings.audit, stages)
        manifest = _measured(work, recipe, artefact, kind, distilled, settings, recipe_audit, found)
        write_recipe(recipe, temporary / RECIPE_FILE)
        write_text(temporary / CARD_FILE, model_card(manifest, recipe))
        manifest = manifest.model_copy(update={"files": hashes(temporary)})
        manifest.write(temporary)
    return Export(folder, manifest, () if distilled is None else distilled.checks, found)


def require_free(folder: Path) -> None:
    """Refuse a folder that holds something: files of others are never overwritten.

    Raises:
        ConfigurationError: It is not empty, or is a file.
    """
    if folder.is_dir():
        names = sorted(entry.name for entry in folder.iterdir())
        if names:
            more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
            raise ConfigurationError(
                f"{folder} is not empty: it holds {', '.join(names[:_SHOWN])}{more}.",
                hint="Choose another folder with --to, or empty this one.",
            )
    elif folder.exists():
        raise ConfigurationError(f"{folder} is a file.", hint="Choose a folder with --to.")


def choose_kind(how: str, model: LanguageModel, interventions: Sequence[Intervention]) -> ExportKind:
    """The kind of artefact: the one asked for, or the exact projection where there is one, or a merged LoRA.

    Raises:
        IncompatibleError: The recipe is not of the kind asked for; the message says why.
    """
    if how == AUTO:
        reason = why_not_foldable(model, interventions)
        return ExportKind.MERGED if reason is not None else ExportKind.PROJECTION
    kind = ExportKind(how)
    test = _TESTS.get(kind)
    reason = None if test is None else test(model, interventions)
    if reason is not None:
        raise IncompatibleError(
            f"The recipe cannot be exported as {kind}: {reason}.",
            hint="Export it as a distilled LoRA instead (--how merged or --how lora).",
        )
    return kind


def audit_artefact(
    artefact: LanguageModel, settings: AuditSettings, stages: Stages | None = None
) -> AuditResult:
    """Audit an exported model by itself, without a recipe; see ``onesense.bias.audit.audit`` for errors."""
    with tempfile.TemporaryDirectory(prefix="onesense-") as place:
        return audit(artefact, Path(place) / "audit", settings=settings, stages=stages).result


def _measured(
    work: Work,
    recipe: Recipe,
    artefact: LanguageModel,
    kind: ExportKind,
    distilled: Distilled | None,
    settings: ExportSettings,
    recipe_audit: AuditResult | None,
    found: AuditResult | None,
) -> Manifest:
    """The manifest, but for the hashes of the files."""
    model, edits = work.model, work.interventions
    divergence = measure_divergence(model, edits, artefact, work.text.measured, stages=work.stages)
    prompts = None
    if work.prompts.measured:
        prompts = measure_divergence(
            model, edits, artefact, work.prompts.measured, last_only=True, stages=work.stages
        )
    keys = () if settings.audit is None else settings.audit.benchmarks
    return Manifest(
        kind=kind,
        base=ModelReference.of(model),
        dtype=_dtype(model),
        recipe_hash=recipe.content_hash,
        dictionaries=tuple(dict.fromkeys(part.dictionary for part in recipe.parts)),
        divergence=divergence,
        prompt_divergence=prompts,
        text=settings.text,
        text_identity=text_identity(settings.text.source),
        fitting=None if distilled is None else _fitting(distilled, settings.distillation, work.prompts),
        audit=None if found is None else AuditRecord.of(found, keys),
        recipe_audit=None if recipe_audit is None else AuditRecord.of(recipe_audit),
        software=package_versions(),
    )


def _fitting(distilled: Distilled, settings: DistillationSettings, prompts: ExportText) -> Fitting:
    return Fitting(
        settings=settings,
        best_step=distilled.best.step,
        recoveries=distilled.recoveries,
        first_block=distilled.first_block,
        prompts=sum(len(batch.ids) for batch in prompts.fit),
    )


def _label(recipe: Recipe) -> str:
    features = dict.fromkeys(edit.feature for part in recipe.parts for edit in part.edits)
    return " ".join(recipe.note.split()) or f"onesense: features {', '.join(map(str, features))}"


def _dtype(model: LanguageModel) -> str:
    return str(model.dtype).removeprefix("torch.")
