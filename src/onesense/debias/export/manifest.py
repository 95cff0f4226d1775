"""``onesense.json``: what an export is, what was measured of it, and the hash of each of its files."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path

from pydantic import Field

from onesense.bias.benchmarks.kl import KlDivergence
from onesense.bias.results import AuditResult, Estimate
from onesense.debias.export.distillation import DistillationSettings
from onesense.debias.export.divergence import Divergence
from onesense.debias.export.kinds import ExportKind
from onesense.debias.export.texts import TextSettings
from onesense.errors import ConfigurationError, FormatError, IncompatibleError, NotFoundError
from onesense.steer.checked import Checked
from onesense.steer.recipe import DictionaryReference, Digest, ModelReference
from onesense.store.atomic import read_json, write_json
from onesense.store.provenance import file_sha256

MANIFEST_SCHEMA = 1
MANIFEST_FILE = "onesense.json"
RECIPE_FILE = "recipe.json"
CARD_FILE = "README.md"


class Interval(Checked):
    """A value with its 95 % interval; None where it is undefined."""

    value: float | None
    low: float | None
    high: float | None

    @classmethod
    def of(cls, estimate: Estimate) -> Interval:
        """What JSON can hold of an estimate."""
        return cls(value=_number(estimate.value), low=_number(estimate.low), high=_number(estimate.high))


class AuditedMetric(Checked):
    """One metric of an audit.

    Attributes:
        benchmark: Key of the benchmark.
        benchmark_title: Its name for readers.
        metric: Key of the metric.
        title: Its name for readers.
        unit: Unit.
        decimals: Digits shown after the point.
        headline: Whether it belongs in a short table.
        items: Items that counted.
        found: Of the model that was audited: with the recipe, where there was one.
        before: Of the model without the recipe, where both were measured.
        verdict: What may be said.
    """

    benchmark: str
    benchmark_title: str
    metric: str
    title: str
    unit: str
    decimals: int
    headline: bool
    items: int
    found: Interval
    before: Interval | None = None
    verdict: str = ""

    @property
    def key(self) -> tuple[str, str]:
        """Benchmark and metric."""
        return self.benchmark, self.metric


class AuditRecord(Checked):
    """An audit in numbers, and the settings that repeat it.

    Attributes:
        suite: ``quick``, ``standard``, ``full`` or ``hand-picked``.
        benchmarks: Keys, where they were picked by hand.
        draws: Bootstrap draws.
        seed: Root seed.
        metrics: What was found.
        skipped: Benchmarks that were left out, and why.
        data: SHA-256 of each data file.
    """

    suite: str
    benchmarks: tuple[str, ...] = ()
    draws: int
    seed: int
    metrics: tuple[AuditedMetric, ...]
    skipped: dict[str, str] = Field(default_factory=dict)
    data: dict[str, str] = Field(default_factory=dict)

    @classmethod
    def of(cls, result: AuditResult, benchmarks: tuple[str, ...] = ()) -> AuditRecord:
        """The record of an audit of one model, or of a model before and after a recipe."""
        return cls(
            suite=result.suite,
            benchmarks=benchmarks,
            draws=result.draws,
            seed=result.seed,
            metrics=tuple(
                AuditedMetric(
                    benchmark=benchmark.key,
                    benchmark_title=benchmark.title,
                    metric=metric.name,
                    title=metric.title,
                    unit=metric.unit,
                    decimals=metric.decimals,
                    headline=metric.headline,
                    items=metric.items,
                    found=Interval.of(metric.before if metric.after is None else metric.after),
                    before=None if metric.after is None else Interval.of(metric.before),
                    verdict=metric.verdict.value,
                )
                for benchmark in result.benchmarks
                for metric in benchmark.metrics
                # of one model alone it is 0 by definition, and says nothing of an export
                if result.after is not None or benchmark.key != KlDivergence.key
            ),
            skipped=dict(result.skipped),
            data=dict(result.data),
        )


class Fitting(Checked):
    """How a LoRA was fitted.

    Attributes:
        settings: The settings.
        best_step: The step whose adapters were kept.
        recoveries: How often a loss was not finite and the last good step was restored.
        first_block: The first block with adapters.
        prompts: Prompts that were fitted to, beside text.
    """

    settings: DistillationSettings
    best_step: int
    recoveries: int
    first_block: int
    prompts: int


class Manifest(Checked):
    """What an export is.

    Attributes:
        schema_version: Version of this format.
        kind: What kind of artefact.
        base: The model that the recipe was made for.
        dtype: Number format of the weights.
        recipe_hash: Content hash of the recipe, which lies beside as ``recipe.json``.
        dictionaries: Dictionaries of the recipe.
        divergence: KL to the hooked model on text.
        prompt_divergence: The same at the last position of prompts that were not fitted to.
        text: The text that the KL was measured on.
        text_identity: Hash or name of that text.
        fitting: How a LoRA was fitted; None for an exact artefact.
        audit: What an audit of the artefact itself found.
        recipe_audit: What an audit of the recipe (as a hook) found, before and after.
        software: Package versions.
        files: SHA-256 of each file of the folder but this one, by its path in the folder.
    """

    schema_version: int = MANIFEST_SCHEMA
    kind: ExportKind
    base: ModelReference
    dtype: str
    recipe_hash: Digest
    dictionaries: tuple[DictionaryReference, ...]
    divergence: Divergence
    prompt_divergence: Divergence | None = None
    text: TextSettings
    text_identity: dict[str, str]
    fitting: Fitting | None = None
    audit: AuditRecord | None = None
    recipe_audit: AuditRecord | None = None
    software: dict[str, str] = Field(default_factory=dict)
    files: dict[str, Digest] = Field(default_factory=dict)

    @property
    def content_hash(self) -> str:
        """SHA-256 of the manifest as canonical JSON, as 64 hexadecimal digits."""
        canonical = json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()

    def write(self, folder: Path) -> None:
        """Write it into the folder of the export."""
        write_json(
            folder / MANIFEST_FILE, {**self.model_dump(mode="json"), "content_hash": self.content_hash}
        )


def read_manifest(folder: Path | str) -> Manifest:
    """Read the manifest of an export and check its own hash.

    Raises:
        NotFoundError: There is no such folder, or it is no export.
        FormatError: It is damaged, or was changed after it was written.
        IncompatibleError: It was written by a newer onesense.
    """
    path = Path(folder) / MANIFEST_FILE
    if not path.is_file():
        raise NotFoundError(
            f"{folder} is not an export: it has no {MANIFEST_FILE}.",
            hint="Give the folder that `onesense export` made.",
        )
    document = read_json(path)
    if not isinstance(document, Mapping):
        raise FormatError(f"{path} is not the description of an export.", hint="Export again.")
    schema = document.get("schema_version")
    if isinstance(schema, int) and schema > MANIFEST_SCHEMA:
        raise IncompatibleError(
            f"{path} has schema {schema}, and this onesense reads up to {MANIFEST_SCHEMA}.",
            hint="Install a newer onesense.",
        )
    content = {key: value for key, value in document.items() if key != "content_hash"}
    try:
        manifest = Manifest.model_validate(content)
    except ConfigurationError as error:
        raise FormatError(
            f"{path} is not a sound description. {error.message}", hint="Export again."
        ) from error
    if document.get("content_hash") != manifest.content_hash:
        raise FormatError(
            f"{path} was changed after it was written: its content hash does not match.", hint="Export again."
        )
    return manifest


def hashes(folder: Path) -> dict[str, str]:
    """SHA-256 of each file below a folder, but of the manifest, by its path in the folder."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if name != MANIFEST_FILE and (path.is_symlink() or not path.is_dir()):
            found[name] = file_sha256(path)
    return found


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None
