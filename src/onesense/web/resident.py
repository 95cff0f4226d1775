"""Models, tokenizers and dictionaries that stay in memory between questions."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import TypeVar

from torch import Tensor

from onesense.debias.quick_audit import QuickAudit
from onesense.errors import IncompatibleError
from onesense.model.hook_points import HookPoint
from onesense.model.language_model import LanguageModel
from onesense.model.load import load_model, load_tokenizer
from onesense.model.unembedding import unembedding
from onesense.sae.dictionary import Dictionary
from onesense.sae.load import load_labelled
from onesense.steer.dose import measure_mean_norm
from onesense.web.workspace import KnownDictionary

_MODELS = 1
_DICTIONARIES = 6
_TOKENS = 2**17

Loaded = TypeVar("Loaded")


class TokenTexts:
    """The text of token ids, without the model.

    Args:
        name: The model.
    """

    def __init__(self, name: str) -> None:
        self._tokenizer = load_tokenizer(name)
        self._one = lru_cache(_TOKENS)(self._text)

    def strings(self, ids: Sequence[int]) -> list[str]:
        """The text of each token by itself."""
        return [self._one(int(token)) for token in ids]

    def _text(self, token: int) -> str:
        return str(self._tokenizer.decode([token], clean_up_tokenization_spaces=False))


class Resident:
    """Loads each thing once. May be asked by any thread; the model itself is for the work queue only.

    Args:
        device: Where models run.
    """

    def __init__(self, device: str = "auto") -> None:
        self._device = device
        # A lock for each kind: who wants the text of a token does not wait for a model that loads.
        self._locks: defaultdict[int, threading.RLock] = defaultdict(threading.RLock)
        self._models: dict[str, LanguageModel] = {}
        self._dictionaries: dict[str, Dictionary] = {}
        self._tokens: dict[str, TokenTexts] = {}
        self._quick_audit: QuickAudit | None = None
        self._unembeddings: dict[str, Tensor] = {}
        self._norms: dict[tuple[str, str], float] = {}

    def model(self, name: str) -> LanguageModel:
        """The model in float32; another one makes room first.

        Raises:
            OnesenseError: See ``load_model``.
        """
        return self._kept(
            self._models, name, _MODELS, lambda: load_model(name, dtype="float32", device=self._device)
        )

    def tokens(self, name: str) -> TokenTexts:
        """The text of a model's tokens; quick, also where the model is large.

        Raises:
            OnesenseError: See ``load_tokenizer``.
        """
        return self._kept(self._tokens, name, 4, lambda: TokenTexts(name))

    def dictionary(self, known: KnownDictionary) -> Dictionary:
        """The dictionary itself.

        Raises:
            IncompatibleError: Another dictionary lies there now.
            OnesenseError: See ``load_labelled``.
        """

        def load() -> Dictionary:
            loaded = load_labelled(known.label)
            if loaded.origin.fingerprint != known.fingerprint:
                raise IncompatibleError(
                    f"{known.label} is not the dictionary any more that the run was made with.",
                    hint="Put the old one back, or run `onesense extract` again.",
                )
            return loaded

        return self._kept(self._dictionaries, known.fingerprint, _DICTIONARIES, load)

    def unembedding(self, name: str) -> Tensor:
        """``W_U`` of a model as the lens uses it, [d_model, vocab_size]; loads the model.

        Raises:
            OnesenseError: See ``load_model`` and ``unembedding``.
        """
        return self._kept(self._unembeddings, name, _MODELS, lambda: unembedding(self.model(name)))

    def mean_norm(self, model: str, hook_point: str) -> float:
        """Mean norm of the activations at a hook point: what a dose is a share of. Runs the model once."""
        key = (model, hook_point)
        if key not in self._norms:
            self._norms[key] = measure_mean_norm(self.model(model), HookPoint.parse(hook_point))
        return self._norms[key]

    def quick_audit(self, model: str, start: int, told: Callable[[str], None]) -> QuickAudit:
        """The meter of hand-tuning, which stays until another model or an earlier block is asked for.

        Only for the work queue: it takes a while, and nothing else of this waits for it.

        Args:
            model: The model.
            start: The first block that an edit may change.
            told: Told what is done, where it is not done already.

        Raises:
            OnesenseError: See ``load_model`` and ``QuickAudit``.
        """
        kept = self._quick_audit
        if kept is None or kept.model is not self._models.get(model) or kept.start > start:
            self._quick_audit = None
            told("Loading the model")
            loaded = self.model(model)
            told("Measuring the unedited model, once")
            self._quick_audit = kept = QuickAudit(loaded, start)
        return kept

    def known_norm(self, model: str, hook_point: str) -> float | None:
        """The same where it was measured already; None where it was not."""
        return self._norms.get((model, hook_point))

    def _kept(self, kept: dict[str, Loaded], key: str, most: int, load: Callable[[], Loaded]) -> Loaded:
        """What is in memory, or loaded now; what was used longest ago goes."""
        with self._locks[id(kept)]:
            if key in kept:
                kept[key] = kept.pop(key)
                return kept[key]
            while len(kept) >= most:
                del kept[next(iter(kept))]
            kept[key] = load()
            return kept[key]
