"""Split features that have several senses into features that have one each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from onesense.engine.stages import Silent, Stages
from onesense.errors import ConfigurationError
from onesense.model.language_model import LanguageModel
from onesense.sae.dictionary import Dictionary
from onesense.sae.evaluate import spliced_cross_entropy
from onesense.sae.metrics import ReconstructionMetrics
from onesense.senses.activity import Activity, Firings
from onesense.senses.judge import Judge
from onesense.senses.space import SenseSpace, unit_rows
from onesense.senses.split.accept import (
    Candidate,
    HeldOutError,
    Reason,
    Refusal,
    accept_by_cross_entropy,
    accept_by_variance,
    total_variance,
)
from onesense.senses.split.children import Children, Sensed, make_children, senses_of_contexts
from onesense.senses.split.judged import judge_children
from onesense.senses.split.labelled import LabelledFeature, require_fitting, require_splittable
from onesense.senses.split.refine import refine
from onesense.senses.split.result import Quality, Split, SplitSettings
from onesense.senses.split.split_text import Part, SplitText, read_split_text
from onesense.senses.split.with_children import children_ids, with_children, with_thresholds
from onesense.text.corpus import Document
from onesense.text.windows import Window

_ROWS_AT_ONCE = 1024
# log10 of this is the sparsity of a feature that never fires, as everywhere in onesense.
_SMALLEST_FREQUENCY = 1e-10


def split_features(
    model: LanguageModel,
    dictionary: Dictionary,
    labelled: Sequence[LabelledFeature],
    activity: Activity,
    space: SenseSpace,
    judge: Judge,
    documents: Iterable[Document],
    settings: SplitSettings | None = None,
    *,
    stages: Stages | None = None,
) -> Split:
    """Split features into one for each of their senses.

    ``Reason`` says what makes a split refused. A relu dictionary becomes a jumprelu one of threshold 0: the same
    function, in which a threshold can keep a child to its sense.

    Args:
        model: The model.
        dictionary: Relu or jumprelu.
        labelled: What to split, each with some labelled contexts.
        activity: The text where these contexts are.
        space: In which contexts are alike; its reference features are those of the dictionary.
        judge: Of senses.
        documents: The text of the activity.
        settings: How.
        stages: Told about progress.

    Raises:
        ConfigurationError: Nothing to split, or a text with too few documents.
        NotFoundError: A feature id is out of range.
        IncompatibleError: The dictionary cannot be split; labels or text belong to something else.
        NumericalError: NaN or infinity.
    """
    settings, stages = settings or SplitSettings(), stages or Silent()
    require_splittable(dictionary)
    firings = _firings(activity, settings.unit_set)
    require_fitting(labelled, dictionary, activity, firings)
    plain = with_thresholds(dictionary.to("cpu", torch.float32).fold_norm_factor())
    part = settings.deal(activity.document)
    sensed, refused = _sensed(labelled, activity, firings, space, part, settings.seed)
    text = read_split_text(
        model,
        plain,
        [one.feature for one in sensed],
        documents,
        activity,
        part,
        tokens=settings.tokens,
        context_size=settings.context_size,
        stages=stages,
    )
    families = _families(sensed, text, plain, settings, stages)
    candidates, also = _judged(families, sensed, text, plain, (space, judge), settings, stages)
    # Those that have been refused already had their share of the tolerance too.
    held_out = _held_out_error(text, plain)
    accepted, more = accept_by_variance(candidates, held_out, settings.fvu_tolerance / len(labelled))
    split = _within_cross_entropy(model, plain, text, accepted, settings, stages)
    all_refused = tuple(sorted([*refused, *also, *more, *split.refused], key=_by_feature))
    return replace(split, refused=all_refused, parent_fingerprint=dictionary.origin.fingerprint)


def _firings(activity: Activity, unit_set: str) -> Firings:
    if unit_set not in activity.firings:
        raise ConfigurationError(
            f"The contexts are not those of `{unit_set}`.", hint=f"There are: {', '.join(activity.firings)}."
        )
    return activity.firings[unit_set]


def _sensed(
    labelled: Sequence[LabelledFeature],
    activity: Activity,
    firings: Firings,
    space: SenseSpace,
    part: NDArray[np.int8],
    seed: int,
) -> tuple[list[Sensed], list[Refusal]]:
    """The features that have several senses in the text that is fitted on; the others, and why not."""
    sensed, refused = [], []
    for one in labelled:
        fires_in = set(part[firings.of(one.feature)[0]].tolist())
        if not {Part.FIT, Part.HELD_OUT} <= fires_in:
            refused.append(Refusal(one.feature, Reason.DEAD))
        elif len(np.unique(one.label)) < 2:
            refused.append(Refusal(one.feature, Reason.ONE_SENSE))
        elif (found := senses_of_contexts(one, activity, firings, space, part, seed=seed)) is None:
            refused.append(Refusal(one.feature, Reason.TOO_FEW_CONTEXTS))
        else:
            sensed.append(found)
    return sensed, refused


def _families(
    sensed: Sequence[Sensed], text: SplitText, dictionary: Dictionary, settings: SplitSettings, stages: Stages
) -> list[Children]:
    """The children of each parent of the text, fine-tuned."""
    families = []
    with stages.stage("Making children", "features") as progress:
        for column, one in enumerate(sensed):
            families.append(make_children(text, dictionary, column, one.sense))
            progress(column + 1, len(sensed))
    return refine(families, text, dictionary.W_dec[list(text.features)], settings.refine, stages)


def _judged(
    families: Sequence[Children],
    sensed: Sequence[Sensed],
    text: SplitText,
    dictionary: Dictionary,
    sense: tuple[SenseSpace, Judge],
    settings: SplitSettings,
    stages: Stages,
) -> tuple[list[tuple[int, Candidate]], list[Refusal]]:
    """The families whose children have fewer senses on held-out text, with the columns of their parents."""
    rows = text.rows(Part.HELD_OUT)
    inputs, parents = text.inputs[rows], text.latents[rows]
    directions = unit_rows(dictionary.W_dec[list(text.features)].numpy())
    candidates, refused = [], []
    with stages.stage("Counting senses", "features") as progress:
        for column, (children, one) in enumerate(zip(families, sensed, strict=True)):
            found = judge_children(
                children,
                one.shares,
                children.latents(inputs),
                (parents[:, column], directions[column]),
                rows,
                sense,
                contexts=settings.contexts,
                one_sense=settings.one_sense,
                seed=settings.seed,
            )
            if isinstance(found, Refusal):
                refused.append(found)
            else:
                candidates.append((column, found))
            progress(column + 1, len(families))
    return candidates, refused


def _held_out_error(text: SplitText, dictionary: Dictionary) -> HeldOutError:
    rows = text.rows(Part.HELD_OUT)
    return HeldOutError(
        text.inputs[rows],
        text.residual[rows],
        text.latents[rows],
        dictionary.W_dec[list(text.features)],
        total_variance(text.targets(dictionary, rows)),
    )


def _within_cross_entropy(
    model: LanguageModel,
    dictionary: Dictionary,
    text: SplitText,
    candidates: Sequence[Candidate],
    settings: SplitSettings,
    stages: Stages,
) -> Split:
    """The split with those candidates that the model can bear; refusals are those for cross-entropy alone."""
    windows = _first_tokens(text.held_out, settings.cross_entropy_tokens)
    with stages.stage("Measuring cross-entropy", "runs") as progress:
        runs = 0

        def measure(some: Sequence[Candidate]) -> float:
            nonlocal runs
            runs += 1
            progress(runs, None)
            return spliced_cross_entropy(
                model, with_children(dictionary, [one.children for one in some]), windows
            )

        start = measure([])
        share = settings.cross_entropy_tolerance
        accepted, refused, end = accept_by_cross_entropy(candidates, measure, start, share)
    accepted = sorted(accepted, key=lambda one: one.children.parent)
    families = [one.children for one in accepted]
    new = with_children(dictionary, families)
    before, after = _reconstruction(dictionary, text), _reconstruction(new, text)
    origin = replace(
        new.origin,
        sparsity=_sparsity(dictionary, text, families, after),
        expected_l0=after.l0,
        expected_fvu=after.fvu,
    )
    return Split(
        dictionary=replace(new, origin=origin),
        parent_fingerprint=dictionary.origin.fingerprint,
        accepted={one.children.parent: one for one in accepted},
        children=children_ids(dictionary, families),
        refused=tuple(refused),
        before=Quality(before.fvu, before.l0, start),
        after=Quality(after.fvu, after.l0, end),
        settings=settings,
    )


def _reconstruction(dictionary: Dictionary, text: SplitText) -> ReconstructionMetrics:
    metrics = ReconstructionMetrics(dictionary.d_sae)
    for rows in text.rows(Part.HELD_OUT).split(_ROWS_AT_ONCE):
        target = text.targets(dictionary, rows)
        latents = dictionary.encode(target)
        metrics.update(target, dictionary.decode(latents), latents)
    return metrics


def _sparsity(
    dictionary: Dictionary, text: SplitText, families: Sequence[Children], after: ReconstructionMetrics
) -> Tensor:
    """Log of the firing frequency: of children as measured, of all others as their maker recorded it where known."""
    found = (after.firing_frequency + _SMALLEST_FREQUENCY).log10().float()
    recorded = dictionary.origin.sparsity
    if recorded is not None:
        found[: dictionary.d_sae] = recorded.float().cpu()
    ids = children_ids(dictionary, families)
    for one in families:
        parts = text.inputs.split(_ROWS_AT_ONCE)
        firing = sum(((one.latents(part) > 0).sum(0) for part in parts), torch.zeros(len(one)))
        found[list(ids[one.parent])] = (firing / len(text.inputs) + _SMALLEST_FREQUENCY).log10()
    return found


def _first_tokens(windows: Sequence[Window], tokens: int) -> list[Window]:
    kept, count = [], 0
    for window in windows:
        if count >= tokens:
            break
        kept.append(window)
        count += len(window.ids)
    return kept


def _by_feature(refusal: Refusal) -> int:
    return refusal.feature
