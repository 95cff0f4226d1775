"""Find: what every feature does to pronouns, to gender facts and to ordinary text, before anything is changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from onesense.bias.benchmark import Split
from onesense.bias.benchmarks.gender_facts import load_facts
from onesense.bias.scoring.requests import Request
from onesense.debias.attribution import Attributions, contrast_attributions, fisher_scores
from onesense.debias.contrasts import Contrast, fact_contrasts, occupation_contrasts, people_contrasts
from onesense.debias.controls.activations import labelled_activations
from onesense.debias.controls.documents import documents_outside_audits, fitting_requests
from onesense.debias.controls.text_pairs import swapped_sentences
from onesense.debias.selection import Evidence, gather_evidence
from onesense.engine.stages import Silent, Stages
from onesense.errors import ConfigurationError
from onesense.model.language_model import LanguageModel
from onesense.sae.dictionary import Dictionary


@dataclass(frozen=True, slots=True)
class FindSettings:
    """What is looked at.

    Attributes:
        templates: Templates of the occupations that are read.
        people_templates: Templates in which people who are no occupation are read.
        passages: Passages of ordinary text.
        passage_tokens: Longest passage.
        sentences: Sentences of ordinary text that are compared with their gender-swapped twins.
        max_density: Features that fire at a larger share of ordinary text are left out: they carry many senses.
        text: Ordinary text; None for the packaged sample.
        seed: Of the draw of tokens for the Fisher scores.
    """

    templates: int = 6
    people_templates: int = 2
    passages: int = 96
    passage_tokens: int = 48
    sentences: int = 60
    max_density: float = 0.2
    text: str | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.templates, self.passages, self.passage_tokens) < 1 or not 0 < self.max_density <= 1:
            raise ConfigurationError(
                "Finding needs at least one template, one passage and one token, and a density above 0.",
                hint="Leave the settings as they are, or raise them.",
            )


@dataclass(frozen=True, eq=False)
class Found:
    """What finding gives.

    Attributes:
        neutral: The neutral prompts that were read.
        facts: The facts that were read.
        evidence: Attributions of all features, dictionary after dictionary.
        density: Share of the positions of ordinary text at which each feature fires, [features].
        typical: Mean of each latent where it fires in what was read, 0 where it never does, [features].
        swapped: Mean latent on texts about women less that on texts about men, over their sum; NaN where it
            never fires there, [features].
        allowed: Features that pass the screen, [features].
    """

    neutral: tuple[Contrast, ...]
    facts: tuple[Contrast, ...]
    evidence: Evidence
    density: NDArray[np.float64]
    typical: NDArray[np.float64]
    swapped: NDArray[np.float64]
    allowed: NDArray[np.bool_]


def find(
    model: LanguageModel,
    dictionaries: Sequence[Dictionary],
    settings: FindSettings | None = None,
    *,
    stages: Stages | None = None,
) -> Found:
    """Attributions of every feature of some dictionaries; nothing held out is looked at.

    Args:
        model: The model, in float32 where small effects are to be exact.
        dictionaries: One for each hook point.
        settings: What is looked at.
        stages: Told about progress.

    Raises:
        ConfigurationError: Two dictionaries at one hook point, or no feature passes the screen.
        IncompatibleError: A dictionary does not fit the model.
        NumericalError: A gradient is NaN.
    """
    settings = settings or FindSettings()
    stages = stages or Silent()
    _check(dictionaries)
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
    with stages.stage("Texts about women and men", "dictionaries") as progress:
        swapped = _swapped(model, dictionaries, settings)
        progress(len(dictionaries), len(dictionaries))
    density = _joined(prose.fired) / max(1.0, float(prose.tokens.sum()))
    allowed = density <= settings.max_density
    if not allowed.any():
        raise ConfigurationError(
            f"Every feature fires at more than {settings.max_density:.0%} of ordinary text.",
            hint="Allow a larger density (--max-density), or take sparser dictionaries.",
        )
    return Found(
        neutral=tuple(neutral),
        facts=tuple(facts),
        evidence=gather_evidence(neutral, people, facts, known, prose),
        density=density,
        typical=_typical([people, known, prose]),
        swapped=swapped,
        allowed=allowed,
    )


def neutral_prompts(settings: FindSettings) -> list[Contrast]:
    """The neutral prompts that find reads: occupations of find and tune, and people who are no occupation."""
    occupations = of_templates(occupation_contrasts(), settings.templates)
    return [*occupations, *of_templates(people_contrasts(), settings.people_templates)]


def of_templates(contrasts: Sequence[Contrast], number: int) -> list[Contrast]:
    """The contrasts of some templates, evenly spaced."""
    groups = list(dict.fromkeys(one.group for one in contrasts))
    step = max(1, len(groups) // number) if number else len(groups) + 1
    kept = set(groups[::step][:number])
    return [one for one in contrasts if one.group in kept]


def _check(dictionaries: Sequence[Dictionary]) -> None:
    if not dictionaries:
        raise ConfigurationError("There is no dictionary to find features in.", hint="Give at least one.")
    points = [dictionary.hook_point for dictionary in dictionaries]
    twice = [point for point in points if points.count(point) > 1]
    if twice:
        raise ConfigurationError(
            f"Two dictionaries read {twice[0]}.", hint="Give one dictionary for each hook point."
        )


def _swapped(
    model: LanguageModel, dictionaries: Sequence[Dictionary], settings: FindSettings
) -> NDArray[np.float64]:
    documents = documents_outside_audits(model, settings.text)
    sentences = swapped_sentences(documents, limit=settings.sentences) if settings.sentences else []
    points = [dictionary.hook_point for dictionary in dictionaries]
    facts = load_facts(Split.TUNE)
    activations = labelled_activations(model, points, facts, sentences=sentences)
    found = []
    for dictionary in dictionaries:
        mine = activations[dictionary.hook_point]
        women, men = (
            dictionary.encode(side.to(dictionary.device)).double().mean(0).cpu().numpy()
            for side in (mine.women, mine.men)
        )
        with np.errstate(invalid="ignore"):
            found.append((women - men) / (women + men))
    return np.concatenate(found)


def _typical(found: Sequence[Attributions]) -> NDArray[np.float64]:
    latents = np.sum([_joined(one.latents) for one in found], axis=0)
    fired = np.sum([_joined(one.fired) for one in found], axis=0)
    return np.asarray(latents / np.maximum(fired, 1.0))


def _joined(tensors: Sequence[Tensor]) -> NDArray[np.float64]:
    return np.asarray(torch.cat(list(tensors)).double().numpy())


def ordinary_passages(model: LanguageModel, settings: FindSettings, number: int) -> list[Request]:
    """Passages of ordinary text for tuning, outside what audits are scored on."""
    return fitting_requests(model, passages=number, tokens=settings.passage_tokens, source=settings.text)
