"""Prove: the recipe against controls on held-out data, at equal KL."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from onesense.bias.benchmark import Benchmark
from onesense.bias.data.folder import recording
from onesense.bias.measuring import Reading, read_items
from onesense.bias.scoring.requests import Request
from onesense.bias.scoring.scorer import ModelScorer
from onesense.debias.controls.documents import calibration_requests
from onesense.debias.divergence import KlMeter
from onesense.debias.proof.benchmarks import proof_benchmarks, require_held_out
from onesense.debias.proof.erasure_variants import erasure_pairs, erasure_variants
from onesense.debias.proof.measuring import EqualTerms, measure_variants
from onesense.debias.proof.summary import summarize
from onesense.debias.proof.variants import (
    ERASURE,
    KINDS,
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
from onesense.engine.stages import Silent, Stages
from onesense.errors import ConfigurationError, NotFoundError
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
    target_kl: float | None = None,
    learned: Mapping[str, Recipe] | None = None,
    draws: int = 20,
    kinds: Sequence[str] = KINDS,
    only: Sequence[str] = (),
    benchmarks: Sequence[Benchmark] | None = None,
    calibration: Sequence[Request] | None = None,
    bootstrap_draws: int = 10_000,
    seed: int = 0,
    stages: Stages | None = None,
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
        target_kl: KL to bring everything to, nats per token; None for the recipe's own.
        learned: Recipes of the same learning on other bases, by name.
        draws: Draws of random features; they are scored on the first benchmark that has its data.
        kinds: Which controls: some of ``KINDS``.
        only: Beginnings of the names of controls; the others are left out. Empty for all.
        benchmarks: Held-out and guard benchmarks; None for all of ``proof_benchmarks``.
        calibration: Texts on which KL is measured; None for passages that no audit reads.
        bootstrap_draws: Draws of clusters for the intervals.
        seed: Of everything that is drawn.
        stages: Told about progress.

    Raises:
        ConfigurationError: A benchmark is not held out; the recipe changes nothing, or has an edit without a
            strength; an unknown kind; firing rates are missing.
        NotFoundError: No benchmark has its data, or a dictionary is missing.
        IncompatibleError: Another model or dictionary, or the folder holds another proof.
        NumericalError: Logits are NaN.
        LockedError: Another process writes there.
    """
    stages = stages or Silent()
    benchmarks = proof_benchmarks(quick=False) if benchmarks is None else benchmarks
    _check(benchmarks, kinds, target_kl, draws=draws, bootstrap_draws=bootstrap_draws, seed=seed)
    found = _read(model, benchmarks, stages)
    with stages.stage("Fitting controls", "kinds"):
        known = by_fingerprint(dictionaries.values())
        known |= by_fingerprint(group.dictionary for group in recipe.groups(model, known))
        variants, notes = _named(model, recipe, known, learned or {}, kinds, seed)
        if only:
            variants = [variants[0], *(one for one in variants[1:] if one.name.startswith(tuple(only)))]
        drawn: list[Variant] = []
        if RANDOM in kinds:
            drawn = random_variants(model, recipe, known, densities, draws=draws, seed=seed)
    texts = (
        calibration_requests(model, passages=_PASSAGES, tokens=_TOKENS)
        if calibration is None
        else calibration
    )
    terms = EqualTerms(model, KlMeter(model, texts), target_kl, found.data, seed, stages)
    folder = Path(run_folder)
    named = measure_variants(
        terms, folder / "controls", variants, found.read, title="controls", target=target_kl
    )
    random = None
    if drawn:
        random = measure_variants(
            terms, folder / RANDOM, drawn, found.read[:1], title="random features", target=named.target
        )
    notes += [f"{key} was left out: {why}" for key, why in found.skipped.items()]
    with stages.stage("Statistics", "benchmarks") as progress:
        return summarize(named, random, notes, draws=bootstrap_draws, seed=seed, progress=progress)


def _check(
    benchmarks: Sequence[Benchmark],
    kinds: Sequence[str],
    target_kl: float | None,
    *,
    draws: int,
    bootstrap_draws: int,
    seed: int,
) -> None:
    require_held_out(benchmarks)
    unknown = [kind for kind in kinds if kind not in KINDS]
    if unknown:
        raise ConfigurationError(
            f"There is no kind of control {unknown[0]!r}.", hint=f"Kinds: {', '.join(KINDS)}."
        )
    if target_kl is not None and not 0 < target_kl < math.inf:
        raise ConfigurationError(
            f"The KL to bring everything to is {target_kl}; it must be a number above 0.",
            hint="Leave it out for the recipe's own.",
        )
    if RANDOM in kinds and draws < 1:
        raise ConfigurationError(
            f"Random features need at least one draw, not {draws}.",
            hint=f"20 are usual; leave out the kind `{RANDOM}` for none.",
        )
    if bootstrap_draws < 1:
        raise ConfigurationError(
            f"The bootstrap needs at least one draw, not {bootstrap_draws}.",
            hint="10,000 is the usual number.",
        )
    if seed < 0:
        raise ConfigurationError(f"A seed is 0 or more, not {seed}.")


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
    kinds: Sequence[str],
    seed: int,
) -> tuple[list[Variant], list[str]]:
    """The recipe and its controls but for random features, and why a control was left out."""
    variants = [recipe_variant(model, recipe, dictionaries)]
    groups = [group for group in recipe.groups(model, dictionaries) if group.edits]
    notes: list[str] = []
    if SANITY in kinds:
        variants += sanity_variants(model, groups)
    if ERASURE in kinds:
        erasures, notes = erasure_variants(model, groups, erasure_pairs(model), seed=seed)
        variants += erasures
    if LEARNED in kinds:
        variants += [
            recipe_variant(model, one, dictionaries, name=name, kind=LEARNED) for name, one in learned.items()
        ]
    return variants, notes
