"""PS-Eval: does a word's strongest latent stay the same with its sense, and change with it?

Minegishi et al. 2025, *Rethinking Evaluation of Sparse Autoencoders through the Representation of Polysemous
Words*, arXiv:2501.06254.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from onesense.errors import ConfigurationError, IncompatibleError, NumericalError
from onesense.model.capture import capture
from onesense.model.language_model import LanguageModel
from onesense.model.tokens import encode_texts, pad_batch
from onesense.senses.field_metrics.estimate import Estimate, Floats, document_sums, estimates, ratio
from onesense.senses.field_metrics.word_pairs import WordPair

if TYPE_CHECKING:
    from onesense.sae.dictionary import Dictionary

SILENT = -1
"""In the place of a latent's id where none fires."""

_SENTENCES_PER_BATCH = 32


@dataclass(frozen=True, slots=True)
class PolysemyScore:
    """How well “the same latent” means “the same sense”; each from 0 to 1, higher is better.

    Attributes:
        accuracy: Share of pairs that are told rightly.
        precision: Of pairs with one latent, the share with one sense.
        recall: Of pairs with one sense, the share with one latent.
        specificity: Of pairs with two senses, the share with two latents.
        f1: Harmonic mean of precision and recall.
        pairs: Pairs that counted.
        words: Words among them, which the bootstrap draws.
        silent: Pairs left out because no latent fires at the word.
        too_long: Pairs left out because the word ends beyond the model's context.
    """

    accuracy: Estimate
    precision: Estimate
    recall: Estimate
    specificity: Estimate
    f1: Estimate
    pairs: int
    words: int
    silent: int
    too_long: int = 0


def ps_eval(
    strongest: ArrayLike,
    same: ArrayLike,
    words: Sequence[Hashable],
    *,
    draws: int = 2000,
    seed: int = 0,
) -> PolysemyScore:
    """Score pairs by their strongest latents.

    Args:
        strongest: Id of the strongest latent in both contexts, ``SILENT`` where none fires, [pairs, 2].
        same: Whether the word has the same sense in both, [pairs].
        words: The word of each pair; the bootstrap draws words, with all their pairs.
        draws: Bootstrap draws.
        seed: Of the draws.

    Raises:
        IncompatibleError: Shapes disagree.
        ConfigurationError: Ids are no whole numbers, a label is neither true nor false, pairs of one kind
            only, or of one word only.
    """
    ids, labels = np.asarray(strongest), np.asarray(same)
    if ids.ndim != 2 or ids.shape[1:] != (2,) or labels.shape != ids.shape[:1] or len(words) != len(ids):
        raise IncompatibleError(
            f"There are latents of shape {list(ids.shape)}, labels of shape {list(labels.shape)} and "
            f"{len(words)} words.",
            hint="Give two latents, one label and one word for each pair.",
        )
    if not np.issubdtype(ids.dtype, np.integer) or not np.isin(labels, [0, 1]).all():
        raise ConfigurationError(
            "Latents are whole numbers, and labels true or false.", hint="Look for NaN among them."
        )
    heard: NDArray[np.bool_] = np.asarray((ids >= 0).all(axis=1))
    told, truth = (ids[:, 0] == ids[:, 1])[heard], labels.astype(bool)[heard]
    if len(np.unique(truth)) < 2:
        raise ConfigurationError(
            f"Of {len(ids)} pairs {len(truth)} count, and they are not of both kinds.",
            hint="Give pairs with the same sense and pairs with different ones.",
        )
    table = np.column_stack([told & truth, ~told & ~truth, told & ~truth, ~told & truth]).astype(np.float64)
    sums = document_sums(table, [word for word, counts in zip(words, heard.tolist(), strict=True) if counts])
    accuracy, precision, recall, specificity, f1 = estimates(
        sums, _measures, draws=draws, seed=seed, unit="word", within=(0, 1)
    )
    return PolysemyScore(
        accuracy=accuracy,
        precision=precision,
        recall=recall,
        specificity=specificity,
        f1=f1,
        pairs=len(truth),
        words=len(sums),
        silent=int((~heard).sum()),
    )


