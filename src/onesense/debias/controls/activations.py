"""Activations of texts about women and about men, in pairs: what linear erasures are fitted on.

Two kinds of positions are read in each text: the last token of every word that differs between the two texts
(“mother” / “father”, “her” / “his”), and the last token of the text, from which the next word is predicted.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice

import torch
from torch import Tensor

from onesense.bias.benchmarks.gender_facts import Fact
from onesense.bias.scoring.batch import row_batches, tree_batches
from onesense.bias.scoring.encoded import Encoded
from onesense.bias.scoring.layout import layout_of
from onesense.bias.scoring.passes import read_points
from onesense.debias.controls.text_pairs import TextPair, fact_pairs
from onesense.errors import ConfigurationError, IncompatibleError, NumericalError
from onesense.model.capture import capture
from onesense.model.hook_points import HookPoint
from onesense.model.language_model import LanguageModel
from onesense.model.tokens import encode_texts
from onesense.sae.activations import usable_positions
from onesense.text.corpus import Document
from onesense.text.windows import batch_windows, iter_windows

_TOKENS_PER_PASS = 512
_WINDOWS_PER_BATCH = 8


@dataclass(frozen=True, slots=True, eq=False)
class LabelledActivations:
    """Activations at one hook point, row by row of a text about a woman and of its twin about a man.

    Attributes:
        point: Where they were read.
        model_name: Of which model.
        women: float32 [pairs, width].
        men: float32 [pairs, width].
        families: For each pair what must not be cut when some are held back, [pairs].

    Raises:
        IncompatibleError: The shapes disagree.
        ConfigurationError: There are fewer than two pairs.
        NumericalError: NaN or infinity.
    """

    point: HookPoint
    model_name: str
    women: Tensor
    men: Tensor
    families: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.women.ndim != 2 or self.women.shape != self.men.shape:
            raise IncompatibleError(
                f"Activations of women have shape {list(self.women.shape)}, of men {list(self.men.shape)}.",
                hint="They come in pairs: both are [pairs, width].",
            )
        if len(self.families) != len(self.women):
            raise IncompatibleError(
                f"There are {len(self.women)} pairs and {len(self.families)} families.",
                hint="Name one family for each pair.",
            )
        if len(self.women) < 2:
            raise ConfigurationError(
                f"{len(self.women)} pairs are too few to fit an erasure on.", hint="Give two at least."
            )
        if not bool(self.women.isfinite().all() and self.men.isfinite().all()):
            raise NumericalError(
                f"The activations of `{self.model_name}` at {self.point} are NaN or infinite.",
                hint="Load the model in float32 or bfloat16.",
            )

    @property
    def values(self) -> Tensor:
        """All activations, those of women first, float32 [2 * pairs, width]."""
        return torch.cat([self.women, self.men])

    @property
    def labels(self) -> Tensor:
        """1 for a woman, 0 for a man, long [2 * pairs]."""
        ones = torch.ones(len(self.women), dtype=torch.long)
        return torch.cat([ones, torch.zeros_like(ones)])

    @property
    def mean(self) -> Tensor:
        """Mean of all activations, float32 [width]."""
        return self.values.double().mean(0).float()


def labelled_activations(
    model: LanguageModel,
    points: Sequence[HookPoint],
    facts: Sequence[Fact],
    *,
    sentences: Sequence[TextPair] = (),
) -> dict[HookPoint, LabelledActivations]:
    """Activations at several hook points on gender facts and on swapped sentences, from one pass over them.

    Args:
        model: The model.
        points: Where to read.
        facts: Gender facts of the tune split.
        sentences: Further pairs of texts (see ``swapped_sentences``).

    Raises:
        ConfigurationError: A fact is held out, or there are too few pairs.
        HookPointError: A hook point does not exist in this model.
        NumericalError: An activation is NaN or infinite.
    """
    return activations_of_pairs(model, points, [*fact_pairs(facts), *sentences])


def activations_of_pairs(
    model: LanguageModel, points: Sequence[HookPoint], pairs: Sequence[TextPair]
) -> dict[HookPoint, LabelledActivations]:
    """Activations at several hook points on pairs of texts.

    Pairs longer than the model's context, and those whose texts do not differ word by word, are left out.

    Args:
        model: The model.
        points: Where to read.
        pairs: The pairs; their order is kept.

    Raises:
        ConfigurationError: There are too few pairs.
        HookPointError: A hook point does not exist in this model.
        NumericalError: An activation is NaN or infinite.
    """
    texts = [text for pair in pairs for text in (pair.woman, pair.man)]
    ends = [_ends(pair, side) for pair in pairs for side in (0, 1)]
    ids = encode_texts(model, texts)
    places = _places(model, texts, ids, ends)
    used = [
        number
        for number in range(len(pairs))
        if ends[2 * number] and max(len(ids[2 * number]), len(ids[2 * number + 1])) <= model.max_context
    ]
    # A last word that differs is the last token too: it counts once, in both texts or in neither.
    for number in used:
        woman, man = places[2 * number], places[2 * number + 1]
        if woman[-1] == woman[-2] and man[-1] == man[-2]:
            del woman[-1], man[-1]
    rows = [row for number in used for row in (2 * number, 2 * number + 1)]
    found = _read(model, points, [ids[row] for row in rows], [places[row] for row in rows])
    families = tuple(pairs[number].family for number in used for _ in places[2 * number])
    return {
        point: LabelledActivations(
            point,
            model.name,
            torch.cat(values[0::2]) if values else torch.empty(0, model.resolve(point).width),
            torch.cat(values[1::2]) if values else torch.empty(0, model.resolve(point).width),
            families,
        )
        for point, values in found.items()
    }


def mean_activations(
    model: LanguageModel,
    points: Sequence[HookPoint],
    documents: Iterable[Document],
    *,
    tokens: int = 4000,
    context_size: int = 128,
) -> dict[HookPoint, Tensor]:
    """Mean activation at several hook points, which a basis subtracts before it reads.

    Special tokens and outliers (norm over five times the median) do not count.

    Args:
        model: The model.
        points: Where to read.
        documents: Text.
        tokens: How many tokens to look at, at least.
        context_size: Length of a window, in tokens.

    Returns:
        For each hook point float32 [width].

    Raises:
        ConfigurationError: The text holds no token.
        HookPointError: A hook point does not exist in this model.
    """
    windows = iter_windows(model, documents, context_size=min(context_size, model.max_context))
    sums = {point: torch.zeros(model.resolve(point).width, dtype=torch.float64) for point in points}
    counts = dict.fromkeys(points, 0)
    seen = 0
    while seen < tokens and (some := list(islice(windows, _WINDOWS_PER_BATCH))):
        batch = batch_windows(model, some)
        seen += int(batch.content.sum())
        for point, activations in capture(model, batch, points).items():
            usable = usable_positions(activations, batch.content)
            sums[point] += activations[usable].to("cpu", torch.float32).double().sum(0)
            counts[point] += int(usable.sum())
    if not seen:
        raise ConfigurationError("The text to take the mean over holds no token.", hint="Give a longer text.")
    return {point: (sums[point] / counts[point]).float() for point in points}


def _ends(pair: TextPair, side: int) -> list[int]:
    return [ends[side] for ends in pair.words_apart]


def _places(
    model: LanguageModel, texts: Sequence[str], ids: Sequence[list[int]], ends: Sequence[list[int]]
) -> list[list[int]]:
    """For each text the index of the token in which each word ends, and of its last token."""
    starts = [text[:end] for text, of_text in zip(texts, ends, strict=True) for end in of_text]
    encoded = iter(encode_texts(model, starts) if starts else [])
    return [
        [*(_last_of(next(encoded), whole) for _ in of_text), len(whole) - 1]
        for whole, of_text in zip(ids, ends, strict=True)
    ]


def _last_of(beginning: Sequence[int], whole: Sequence[int]) -> int:
    """The index of the token of a text in which its beginning ends."""
    pairs = enumerate(zip(beginning, whole, strict=False))
    # Where a token reaches over the end of the beginning, it is the first that differs.
    return next((index for index, (one, other) in pairs if one != other), len(beginning) - 1)


def _read(
    model: LanguageModel,
    points: Sequence[HookPoint],
    rows: Sequence[list[int]],
    places: Sequence[list[int]],
) -> dict[HookPoint, list[Tensor]]:
    """For each hook point and row the activations at its places, [places, width]; rows that begin alike share them."""
    # The last id of a scored text is never run, so a token stands there in its place.
    texts = {row: Encoded((*ids, ids[-1]), 1) for row, ids in enumerate(rows)}
    layout = layout_of(model)
    longest = max((len(text.ids) for text in texts.values()), default=0)
    tree = layout.trees and longest <= layout.longest_tree
    found: dict[HookPoint, list[Tensor]] = {point: [torch.empty(0)] * len(rows) for point in points}
    for batch in tree_batches(texts, _TOKENS_PER_PASS) if tree else row_batches(texts, _TOKENS_PER_PASS):
        activations = read_points(model, batch, points)
        nodes = [(span.text, batch.nodes_to(span)[places[span.text]]) for span in batch.spans]
        for point, values in activations.items():
            flat = values.to("cpu", torch.float32).flatten(0, 1)
            for row, chosen in nodes:
                found[point][row] = flat[torch.from_numpy(chosen)]
    return found
