"""Variants brought to one KL and measured into a run folder, so that an interrupted proof goes on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from onesense.bias.benchmarks.sampling import evenly_spaced
from onesense.bias.measuring import Earlier, Effect, Measured, Reading, Scored, measure
from onesense.bias.scoring.encoded import describe_prefix
from onesense.bias.scoring.scorer import ModelScorer, ScoringSettings
from onesense.debias.controls.calibrate import Calibrated
from onesense.debias.divergence import KlMeter
from onesense.debias.proof.equal_cost import at_equal_cost
from onesense.debias.proof.variants import IDENTITY, Variant
from onesense.engine.executor import Executor
from onesense.engine.stages import Stages
from onesense.errors import ConfigurationError
from onesense.model.language_model import LanguageModel
from onesense.steer.apply import Edits
from onesense.store.provenance import provenance
from onesense.store.run_folder import RunFolder

Progress = Callable[[int, int | None], None]

# Items of each benchmark on which the identity control must leave every bit.
_SAMPLE = 16


@dataclass(frozen=True, slots=True, eq=False)
class EqualTerms:
    """What all variants share.

    Attributes:
        model: The model.
        meter: Measures KL to the unedited model.
        asked: The KL that all are to be brought to, nats per token; None for the recipe's own.
        data: SHA-256 of each file of benchmark data.
        seed: Of everything that is drawn.
        stages: Told about progress.
        scored: What an audit measured of the unedited model and of recipes; it is not measured again.
        executor: Where benchmarks are measured; None: here.
    """

    model: LanguageModel
    meter: KlMeter
    asked: float | None
    data: Mapping[str, str]
    seed: int
    stages: Stages
    scored: Scored | None = None
    executor: Executor | None = None


@dataclass(frozen=True, slots=True, eq=False)
class MeasuredVariants:
    """Variants at one KL, and what benchmarks say of them.

    Attributes:
        target: That KL, nats per token.
        variants: The variants.
        calibrated: The strength and the KL of each.
        measured: For each benchmark the columns of the unedited model first, then of each variant.
        effects: What the edits of each variant did over all texts.
    """

    target: float
    variants: Sequence[Variant]
    calibrated: Sequence[Calibrated]
    measured: Sequence[Measured]
    effects: Sequence[Effect]


def measure_variants(
    terms: EqualTerms,
    folder: Path,
    variants: Sequence[Variant],
    readings: Sequence[Reading],
    *,
    title: str,
    target: float | None,
) -> MeasuredVariants:
    """Bring variants to a KL, then score them all at once, so that what comes before their edits is shared.

    Args:
        terms: What they share.
        folder: A run folder for their strengths and columns; what is there is not measured again.
        variants: The variants.
        readings: The benchmarks.
        title: What the variants are, for the titles of stages.
        target: The KL to bring them to; None for that of the first variant, which is taken as it is.

    Raises:
        ConfigurationError: The first variant, taken as it is, has no KL.
        IncompatibleError: The folder holds another proof.
        NumericalError: A variant's logits are NaN.
        LockedError: Another process writes there.
    """
    run = _run_folder(terms, folder, variants, readings)
    with run.lock():
        with terms.stages.stage(f"Equal KL: {title}", "variants") as progress:
            found = _calibrate(run, terms.meter, variants, target, progress)
        edits = [one.group(at.strength) for one, at in zip(variants, found, strict=True)]
        scorer = _scorer(terms, edits)
        with terms.stages.stage(f"Scoring: {title}", "items") as progress:
            earlier = Earlier(terms.scored, _measured_before(terms.scored, variants, found))
            measured, effects = measure(
                readings,
                scorer,
                run,
                progress,
                earlier=earlier,
                unchanged=_unchanged(scorer, variants, readings),
                executor=terms.executor,
            )
    return MeasuredVariants(found[0].kl if target is None else target, variants, found, measured, effects[1:])


def _scorer(terms: EqualTerms, edits: Sequence[Edits]) -> ModelScorer:
    """The unedited model and the variants, with what the audit keeps of the blocks before their edits."""
    scored, model = terms.scored, (terms.model.fingerprint, str(terms.model.dtype))
    settings = ScoringSettings()
    shared = scored is not None and (scored.model, scored.scoring) == (model, settings)
    memory = scored.memory if scored is not None and shared else None
    return ModelScorer(terms.model, [None, *edits], settings=settings, memory=memory)


def _measured_before(
    scored: Scored | None, variants: Sequence[Variant], found: Sequence[Calibrated]
) -> dict[int, int]:
    """Places of the unedited model and of recipes as they are, each with its place in the audit."""
    if scored is None:
        return {}
    hashes: list[str | None] = [None]
    # A recipe at another strength is another recipe, and a control without a hash is none.
    hashes += [one.content_hash if at.strength == 1 else "" for one, at in zip(variants, found, strict=True)]
    there = {recipe: place for place, recipe in enumerate(scored.recipes)}
    return {place: there[recipe] for place, recipe in enumerate(hashes) if recipe in there}


def _unchanged(scorer: ModelScorer, variants: Sequence[Variant], readings: Sequence[Reading]) -> list[int]:
    """Numbers of identity controls that change no bit of a sample of the texts; one that does is measured in full."""
    sample = [
        request
        for reading in readings
        for number in evenly_spaced(len(reading.items), _SAMPLE)
        for request in reading.items[number].requests
    ]
    return [
        number
        for number, one in enumerate(variants, start=1)
        if one.name == IDENTITY and one.fixed and scorer.logits_equal(sample, number)
    ]


def _run_folder(
    terms: EqualTerms, path: Path, variants: Sequence[Variant], readings: Sequence[Reading]
) -> RunFolder:
    model = terms.model
    return RunFolder.create_or_resume(
        path,
        command="prove",
        configuration={
            "model": model.name,
            "dtype": str(model.dtype).removeprefix("torch."),
            "bos": describe_prefix(model),
            "variants": [{"name": one.name, "kind": one.kind, "edits": one.edits} for one in variants],
            "benchmarks": {reading.benchmark.key: reading.identity for reading in readings},
            "calibration": terms.meter.identity,
            "target_kl": terms.asked,
        },
        provenance=provenance(
            model={"fingerprint": model.fingerprint, "name": model.name},
            recipes={str(n): one.content_hash for n, one in enumerate(variants) if one.content_hash},
            data=dict(sorted(terms.data.items())),
            seeds=terms.seed,
        ),
    )


def _calibrate(
    run: RunFolder,
    meter: KlMeter,
    variants: Sequence[Variant],
    target: float | None,
    progress: Progress,
) -> list[Calibrated]:
    found: list[Calibrated] = []
    for number, variant in enumerate(variants):
        name = f"strengths/variant-{number:04d}"
        if not run.has_result(name):
            at = _as_it_is(variant, meter) if target is None else at_equal_cost(variant, meter, target)
            run.write_result(name, {"found": np.array([at.strength, at.kl, float(at.reached)])})
        strength, kl, reached = run.read_result(name)["found"].tolist()
        found.append(Calibrated(strength, kl, bool(reached)))
        target = found[0].kl if target is None else target
        progress(number + 1, len(variants))
    return found


def _as_it_is(variant: Variant, meter: KlMeter) -> Calibrated:
    kl = meter.measure(variant.group(1.0))
    if kl == 0:
        raise ConfigurationError(
            f"The {variant.name} changes nothing on ordinary text: there is no KL to bring controls to.",
            hint="Give a KL to bring everything to, or a recipe that does something.",
        )
    return Calibrated(1.0, kl, reached=True)
