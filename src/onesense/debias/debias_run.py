"""One run of debias, step by step; each step keeps what it found, so that it is not done twice."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from onesense.bias.audit import Audit, audit
from onesense.bias.benchmarks.occupations import METRICS as OCCUPATION_METRICS
from onesense.bias.results import AuditResult
from onesense.bias.scoring.passes import first_block
from onesense.bias.statistics.estimate import estimate
from onesense.debias.carried_over import carried_over, first_budget, tuned_changes
from onesense.debias.continuations import continuations
from onesense.debias.contrasts import (
    Contrast,
    fact_contrasts,
    occupation_contrasts,
    pair_contrasts,
    people_contrasts,
)
from onesense.debias.controls.calibrate import within_budget
from onesense.debias.controls.documents import calibration_requests
from onesense.debias.divergence import KlMeter
from onesense.debias.find import Found, find, of_templates, ordinary_passages
from onesense.debias.objective import Objective
from onesense.debias.results import Continuation, FrontPoint
from onesense.debias.search import Search, search, search_file, search_for, search_notes
from onesense.debias.selection import Selection, select
from onesense.debias.sense_screen import read_screen
from onesense.debias.settings import DebiasSettings
from onesense.debias.stored_evidence import read_found, write_found
from onesense.debias.tunable import Tunable
from onesense.debias.tune import StepReport, tune
from onesense.debias.tune_measures import TuneMeter
from onesense.engine.executor import Executor
from onesense.engine.stages import Stages
from onesense.errors import ConfigurationError
from onesense.model.language_model import LanguageModel
from onesense.sae.dictionary import Dictionary
from onesense.steer.intervention import EditGroup
from onesense.steer.recipe import Recipe, read_recipe, write_recipe
from onesense.store.provenance import provenance
from onesense.store.run_folder import RunFolder
from onesense.store.seal import keep_json, kept_json

_SECONDS = "seconds.json"
_ADDED_LATER = ("choose", "own_effects", "audit", "controls", "control_draws", "prompts")
_OF_A_SEARCH = ("search", "trials")
_STRONGEST = 2.0
# Edits at several depths act on one another, which the first order does not see: KL comes out higher.
_DEARER = 6.0
_AUDIT_BYTES = 1 << 27
# Share of the steps that a budget takes which begins where another was tuned to.
_LATER_STEPS = 0.5


class DebiasRun:
    """See ``debias``.

    Attributes:
        run: The run folder.
        settings: What is wanted.
        dictionaries: One for each hook point, the earliest first.
        search: How amounts are found; never ``auto``.
        first_budget: The budget that is tuned first; the others go on from it.
        screen: How many senses features have, where that was measured.
        seconds: How long each step took, over all calls.
    """

    def __init__(
        self,
        model: LanguageModel,
        dictionaries: Sequence[Dictionary],
        run_folder: Path | str,
        settings: DebiasSettings,
        stages: Stages,
        executor: Executor | None = None,
    ) -> None:
        if not dictionaries:
            raise ConfigurationError("There is no dictionary to find features in.", hint="Give at least one.")
        for dictionary in dictionaries:
            if dictionary.origin.release is None and dictionary.origin.path is None:
                raise ConfigurationError(
                    f"The dictionary at {dictionary.hook_point} is in memory only: no recipe could say where it is.",
                    hint="Write it with onesense.sae.write.write_saelens, and load it from there.",
                )
        self.model, self.settings, self.stages, self.executor = model, settings, stages, executor
        self.dictionaries = sorted(dictionaries, key=lambda one: (one.hook_point.layer, one.hook_point.name))
        self.search = search_for(settings.search, self.dictionaries)
        self.screen = read_screen(settings.senses, self.dictionaries)
        self.seconds: dict[str, float] = {}
        self.first_budget = first_budget(settings.budgets)
        self._kl: dict[str, float] = {}
        self._selections: dict[float, Selection] = {}
        self.start = min(first_block(one.hook_point) for one in self.dictionaries)
        self.run = RunFolder.create_or_resume(
            run_folder,
            command="debias",
            configuration=self._identity(),
            provenance=provenance(
                model={"fingerprint": model.fingerprint, "name": model.name},
                dictionary={one.hook_point.name: one.origin.fingerprint for one in self.dictionaries},
                seeds=settings.seed,
            ),
        )

    def described_settings(self) -> dict[str, object]:
        """The settings as JSON values."""
        described: dict[str, object] = json.loads(json.dumps(asdict(self.settings), default=str))
        return described

    def _identity(self) -> dict[str, object]:
        """What decides the recipes: audits and controls may be added to a run later."""
        found = self.described_settings()
        unused = _OF_A_SEARCH if self.search is Search.GRADIENT else ()
        # A run of senses may lie elsewhere tomorrow; what it holds decides.
        measured = {"senses": list(self.screen.fingerprints)} if self.screen.fingerprints else {}
        left_out = (*_ADDED_LATER, *unused, "senses")
        return {name: value for name, value in found.items() if name not in left_out} | measured

    def find(self) -> Found:
        """The evidence, from the run folder where it is there."""
        with self.timed("find"):
            kept = read_found(self.run, self.settings.find)
            if kept is None:
                # Not named, so that its memory is free when it is read back: a resumed run must see the same bits.
                write_found(
                    self.run, find(self.model, self.dictionaries, self.settings.find, stages=self.stages)
                )
                kept = read_found(self.run, self.settings.find)
        if kept is None:
            raise ConfigurationError(f"{self.run.path} lost its evidence.", hint="Run the command again.")
        return replace(kept, allowed=kept.allowed & ~self.screen.polysemantic)

    def refuse_without_bias(self, found: Found) -> None:
        """Stop where there is nothing to reduce: the slope over occupations cannot be told from 0.

        Raises:
            ConfigurationError: No bias can be detected.
        """
        first = {one.person: one for one in found.neutral if not np.isnan(one.women_percent)}
        people = list(dict.fromkeys(one.person for one in found.neutral))
        chosen = [at for at, person in enumerate(people) if person in first]
        columns = {
            "log_odds": found.evidence.neutral[chosen],
            "women_percent": np.array([first[people[at]].women_percent for at in chosen]),
        }
        clusters = [first[people[at]].cluster for at in chosen]
        slope = estimate(OCCUPATION_METRICS[0], columns, clusters, draws=2000, seed=self.settings.seed)
        if slope.low <= 0 <= slope.high:
            raise ConfigurationError(
                f"No gender bias can be detected in `{self.model.name}`: over {len(chosen)} occupations of the find "
                f"and tune splits the log-odds of “she” against “he” follow the share of women with a slope of "
                f"{slope.value:.2f} nats (95 % interval {slope.low:.2f} to {slope.high:.2f}), which may be 0.",
                hint="There is nothing to reduce. `onesense audit` measures other kinds of bias.",
            )

    def recipe(self, budget: float, found: Found) -> Recipe:
        """The recipe for a budget, from its file where it is there."""
        path = self.run.path / recipe_file(budget)
        if path.exists():
            return read_recipe(path)
        goes_on = budget != self.first_budget and self.search is not Search.TRIALS
        if goes_on:
            self.recipe(self.first_budget, found)
        with self.timed(f"tune {budget:g}"):
            with self.stages.stage(f"Choosing features, KL {budget:g}", "choices") as progress:
                selection = self._select(budget, found)
                if goes_on:
                    selection = self._begun(selection, budget, found)
                progress(1, 1)
            tunable = self._tunable(selection, found)
            if self.search is not Search.TRIALS:
                self._tune(tunable, selection, budget)
            if self.search is not Search.GRADIENT:
                self._search(tunable, selection, found, budget)
            with self.stages.stage(f"Measuring KL {budget:g}", "recipes") as progress:
                meter = self._meter
                strength = within_budget(
                    lambda share: meter.measure(tunable.groups(share)), budget, highest=_STRONGEST, guess=1.0
                )
                progress(1, 1)
            recipe = tunable.recipe(strength.strength, note=f"debias, KL budget {budget:g} nats per token")
            if strength.strength > 0:
                self._kl[recipe.content_hash] = strength.kl
            path.parent.mkdir(exist_ok=True)
            write_recipe(recipe, path)
        return recipe

    def front(self, recipes: Sequence[Recipe]) -> list[FrontPoint]:
        """What each recipe reaches on the tune split."""
        path = self.run.path / "front.json"
        with self.timed("front"), self.stages.stage("Pareto front", "recipes") as progress:
            known: dict[str, dict[str, float]] = kept_json(path) or {}
            if any(recipe.content_hash not in known for recipe in recipes):
                meter = TuneMeter(self.model, self.start)
                for number, recipe in enumerate(recipes, start=1):
                    groups, key = self.groups(recipe), recipe.content_hash
                    # The search for its strength ended with this number, unless another call made the recipe.
                    kl = self._kl[key] if key in self._kl else self._meter.measure(groups)
                    known[key] = {**meter.measure(groups)._asdict(), "kl": kl}
                    progress(number, len(recipes))
                keep_json(path, known)
        return [
            FrontPoint(
                budget=budget,
                features=len(
                    {(part.hook_point, edit.feature) for part in recipe.parts for edit in part.edits}
                ),
                recipe=recipe_file(budget),
                content_hash=recipe.content_hash,
                **known[recipe.content_hash],
            )
            for budget, recipe in zip(self.settings.budgets, recipes, strict=True)
        ]

    def texts(self, recipe: Recipe) -> list[Continuation]:
        """The prompts, continued without and with the recipe, with the same noise."""
        if not self.settings.prompts:
            return []
        with self.timed("texts"), self.stages.stage("Texts", "prompts") as progress:
            return continuations(
                self.model,
                self.groups(recipe),
                self.settings.prompts,
                seed=self.settings.seed,
                report=progress,
            )

    def audit(self, recipe: Recipe) -> Audit:
        """The held-out audit of a recipe, in a folder of its own within the run."""
        with self.timed("audit"):
            # The proof goes on from what the audit has of the blocks before the first edit.
            scoring = replace(self.settings.audit.scoring, prefix_bytes=_AUDIT_BYTES)
            settings = replace(self.settings.audit, seed=self.settings.seed, scoring=scoring)
            asked = settings.suite if not settings.benchmarks else "hand-picked"
            folder = self.run.path / f"audit-{asked}-{recipe.content_hash[:8]}"
            where = (self.model, folder)
            return audit(*where, recipe=recipe, settings=settings, stages=self.stages, executor=self.executor)

    def densities(self, found: Found) -> dict[str, torch.Tensor]:
        """The firing rate of every feature, by hook point."""
        rates = torch.from_numpy(found.density).split(found.evidence.widths)
        return {one.hook_point.name: rate for one, rate in zip(self.dictionaries, rates, strict=True)}

    def splits(self, found: Found) -> tuple[str, ...]:
        """What was looked at, in words."""
        occupations = {one.person for one in found.neutral if not np.isnan(one.women_percent)}
        others = {one.person for one in found.neutral} - occupations
        return (
            f"{len(occupations)} occupations of the find and tune splits and {len(others)} other people in "
            f"{len(found.neutral)} prompts",
            f"{len(found.facts)} gender facts of the tune split",
            f"{self.settings.find.passages} passages of ordinary text to find, "
            f"{self.settings.tuning_passages} to tune, and {self.settings.calibration_passages} to measure KL, none of "
            "which an audit is scored on",
        )

    def screened(self, found: Found) -> tuple[str, ...]:
        """What the screen left out, in words."""
        dense = int((found.density > self.settings.find.max_density).sum())
        several = int(self.screen.polysemantic.sum())
        acting = int((found.allowed & (found.evidence.bias > 0)).sum())
        said = [
            f"{len(found.allowed):,} features; {acting:,} act on the pronouns of neutral prompts",
            f"{dense:,} left out because they fire at more than {self.settings.find.max_density:.0%} of ordinary text",
        ]
        if self.settings.senses:
            said.append(f"{several:,} left out because they have more than one sense")
        return tuple(said)

    def notes(self, audited: AuditResult) -> tuple[str, ...]:
        """What a reader must know."""
        notes = list(audited.notes)
        for budget in self.settings.budgets:
            notes += search_notes(self.run.path / search_file(budget))
        tokenizer = self.model.tokenizer
        if tokenizer is not None and getattr(tokenizer, "chat_template", None):
            notes.append(
                "This is a chat model. Prompts are raw text, without its chat template, in tuning and in the audit."
            )
        return tuple(notes)

    def _begun(self, selection: Selection, budget: float, found: Found) -> Selection:
        """The selection, from where the first budget was tuned to."""
        before = self._select(self.first_budget, found)
        features = [found.evidence.feature(int(column)) for column in before.columns]
        tuned = tuned_changes(self.recipe(self.first_budget, found), features, self.dictionaries)
        # KL grows with the square of a change.
        return carried_over(selection, before, tuned, math.sqrt(budget / self.first_budget))

    def _select(self, budget: float, found: Found) -> Selection:
        if budget not in self._selections:
            self._selections[budget] = select(
                found.evidence,
                kl_budget=budget,
                max_features=self.settings.max_features,
                allowed=found.allowed,
            )
        return self._selections[budget]

    def _tunable(self, selection: Selection, found: Found) -> Tunable:
        return Tunable(
            self.model,
            self.dictionaries,
            [found.evidence.feature(int(column)) for column in selection.columns],
            torch.from_numpy(selection.change),
            torch.from_numpy(found.typical[selection.columns]),
            thresholds=self.settings.thresholds,
        )

    def _tune(self, tunable: Tunable, selection: Selection, budget: float) -> None:
        steps = self.settings.tune.steps
        if budget != self.first_budget:
            steps = math.ceil(steps * _LATER_STEPS)
        settings = replace(self.settings.tune, steps=steps, price=_DEARER * selection.price)
        with self.stages.stage(f"Tuning, KL {budget:g}", "steps") as progress:

            def told(report: StepReport) -> None:
                progress(report.step, report.steps)

            tune(
                tunable,
                self.objective,
                budget=budget,
                settings=settings,
                checkpoint=self.run.path / "partials" / f"tune-{budget:g}.safetensors",
                identity=self.run.fingerprint,
                report=told,
            )

    def _search(self, tunable: Tunable, selection: Selection, found: Found, budget: float) -> None:
        effects = found.evidence.bias[selection.columns] * np.abs(selection.change)
        with self.stages.stage(f"Searching, KL {budget:g}", "trials") as progress:
            result = search(
                tunable,
                self.objective,
                budget=budget,
                settings=self.settings.trials,
                importance=effects.tolist(),
                seed=self.settings.seed,
                checkpoint=self.run.path / "partials" / search_file(budget),
                identity=self.run.fingerprint,
                report=progress,
            )
        keep_json(self.run.path / search_file(budget), result.to_json())

    @cached_property
    def objective(self) -> Objective:
        """The same for every budget, so that what comes before the first edit is run once for all."""
        seed = self.settings.seed
        by_template: dict[str, list[Contrast]] = {}
        for one in pair_contrasts(self.settings.pairs, seed=seed):
            by_template.setdefault(one.group, []).append(one)
        people = of_templates(people_contrasts(), 2 * max(1, self.settings.find.people_templates))
        neutral = [occupation_contrasts(), people, *by_template.values()]
        passages = ordinary_passages(self.model, self.settings.find, self.settings.tuning_passages)
        return Objective(self.model, neutral, fact_contrasts(), passages, start=self.start, seed=seed)

    @cached_property
    def _meter(self) -> KlMeter:
        requests = calibration_requests(
            self.model, passages=self.settings.calibration_passages, source=self.settings.find.text
        )
        return KlMeter(self.model, requests)

    def groups(self, recipe: Recipe) -> list[EditGroup]:
        """The edits of a recipe, with the dictionaries of this run."""
        loaded: Mapping[str, Dictionary] = {one.origin.fingerprint: one for one in self.dictionaries}
        return recipe.groups(self.model, loaded)

    @contextmanager
    def timed(self, step: str) -> Iterator[None]:
        """Note how long the block takes, beside what earlier calls took."""
        began = time.monotonic()
        yield
        path = self.run.path / _SECONDS
        self.seconds = kept_json(path) or {}
        self.seconds[step] = round(self.seconds.get(step, 0.0) + time.monotonic() - began, 1)
        keep_json(path, self.seconds)


def recipe_file(budget: float) -> str:
    """Where the recipe of a budget is, relative to the run folder."""
    return f"recipes/kl-{budget:g}.json"