def strongest_latents(latents: Tensor) -> Tensor:
    """Id of the strongest latent of each row, ``SILENT`` where none fires, long [rows]; of equals the first.

    Args:
        latents: [rows, d_sae].

    Raises:
        NumericalError: NaN among the latents.
    """
    best, ids = latents.max(dim=-1)
    if bool(best.isnan().any()):
        raise NumericalError("The latents hold NaN.", hint="Run the model in float32 or bfloat16.")
    return torch.where(best > 0, ids, SILENT)


def ps_eval_of(
    model: LanguageModel,
    dictionary: Dictionary,
    pairs: Sequence[WordPair],
    *,
    draws: int = 2000,
    seed: int = 0,
) -> PolysemyScore:
    """PS-Eval of a dictionary, at the last token of each word.

    Args:
        model: The model.
        dictionary: The dictionary.
        pairs: The pairs, as ``read_word_pairs`` gives them.
        draws: Bootstrap draws.
        seed: Of the draws.

    Raises:
        ConfigurationError: Too few pairs, as in ``ps_eval``.
        HookPointError: The dictionary's hook point does not exist in this model.
        IncompatibleError: The dictionary has another width than the activations.
        NumericalError: An activation is NaN or infinite.
    """
    sentences = [sentence for pair in pairs for sentence in pair.sentences]
    starts = [
        sentence[:end] for pair in pairs for sentence, end in zip(pair.sentences, pair.ends, strict=True)
    ]
    whole = encode_texts(model, sentences) if sentences else []
    places = [
        _last_of(*both) for both in zip(encode_texts(model, starts) if starts else [], whole, strict=True)
    ]
    fits = [max(places[2 * number : 2 * number + 2]) < model.max_context for number in range(len(pairs))]
    used = [number for number, fit in enumerate(fits) if fit]
    rows = [row for number in used for row in (2 * number, 2 * number + 1)]
    strongest = _read(model, dictionary, [whole[row][: places[row] + 1] for row in rows]).view(-1, 2)
    score = ps_eval(
        strongest.numpy(),
        [pairs[number].same for number in used],
        [pairs[number].word.lower() for number in used],
        draws=draws,
        seed=seed,
    )
    return replace(score, too_long=len(pairs) - len(used))


def _measures(sums: Floats) -> Floats:
    """Accuracy, precision, recall, specificity and F1, [n, 5]; NaN where one is undefined."""
    rightly_one, rightly_two, wrongly_one, wrongly_two = sums.T
    return np.column_stack(
        [
            ratio(rightly_one + rightly_two, sums.sum(axis=1)),
            ratio(rightly_one, rightly_one + wrongly_one),
            ratio(rightly_one, rightly_one + wrongly_two),
            ratio(rightly_two, rightly_two + wrongly_one),
            ratio(2 * rightly_one, 2 * rightly_one + wrongly_one + wrongly_two),
        ]
    )


def _last_of(beginning: Sequence[int], whole: Sequence[int]) -> int:
    """The index of the token of a sentence in which its beginning ends."""
    # where a token reaches over the end of the beginning, it is the first that differs
    differs = (
        index for index, (one, other) in enumerate(zip(beginning, whole, strict=False)) if one != other
    )
    return next(differs, len(beginning) - 1)


@torch.no_grad()
def _read(model: LanguageModel, dictionary: Dictionary, rows: Sequence[Sequence[int]]) -> Tensor:
    """The strongest latent at the last token of each row, long [rows]."""
    found = torch.full((len(rows),), SILENT)
    order = sorted(range(len(rows)), key=lambda row: len(rows[row]))
    for start in range(0, len(order), _SENTENCES_PER_BATCH):
        some = order[start : start + _SENTENCES_PER_BATCH]
        batch = pad_batch(model, [rows[row] for row in some])
        activations = capture(model, batch, [dictionary.hook_point])[dictionary.hook_point]
        last = torch.tensor([len(rows[row]) - 1 for row in some], device=activations.device)
        ends = activations[torch.arange(len(some), device=last.device), last]
        found[some] = strongest_latents(dictionary.encode(ends.to(dictionary.device))).cpu()
    return found
