"""A small vocabulary and run folders whose features fire where the test says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from onesense.explain.lexical import Lexicon
from onesense.features.context_store import FEATURES_PER_BLOCK, block_name
from onesense.features.lens import LensStatistics
from onesense.store.run_folder import RunFolder

WIDTH = 8
FILLER = [f" blorp{number}x" for number in range(600)]
WORDS = [
    *(" she", " her", " herself", "She", " he", " him", " his", " himself"),
    *(" mother", " daughter", " sister", " aunt", " wife", " father"),
    *(" the", " a", " an", ",", ".", "\n", " ", "her", "�", "\u202e"),
    *(" garden", " gardens", " kitchen", " love", " loved", " loves", " loving"),
    *(" Monday", " Tuesday", " Friday", " moth"),
    *FILLER,
]
IDS = {word: number for number, word in enumerate(WORDS)}
LEXICON = Lexicon.of(WORDS)


@dataclass(frozen=True)
class Firing:
    """A place where a feature fires: three words before it, itself, and words after it."""

    tokens: tuple[str, ...]
    peak: int
    activation: float = 1.0
    document: int = 0


def fires(
    word: str, n: int, *, before: str = "", activation: float = 1.0, document: int | None = None
) -> list[Firing]:
    """``n`` places, each in another document unless one is given, among filler words."""
    made = []
    generator = np.random.default_rng(IDS[word])
    for number in range(n):
        filler = [FILLER[at] for at in generator.integers(0, 60, 6)]
        if before:
            filler[2] = before
        where = 100 + number if document is None else document
        made.append(Firing((*filler[:3], word, *filler[3:]), 3, activation, where))
    return made


def write_run(
    path: Path,
    firings: Sequence[Sequence[Firing]],
    promoted: Sequence[Sequence[str]] | None = None,
    suppressed: Sequence[Sequence[str]] | None = None,
) -> RunFolder:
    """A run folder as ``onesense extract`` writes it; the first three firings also stand among the strongest."""
    run = RunFolder.create_or_resume(path, command="extract", configuration={}, provenance={})
    n, most = len(firings), max(len(one) for one in firings)
    lens = LensStatistics.empty(n, 10)
    for name, words in (("top_ids", promoted), ("bottom_ids", suppressed)):
        ids = getattr(lens, name)
        for feature in range(n):
            own = [] if words is None else [IDS[word] for word in words[feature]]
            ids[feature] = [*own, *(IDS[FILLER[at]] for at in range(10 - len(own)))]
    with run.lock():
        run.write_result("lens", lens.to_tensors())
        for block in range(0, n, FEATURES_PER_BLOCK):
            part = firings[block : block + FEATURES_PER_BLOCK]
            arrays = {f"sample_{name}": array[:, None] for name, array in _arrays(part, most).items()}
            arrays |= {f"top_{name}": array for name, array in _arrays([one[:3] for one in part], 3).items()}
            run.write_result(block_name(block // FEATURES_PER_BLOCK), arrays)
        run.write_result("stats", {"count": np.array([len(one) for one in firings])})
    return run


def _arrays(firings: Sequence[Sequence[Firing]], slots: int) -> dict[str, np.ndarray]:
    shape = (len(firings), slots)
    arrays = {
        "tokens": np.full((*shape, WIDTH), 2**16 - 1, np.uint16),
        "length": np.zeros(shape, np.uint16),
        "peak": np.zeros(shape, np.uint16),
        "activation": np.zeros(shape, np.float32),
        "document": np.zeros(shape, np.uint32),
        "position": np.zeros(shape, np.uint32),
    }
    for row, places in enumerate(firings):
        for slot, place in enumerate(places):
            arrays["tokens"][row, slot, : len(place.tokens)] = [IDS[token] for token in place.tokens]
            arrays["length"][row, slot] = len(place.tokens)
            arrays["peak"][row, slot] = place.peak
            arrays["activation"][row, slot] = place.activation
            arrays["document"][row, slot] = place.document
            arrays["position"][row, slot] = slot * 50
    return arrays
