"""Prove: the recipe against controls on held-out data, at equal KL."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from onesense.bias.benchmark import Benchmark
from onesense.bias.data.folder import recording
from onesense.bias.measuring import Reading, Scored, read_items
from onesense.bias.scoring.scorer import ModelScorer
from onesense.debias.controls.documents import calibration_requests
from onesense.debias.divergence import KlMeter
from onesense.debias.proof.erasure_variants import erasure_pairs, erasure_variants
from onesense.debias.proof.measuring import EqualTerms, measure_variants
from onesense.debias.proof.settings import ProofSettings
from onesense.debias.proof.summary import summarize
from onesense.debias.proof.variants import (
    ERASURE,
    LEARNED,
    RANDOM,
    SANITY,
    Variant,
    by_fingerprint,
    random_variants,
    recipe_variant,
    sanity_variants,
)
from onesense.debias.results import Proof
from onesense.engine.executor import Executor
from onesense.engine.stages import Silent, Stages
from onesense.errors import NotFoundError
from onesense.model.language_model import LanguageModel
from onesense.sae.dictionary import Dictionary
from onesense.steer.recipe import Recipe

# A measurement takes seconds on a processor, and each control needs a few.
_PASSAGES, _TOKENS = 12, 48


@dataclass(frozen=True, slots=True, eq=False)
class _Readings:
    """Benchmarks with their items, why others were left out, and the SHA-256 of the files that were read."""

    read: list[Reading]
    skipped: dict[str, str]
    data: dict[str, str]


def prove(
    model: LanguageModel,
    recipe: Recipe,
    run_folder: Path | str,
    *,
    dictionaries: Mapping[str, Dictionary],
    densities: Mapping[str, Tensor],
    learned: Mapping[str, Recipe] | None = None,
    settings: ProofSettings | None = None,
    scored: Scored | None = None,
    stages: Stages | None = None,
    executor: Executor | None = None,
) -> Proof:
    """Compare a recipe with other ways of changing the model as much, on data that nothing was tuned on.

    Every variant is brought to the same KL on text that no audit reads. An interrupted call goes on where it
    stopped, and ends in the same bytes.

    Args:
        model: The model.
        recipe: Edits of the operations ``scale`` and ``add``.
        run_folder: Where strengths and scores are kept; made if it does not exist.
        dictionaries: Dictionaries in memory, under any key; those that are missing are loaded.
        densities: Firing rates of the recipe's dictionaries, [d_sae], by fingerprint or hook point.
        learned: Recipes of the same learning on other bases, by name.
        settings: Which controls, on what.
        scored: What an audit of the recipe measured (``Audit.scored``): the proof is the same with and without it.
        stages: Told about progress.
        executor: Where benchmarks are measured; None: here. Results do not depend on it.

    Raises:
        ConfigurationError: The recipe changes nothing, or has an edit without a strength; firing rates are missing.
        NotFoundError: No benchmark has its data, or a dictionary is missing.
        IncompatibleError: Another model or dictionary, or the folder holds another proof.
        NumericalError: Logits are NaN.
        LockedError: Another process writes there.
    """
    stages, settings = stages or Silent(), settings or ProofSettings()
    found = _read(model, settings.held_out(), stages)
    with stages.stage("Fitting controls", "kinds"):
        known = by_fingerprint(dictionaries.values())
        known |= by_fingerprint(group.dictionary for group in recipe.groups(model, known))
        variants, notes = _named(model, recipe, known, learned or {}, settings)
        drawn: list[Variant] = []
        if RANDOM in settings.kinds:
            drawn = random_variants(model, recipe, known, densities, draws=settings.draws, seed=settings.seed)
    texts = settings.calibration or calibration_requests(model, passages=_PASSAGES, tokens=_TOKENS)
    meter = KlMeter(model, texts)
    terms = EqualTerms(model, meter, settings.target_kl, found.data, settings.seed, stages, scored, executor)
    folder = Path(run_folder)
    named = measure_variants(
        terms, folder / "controls", variants, found.read, title="controls", target=settings.target_kl
    )
    random = None
    if drawn:
        random = measure_variants(
            terms, folder / RANDOM, drawn, found.read[:1], title="random features", target=named.target
        )
    notes += [f"{key} was left out: {why}" for key, why in found.skipped.items()]
    with stages.stage("Statistics", "benchmarks") as progress:
        return summarize(
            named, random, notes, draws=settings.bootstrap_draws, seed=settings.seed, progress=progress
        )


def _read(model: LanguageModel, benchmarks: Sequence[Benchmark], stages: Stages) -> _Readings:
    with stages.stage("Reading benchmarks", "sets"), recording() as data:
        read, skipped = read_items(benchmarks, ModelScorer(model))
    if not read:
        reasons = "\n".join(f"{key}: {why}" for key, why in skipped.items())
        raise NotFoundError(
            f"None of the benchmarks has its data.\n{reasons}", hint="onesense data get --all"
        )
    return _Readings(read, skipped, data)


def _named(
    model: LanguageModel,
    recipe: Recipe,
    dictionaries: Mapping[str, Dictionary],
    learned: Mapping[str, Recipe],
    settings: ProofSettings,
) -> tuple[list[Variant], list[str]]:
    """The recipe and its controls but for random features, and why a control was left out."""
    variants = [recipe_variant(model, recipe, dictionaries)]
    groups = [group for group in recipe.groups(model, dictionaries) if group.edits]
    notes: list[str] = []
    if SANITY in settings.kinds:
        variants += sanity_variants(model, groups)
    if ERASURE in settings.kinds:
        erasures, notes = erasure_variants(
            model, groups, erasure_pairs(model), seed=settings.seed, only=settings.only
        )
        variants += erasures
    if LEARNED in settings.kinds:
        variants += [
            recipe_variant(model, one, dictionaries, name=name, kind=LEARNED) for name, one in learned.items()
        ]
    if settings.only:
        variants = [variants[0], *(one for one in variants[1:] if one.name.startswith(settings.only))]
    return variants, notes
