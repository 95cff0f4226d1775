"""Explain every feature without a language model: the words it fires on, and those it promotes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onesense.errors import IncompatibleError
from onesense.explain.lexical_claims import Claim, View, ViewOfFeature, claims_of_view, effect
from onesense.explain.lexical_contexts import PLACES, PeakTokens, WordPlaces, read_peak_tokens
from onesense.explain.lexical_wording import sentence
from onesense.explain.lexical_words import Words
from onesense.features.enrichment import Enrichment, benjamini_hochberg, enrichment
from onesense.features.lens import LensStatistics
from onesense.features.word_sets import WordSet, load_word_sets, membership
from onesense.store.run_folder import RunFolder

_OPENING = 0.5
_NEIGHBOUR_SHARE, _NEIGHBOUR_EFFECT = 0.6, 1.0


@dataclass(frozen=True, slots=True)
class LexicalExplanation:
    """What is said of a feature without a language model.

    Attributes:
        feature: Id of the latent.
        text: One sentence.
        claims: What the sentence says, for machines; empty where nothing can be said.
        contexts: Contexts that it was made from.
    """

    feature: int
    text: str
    claims: tuple[Claim, ...]
    contexts: int


@dataclass(frozen=True, slots=True, eq=False)
class Lexicon:
    """Word sets over a vocabulary.

    Attributes:
        word_sets: The sets.
        members: Which tokens are in which sets, bool [n_sets, 2 * vocab], see ``membership``.
        words: The vocabulary's words.
        places: Tells a token from the same token within a word.
    """

    word_sets: tuple[WordSet, ...]
    members: NDArray[np.bool_]
    words: Words
    places: WordPlaces

    @classmethod
    def of(cls, texts: Sequence[str], word_sets: Sequence[WordSet] | None = None) -> Lexicon:
        """Sort a vocabulary into sets.

        Args:
            texts: The text of each token, leading space included: ``model.token_strings(range(vocab_size))``.
            word_sets: The sets; None for those that come with the package.
        """
        sets = tuple(load_word_sets() if word_sets is None else word_sets)
        return cls(sets, membership(sets, texts), Words(texts), WordPlaces(texts))

    @property
    def vocabulary_size(self) -> int:
        """Tokens of the vocabulary."""
        return self.places.vocabulary_size


def lexical_explanations(
    run: RunFolder, lexicon: Lexicon, *, documents: Callable[[int], bool] | None = None
) -> list[LexicalExplanation]:
    """Explain every feature of a run. The same run and sets give the same words.

    Args:
        run: What ``onesense extract`` wrote, with contexts or without.
        lexicon: Word sets over the model's vocabulary.
        documents: Whether the contexts of a document count, by its number; None for all.

    Raises:
        NotFoundError: The run has no lens.
        IncompatibleError: The run is of another vocabulary.
        FormatError: A file is damaged.
    """
    lens = LensStatistics.from_tensors(run.read_result("lens"))
    if lens.k and int(max(lens.top_ids.max(), lens.bottom_ids.max())) >= lexicon.vocabulary_size:
        raise IncompatibleError(
            f"{run.path} names tokens that are not among the {lexicon.vocabulary_size} of this vocabulary.",
            hint="Use the tokenizer of the model that the run was made with.",
        )
    peaks = None
    if run.has_result("stats"):
        peaks = read_peak_tokens(run, lens.n_features, lexicon.places, documents)
    return explain_tokens(lexicon, lens.top_ids, lens.bottom_ids, peaks)


def explain_top_words(
    top_words: Sequence[Sequence[str]], word_sets: Sequence[WordSet] | None = None
) -> list[LexicalExplanation]:
    """Explain features of which nothing is known but the tokens that they promote.

    The words of all features together stand in for the vocabulary.

    Args:
        top_words: For each feature the text of the promoted tokens, leading spaces included.
        word_sets: The sets; None for those that come with the package.
    """
    vocabulary = sorted({word for words in top_words for word in words})
    number = {word: at for at, word in enumerate(vocabulary)}
    ids = np.full((len(top_words), max(map(len, top_words), default=0)), -1, np.int64)
    for row, words in enumerate(top_words):
        distinct = list(dict.fromkeys(words))
        ids[row, : len(distinct)] = [number[word] for word in distinct]
    return explain_tokens(Lexicon.of(vocabulary, word_sets), ids)


def explain_tokens(
    lexicon: Lexicon,
    promoted: NDArray[Any],
    suppressed: NDArray[Any] | None = None,
    peaks: PeakTokens | None = None,
) -> list[LexicalExplanation]:
    """Explain features from the tokens that they promote, suppress and fire on.

    Args:
        lexicon: Word sets over the vocabulary.
        promoted: Token ids, the strongest first, [n_features, k]; ``NO_TOKEN`` where there is none.
        suppressed: The same of those suppressed; None where they are not known.
        peaks: Where the features fire; None where no text was read.
    """
    views = _views(lexicon, promoted, suppressed, peaks)
    q = benjamini_hochberg(np.stack([view.found.p for view in views]))
    claims: list[list[Claim]] = [[] for _ in range(len(promoted))]
    for view, of_view in zip(views, q, strict=True):
        for feature, claimed in enumerate(claims):
            if view.found.drawn[feature]:
                of_feature = view.of(feature, of_view)
                found = claims_of_view(of_feature, lexicon.members, lexicon.word_sets, lexicon.words)
                claimed += found if view.view not in PLACES or view.view == "peak" else _worth_it(found)
    if peaks is not None:
        _add_openings(claims, peaks)
    return [_explanation(feature, claimed, peaks) for feature, claimed in enumerate(claims)]


@dataclass(frozen=True, slots=True, eq=False)
class _View:
    """One view of all features."""

    view: View
    tokens: NDArray[np.int64]
    weight: NDArray[np.float64]
    found: Enrichment
    frequency: NDArray[np.float64]

    def of(self, feature: int, q: NDArray[np.float64]) -> ViewOfFeature:
        return ViewOfFeature(
            self.view,
            self.tokens[feature],
            self.weight[feature],
            self.found.hits[:, feature],
            q[:, feature],
            self.found.background,
            self.frequency,
        )


def _views(
    lexicon: Lexicon, promoted: NDArray[Any], suppressed: NDArray[Any] | None, peaks: PeakTokens | None
) -> list[_View]:
    views = []
    if peaks is not None:
        frequency = peaks.population / max(int(peaks.population.sum()), 1)
        for place in PLACES:
            found = enrichment(lexicon.members, peaks.tokens[place], peaks.population)
            weight = peaks.activation.astype(np.float64)
            views.append(_View(place, peaks.tokens[place], weight, found, frequency))
    once = np.repeat(np.array([1, 0], np.int64), lexicon.vocabulary_size)  # by themselves, not within words
    ends: tuple[tuple[View, NDArray[Any] | None], ...] = (("promoted", promoted), ("suppressed", suppressed))
    for view, ids in ends:
        if ids is not None:
            tokens = ids.astype(np.int64)
            weight = (tokens >= 0).astype(np.float64)
            views.append(
                _View(
                    view,
                    tokens,
                    weight,
                    enrichment(lexicon.members, tokens, once),
                    once / lexicon.vocabulary_size,
                )
            )
    return views


def _worth_it(claims: Sequence[Claim]) -> list[Claim]:
    """Claims about neighbours of the peak that say much: some word always stands there."""
    share, background = (sum(getattr(claim, name) for claim in claims) for name in ("share", "background"))
    much = share >= _NEIGHBOUR_SHARE and effect(np.array(share), np.array(background)) >= _NEIGHBOUR_EFFECT
    return list(claims) if much else []


def _add_openings(claims: Sequence[list[Claim]], peaks: PeakTokens) -> None:
    """Say of features that fire at the first token that they do; what that token is then says little."""
    total = np.maximum(peaks.activation.sum(axis=1, dtype=np.float64), 1e-12)
    share = (peaks.activation * peaks.opening).sum(axis=1, dtype=np.float64) / total
    background = float(peaks.opening.sum() / max(int((peaks.activation > 0).sum()), 1))
    for feature in np.flatnonzero(share >= _OPENING).tolist():
        claims[feature].append(Claim("opening", None, "", (), (), float(share[feature]), background))


def _explanation(feature: int, claimed: Sequence[Claim], peaks: PeakTokens | None) -> LexicalExplanation:
    contexts = None if peaks is None else int((peaks.activation[feature] > 0).sum())
    claims = tuple(claimed)
    return LexicalExplanation(feature, sentence(claims, contexts), claims, contexts or 0)
