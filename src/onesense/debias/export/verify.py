"""Verify an export: its files by hash, its KL to the hooked model, and the numbers of its audit, measured again."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from onesense.bias.audit import HAND_PICKED, AuditSettings
from onesense.bias.results import AuditResult
from onesense.debias.export.artefact import load_artefact
from onesense.debias.export.divergence import Divergence, measure_divergence
from onesense.debias.export.export import audit_artefact
from onesense.debias.export.manifest import (
    RECIPE_FILE,
    AuditedMetric,
    AuditRecord,
    Interval,
    Manifest,
    hashes,
    read_manifest,
)
from onesense.debias.export.texts import read_text
from onesense.engine.stages import Silent, Stages
from onesense.errors import ConfigurationError, FormatError, IncompatibleError, OnesenseError
from onesense.model.language_model import LanguageModel
from onesense.model.load import load_model
from onesense.sae.dictionary import Dictionary
from onesense.steer.intervention import Intervention
from onesense.steer.recipe import read_recipe
from onesense.text.corpus import text_identity

_ROUNDING = 1e-5
_KL_SHARE = 0.02
_BATCH_ROWS = 2


class TamperedError(FormatError):
    """A file of an export was changed, is missing, or was added."""

    exit_code = 11


class NotReproducedError(IncompatibleError):
    """An export was measured again, and gave other numbers than those that it carries."""

    exit_code = 12


class Finding(StrEnum):
    """What became of one number."""

    OK = "ok"
    FAILED = "failed"
    NOT_COMPARED = "not compared"


@dataclass(frozen=True, slots=True)
class Line:
    """One number of the export, as recorded and as found.

    Attributes:
        name: What it is.
        unit: Its unit.
        decimals: Digits shown after the point.
        recorded: What the export says, with its interval.
        found: What was measured now; None where it was not.
        finding: Whether they agree.
        reason: Why it was not compared.
    """

    name: str
    unit: str
    decimals: int
    recorded: Interval
    found: float | None
    finding: Finding
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Verification:
    """What was verified.

    Attributes:
        manifest: The export's description.
        files: How many files have the hash that they should have.
        lines: The KL and the metrics.
        notes: What was not verified, and why.
    """

    manifest: Manifest
    files: int
    lines: tuple[Line, ...]
    notes: tuple[str, ...]

    @property
    def failed(self) -> tuple[Line, ...]:
        """Numbers that do not agree."""
        return tuple(line for line in self.lines if line.finding is Finding.FAILED)

    def require(self) -> None:
        """Refuse an export whose numbers do not come out again.

        Raises:
            NotReproducedError: A number is outside its recorded interval; the message names it.
        """
        if self.failed:
            raise NotReproducedError(
                f"{len(self.failed)} of {len(self.lines)} numbers did not come out again: "
                f"{', '.join(line.name for line in self.failed[:5])}.",
                hint="The artefact is not the one that was measured, or the software behaves differently.",
            )


def verify_files(folder: Path | str) -> Manifest:
    """Compare every file of an export with its hash, and its recipe with the one that is recorded.

    Raises:
        NotFoundError: It is no export.
        TamperedError: Files were changed, are missing or were added; the message names them.
        FormatError: ``onesense.json`` itself is damaged or was changed.
    """
    folder = Path(folder)
    manifest = read_manifest(folder)
    found = hashes(folder)
    faults = [
        *(
            f"changed: {name}"
            for name in sorted(found)
            if manifest.files.get(name, found[name]) != found[name]
        ),
        *(f"missing: {name}" for name in sorted(set(manifest.files) - set(found))),
        *(f"added: {name}" for name in sorted(set(found) - set(manifest.files))),
    ]
    if faults:
        raise TamperedError(
            f"{folder} is not as it was exported. {'; '.join(faults)}.",
            hint="Copy it again from where it came.",
        )
    if read_recipe(folder / RECIPE_FILE).content_hash != manifest.recipe_hash:
        raise TamperedError(f"{folder / RECIPE_FILE} is another recipe than the export was made from.")
    return manifest


def verify_export(
    folder: Path | str,
    *,
    base: LanguageModel | None = None,
    suite: str | None = None,
    dictionaries: Mapping[str, Dictionary] | None = None,
    device: str = "auto",
    stages: Stages | None = None,
) -> Verification:
    """Check an export's files, load it without hooks, and measure again what it says about itself.

    Args:
        folder: The export.
        base: The model that it was made from; None to load it by the name that is recorded.
        suite: Replay this suite instead of what is recorded; only metrics of the same items are compared.
        dictionaries: Dictionaries in memory, by fingerprint or hook point; the others are loaded.
        device: Where models go.
        stages: Told about progress.

    Raises:
        TamperedError: A file differs.
        FormatError: A file cannot be read as what it should be.
        ConfigurationError: There is no such suite.
        IncompatibleError: ``base`` is another model than the one that the export was made from.
    """
    folder, stages = Path(folder), stages or Silent()
    manifest = verify_files(folder)
    settings = _settings(manifest, suite)
    notes: list[str] = []
    base = base or _base(manifest, device, notes)
    if base is not None and base.fingerprint != manifest.base.fingerprint:
        raise IncompatibleError(
            f"`{base.name}` is not the model that {folder} was made from (`{manifest.base.name}`).",
            hint="Give that model, in the same number format, with --model.",
        )
    artefact = load_artefact(folder, manifest.kind, base, dtype=manifest.dtype, device=device)
    lines = [_kl(folder, manifest, base, artefact, dictionaries, stages, notes)]
    if manifest.audit is None or settings is None:
        notes.append("No audit was recorded with this export: only its files and its KL were verified.")
    else:
        lines += compare_audits(manifest.audit, audit_artefact(artefact, settings, stages))
    return Verification(manifest, len(manifest.files), tuple(lines), tuple(notes))


def compare_audits(recorded: AuditRecord, found: AuditResult) -> list[Line]:
    """Each metric of the recorded audit beside what was found now.

    A value is ok within its recorded interval. A benchmark with other items (of another suite) is not compared.
    """
    now = {metric.key: metric for metric in AuditRecord.of(found).metrics}
    return [_compared(metric, now.get(metric.key)) for metric in recorded.metrics]


def _compared(recorded: AuditedMetric, now: AuditedMetric | None) -> Line:
    name = f"{recorded.benchmark_title} · {recorded.title}"
    reason, value, finding = "", None, Finding.NOT_COMPARED
    if now is None:
        reason = "not measured now"
    elif now.items != recorded.items:
        reason = f"{now.items} items now, {recorded.items} recorded"
    else:
        value = now.found.value
        finding = Finding.OK if _within(recorded.found, value) else Finding.FAILED
    return Line(name, recorded.unit, recorded.decimals, recorded.found, value, finding, reason)


def _within(recorded: Interval, value: float | None) -> bool:
    """Inside the interval, widened by rounding; an undefined value agrees with an undefined one."""
    if recorded.value is None or value is None:
        return recorded.value is None and value is None
    low = recorded.value if recorded.low is None else recorded.low
    high = recorded.value if recorded.high is None else recorded.high
    slack = _ROUNDING * max(1.0, abs(recorded.value))
    return low - slack <= value <= high + slack


def _settings(manifest: Manifest, suite: str | None) -> AuditSettings | None:
    recorded = manifest.audit
    if recorded is None:
        return None
    by_hand = recorded.suite == HAND_PICKED and suite is None
    settings = AuditSettings(
        suite="standard" if by_hand else suite or recorded.suite,
        benchmarks=recorded.benchmarks if by_hand else (),
        draws=recorded.draws,
        seed=recorded.seed,
    )
    settings.chosen()  # an unknown name is told before models are loaded
    return settings


def _base(manifest: Manifest, device: str, notes: list[str]) -> LanguageModel | None:
    try:
        return load_model(manifest.base.name, dtype=manifest.dtype, device=device)
    except OnesenseError as error:
        notes.append(f"The model that it was made from could not be loaded: {error.message}")
        return None


def _kl(
    folder: Path,
    manifest: Manifest,
    base: LanguageModel | None,
    artefact: LanguageModel,
    dictionaries: Mapping[str, Dictionary] | None,
    stages: Stages,
    notes: list[str],
) -> Line:
    recorded = manifest.divergence
    shown = Interval(value=recorded.kl, low=None, high=None)
    reason = "the base model is not there"
    found: Divergence | None = None
    if base is not None:
        try:
            found = _measure_again(folder, manifest, base, artefact, dictionaries, stages)
        except (OnesenseError, OSError) as error:
            reason = error.message if isinstance(error, OnesenseError) else str(error)
    if found is None:
        notes.append(f"The KL to the hooked model was not measured again: {reason}")
        return Line("KL to the recipe", "nats/token", 5, shown, None, Finding.NOT_COMPARED, reason)
    agrees = math.isclose(found.kl, recorded.kl, rel_tol=_KL_SHARE, abs_tol=_ROUNDING)
    finding = Finding.OK if agrees and found.tokens == recorded.tokens else Finding.FAILED
    return Line("KL to the recipe", "nats/token", 5, shown, found.kl, finding)


def _measure_again(
    folder: Path,
    manifest: Manifest,
    base: LanguageModel,
    artefact: LanguageModel,
    dictionaries: Mapping[str, Dictionary] | None,
    stages: Stages,
) -> Divergence:
    if text_identity(manifest.text.source) != manifest.text_identity:
        raise ConfigurationError("The text that it was measured on is not the same any more.")
    recipe = read_recipe(folder / RECIPE_FILE)
    # A recipe may have been made for the same weights in another number format; the export names its base.
    groups = recipe.groups(base, dictionaries, force=recipe.model.fingerprint != manifest.base.fingerprint)
    interventions = [Intervention(base, group) for group in groups if group.edits]
    rows = _BATCH_ROWS if manifest.fitting is None else manifest.fitting.settings.rows
    measured = read_text(base, manifest.text, rows=rows).measured
    return measure_divergence(base, interventions, artefact, measured, stages=stages)
