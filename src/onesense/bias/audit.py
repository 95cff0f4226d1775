"""Audit: measure gender bias and ability of a model, and what a recipe changes, into a run folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

from onesense.bias.benchmark import Benchmark
from onesense.bias.data.folder import recording
from onesense.bias.evaluate import correct_family, evaluate
from onesense.bias.measuring import Effect, Measured, Reading, Scored, measure, read_items
from onesense.bias.results import AuditResult, BenchmarkResult
from onesense.bias.scoring.encoded import describe_prefix
from onesense.bias.scoring.prefix_memory import PrefixMemory
from onesense.bias.scoring.scorer import ModelScorer, ScoringSettings
from onesense.bias.suites import chosen, suite
from onesense.engine.executor import Executor
from onesense.engine.stages import Silent, Stages
from onesense.errors import ConfigurationError, NotFoundError
from onesense.model.language_model import LanguageModel
from onesense.steer.dose import STRONG_DOSE
from onesense.steer.recipe import Recipe
from onesense.store.provenance import package_versions, provenance
from onesense.store.run_folder import RunFolder, folder_name

UNEDITED = "unedited"
HAND_PICKED = "hand-picked"


@dataclass(frozen=True, slots=True)
class AuditSettings:
    """What is measured, and how.

    Attributes:
        suite: ``quick``, ``standard`` or ``full``.
        benchmarks: Keys of benchmarks, instead of a suite.
        draws: Bootstrap draws.
        seed: Of bootstrap, sign flips and sampling.
        scoring: How texts are scored.
        force: Whether to go on with a recipe for another model or dictionary, and mark the audit.
    """

    suite: str = "standard"
    benchmarks: tuple[str, ...] = ()
    draws: int = 10_000
    seed: int = 0
    scoring: ScoringSettings = field(default_factory=ScoringSettings)
    force: bool = False

    def __post_init__(self) -> None:
        if self.draws < 1:
            raise ConfigurationError(
                f"The bootstrap needs at least one draw, not {self.draws}.",
                hint="10,000 is the usual number.",
            )

    def chosen(self) -> list[Benchmark]:
        """The benchmarks.

        Raises:
            ConfigurationError, NotFoundError: There is no such suite or benchmark.
        """
        return chosen(self.benchmarks) if self.benchmarks else suite(self.suite)

    def folder_name(self, model: str, recipes: Sequence[str]) -> str:
        """A folder for each thing that can be asked, so that two audits do not meet in one.

        Args:
            model: Name of the model.
            recipes: Content hashes of the recipes that are judged.
        """
        keys = self.benchmarks
        several = sha256(" ".join(keys).encode()).hexdigest()[:8]
        asked = self.suite if not keys else keys[0] if len(keys) == 1 else f"{len(keys)}-benchmarks-{several}"
        return folder_name("audit", model, asked, *(part[:8] for part in recipes))


@dataclass(frozen=True, slots=True, eq=False)
class Audit:
    """What an audit found, and the items that it rests on.

    Attributes:
        run: The run folder.
        result: Values, intervals, tests, verdicts.
        measured: The columns of every item.
        scored: Where another run finds what was measured; None for an audit that was forced.
    """

    run: RunFolder
    result: AuditResult
    measured: list[Measured]
    scored: Scored | None = None


def audit(
    model: LanguageModel,
    run_folder: Path | str,
    *,
    recipe: Recipe | None = None,
    against: Recipe | None = None,
    settings: AuditSettings | None = None,
    stages: Stages | None = None,
    executor: Executor | None = None,
) -> Audit:
    """Measure a model, and with a recipe what it changes.

    An interrupted call goes on where it stopped, by benchmark and shard, and ends in the same bytes.

    Args:
        model: The model; float32 where scores are to be exact.
        run_folder: Where results go; made if it does not exist.
        recipe: The edits to judge; None to measure the model alone.
        against: A recipe to compare with, instead of the unedited model.
        settings: What to measure.
        stages: Told about progress.
        executor: Where benchmarks are measured; None: here. Results do not depend on it.

    Raises:
        ConfigurationError: ``against`` without ``recipe``, or an unknown suite.
        NotFoundError: An unknown benchmark, or none of the data is there.
        IncompatibleError: A recipe for another model, or the folder holds another run.
        FormatError: A data file is damaged, or is not the published one.
        LockedError: Another process writes there.
    """
    settings = settings or AuditSettings()
    stages = stages or Silent()
    if against is not None and recipe is None:
        raise ConfigurationError("There is nothing to compare with it.", hint="Give a recipe too (--recipe).")
    variants = [against] if recipe is None else [against, recipe]
    memory = PrefixMemory(settings.scoring.prefix_bytes)
    scorer = ModelScorer(model, variants, settings=settings.scoring, force=settings.force, memory=memory)
    with stages.stage("Reading benchmarks", "sets"), recording() as data:
        readings, skipped = read_items(settings.chosen(), scorer)
    if not readings:
        reasons = "\n".join(f"{key}: {why}" for key, why in skipped.items())
        raise NotFoundError(
            f"None of the benchmarks has its data.\n{reasons}", hint="onesense data get --all"
        )
    data = dict(sorted(data.items()))
    run = _run_folder(model, run_folder, variants, settings, readings, skipped, data)
    with run.lock():
        with stages.stage(f"Scoring in {_dtype(model)}", "items") as progress:
            measured, effects = measure(readings, scorer, run, progress, executor=executor)
        with stages.stage("Statistics", "benchmarks") as progress:
            results = []
            for number, one in enumerate(measured, start=1):
                results.append(evaluate(one, draws=settings.draws, seed=settings.seed))
                progress(number, len(measured))
    corrected = correct_family(results)
    notes = _notes(model, variants, effects, settings)
    result = _result(model, variants, settings, corrected, skipped, notes, data)
    scored = None if settings.force else _scored(model, run, readings, variants, settings, memory)
    return Audit(run, result, measured, scored)


def _result(
    model: LanguageModel,
    variants: Sequence[Recipe | None],
    settings: AuditSettings,
    benchmarks: list[BenchmarkResult],
    skipped: dict[str, str],
    notes: list[str],
    data: dict[str, str],
) -> AuditResult:
    return AuditResult(
        model=model.name,
        model_fingerprint=model.fingerprint,
        before=_label(variants[0]),
        after=_label(variants[1]) if len(variants) > 1 else None,
        suite=HAND_PICKED if settings.benchmarks else settings.suite,
        dtype=_dtype(model),
        bos=describe_prefix(model),
        seed=settings.seed,
        draws=settings.draws,
        benchmarks=benchmarks,
        skipped=skipped,
        notes=notes,
        software=package_versions(),
        data=data,
    )


def _run_folder(
    model: LanguageModel,
    path: Path | str,
    variants: Sequence[Recipe | None],
    settings: AuditSettings,
    readings: Sequence[Reading],
    skipped: dict[str, str],
    data: dict[str, str],
) -> RunFolder:
    return RunFolder.create_or_resume(
        path,
        command="audit",
        configuration={
            "model": model.name,
            "variants": [_label(one) for one in variants],
            "suite": settings.suite if not settings.benchmarks else None,
            "benchmarks": {reading.benchmark.key: reading.identity for reading in readings},
            "left_out": sorted(skipped),
            "draws": settings.draws,
            "dtype": _dtype(model),
            "bos": describe_prefix(model),
            "force": settings.force,
        },
        provenance=provenance(
            model={"fingerprint": model.fingerprint, "name": model.name},
            recipes={str(n): one.content_hash for n, one in enumerate(variants) if one is not None},
            data=data,
            seeds=settings.seed,
        ),
    )


def _scored(
    model: LanguageModel,
    run: RunFolder,
    readings: Sequence[Reading],
    variants: Sequence[Recipe | None],
    settings: AuditSettings,
    memory: PrefixMemory,
) -> Scored:
    recipes = [None if one is None else one.content_hash for one in variants]
    return Scored(run, readings, recipes, (model.fingerprint, str(model.dtype)), settings.scoring, memory)


def _dtype(model: LanguageModel) -> str:
    return str(model.dtype).removeprefix("torch.")


def _label(recipe: Recipe | None) -> str:
    if recipe is None:
        return UNEDITED
    note = f" ({recipe.note})" if recipe.note else ""
    return f"{recipe.content_hash[:12]}{note}"


def _notes(
    model: LanguageModel,
    variants: Sequence[Recipe | None],
    effects: Sequence[Effect],
    settings: AuditSettings,
) -> list[str]:
    notes = []
    for recipe, effect in zip(variants, effects, strict=True):
        if recipe is None:
            continue
        if effect.positions == 0:
            notes.append(
                f"The recipe {_label(recipe)} changed no activation in any text: it does nothing here."
            )
        if effect.largest_dose > STRONG_DOSE:
            notes.append(
                f"The recipe {_label(recipe)} adds up to {effect.largest_dose:.2f} times the norm of the activations "
                "(relative dose); above 1 text tends to break down."
            )
        if recipe.model.fingerprint != model.fingerprint and settings.force:
            notes.append(
                f"The recipe {_label(recipe)} was made for another model ({recipe.model.name}); forced."
            )
    return notes
