"""What every unit of some sets does, to first order: to pronouns, to gender facts, to ordinary text."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from onesense.debias.attribution import contrast_attributions, fisher_scores
from onesense.debias.contrasts import fact_contrasts
from onesense.debias.controls.documents import fitting_requests
from onesense.debias.find import FindSettings, neutral_prompts
from onesense.debias.selection import Evidence, gather_evidence
from onesense.engine.stages import Stages
from onesense.model.language_model import LanguageModel
from onesense.sae.dictionary import Dictionary
from onesense.senses.unit_sets import written_norms
from onesense.store.run_folder import RunFolder
from onesense.study.units import Floats, StudiedSet, UnitTable, mean_latent

EFFECTS = ("bias", "stereotype", "fact", "kl")
_NAME = "effects"


def unit_tables(
    model: LanguageModel,
    sets: Sequence[StudiedSet],
    run: RunFolder,
    settings: FindSettings,
    stages: Stages,
) -> list[UnitTable]:
    """Senses and effects of every unit, set by set; effects that the run holds are not measured again.

    Args:
        model: The model, in float32 where small effects are to be exact.
        sets: The units.
        run: Where effects are kept; write-locked by the caller.
        settings: What is looked at; its screens are not used.
        stages: Told about progress.

    Raises:
        HookPointError: The units are neither in the residual stream nor neurons.
        IncompatibleError: A set does not fit the model.
        NumericalError: A gradient is NaN.
    """
    if not run.has_result(_NAME):
        evidence = _evidence(model, [one.units.dictionary for one in sets], settings, stages)
        run.write_result(_NAME, {key: torch.from_numpy(one) for key, one in first_order(evidence).items()})
    kept = run.read_result(_NAME)
    edges = np.cumsum([0, *(one.units.n_units for one in sets)])
    return [
        _table(model, one, {name: _floats(kept[name][start:stop]) for name in EFFECTS})
        for one, start, stop in zip(sets, edges, edges[1:], strict=False)
    ]


def first_order(evidence: Evidence) -> dict[str, Floats]:
    """The ``EFFECTS`` of every unit; see ``UnitTable``.

    Args:
        evidence: Attributions, set after set.
    """
    leaning = evidence.neutral - evidence.neutral.mean()
    size = float(leaning.std())
    along = leaning @ evidence.neutral_effects / len(leaning)
    return {
        "bias": evidence.bias,
        "stereotype": along / size if size > 0 else np.zeros_like(along),
        "fact": np.asarray(np.abs(evidence.fact_effects).mean(axis=0)),
        "kl": evidence.cost,
    }


def _evidence(
    model: LanguageModel, dictionaries: Sequence[Dictionary], settings: FindSettings, stages: Stages
) -> Evidence:
    neutral, facts = neutral_prompts(settings), fact_contrasts()
    passages = fitting_requests(
        model, passages=settings.passages, tokens=settings.passage_tokens, source=settings.text
    )
    with stages.stage("Attribution: people", "prompts") as progress:
        people = contrast_attributions(model, dictionaries, neutral, progress=progress)
    with stages.stage("Attribution: gender facts", "facts") as progress:
        known = contrast_attributions(model, dictionaries, facts, progress=progress)
    with stages.stage("Attribution: ordinary text", "passages") as progress:
        prose = fisher_scores(model, dictionaries, passages, seed=settings.seed, progress=progress)
    return gather_evidence(neutral, people, facts, known, prose)


def _table(model: LanguageModel, one: StudiedSet, effects: dict[str, Floats]) -> UnitTable:
    senses = one.senses
    return UnitTable(
        name=one.name,
        density=_floats(senses.density),
        norm=mean_latent(senses) * written_norms(model, one.units).double().numpy(),
        number=_floats(senses.number),
        effective=_floats(senses.effective),
        several=_floats(senses.several),
        separation=_floats(senses.separation),
        token_entropy=_floats(senses.token_entropy),
        **effects,
    )


def _floats(values: NDArray[np.generic]) -> Floats:
    return np.asarray(values, dtype=np.float64)
