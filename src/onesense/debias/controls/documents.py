"""Text that no audit is scored on."""

from __future__ import annotations

from onesense.bias.benchmarks.kl import KlDivergence
from onesense.bias.benchmarks.sampling import evenly_spaced
from onesense.bias.scoring.requests import Request
from onesense.bias.scoring.scorer import ModelScorer
from onesense.bias.suites import SUITES, suite
from onesense.errors import ConfigurationError
from onesense.model.language_model import LanguageModel
from onesense.text.corpus import Document, read_documents

_SHORTEST = 400
_CHARACTERS_OF_A_TOKEN = 12


def documents_outside_audits(model: LanguageModel, source: str | None = None) -> list[Document]:
    """The documents of a text that the KL benchmark takes in no suite.

    Args:
        model: The model; its tokenizer cuts the passages.
        source: A text (see ``onesense.text.corpus.read_documents``); None for the packaged sample.

    Raises:
        NotFoundError, FormatError: The text cannot be read.
    """
    scorer = ModelScorer(model)
    sizes = {
        (one.passages, one.tokens) for name in SUITES for one in suite(name) if isinstance(one, KlDivergence)
    }
    taken = {
        item.id
        for passages, tokens in sorted(sizes)
        for item in KlDivergence(passages, tokens, source).items(scorer)
    }
    return [one for one in read_documents(source) if f"document {one.index}" not in taken]


def calibration_requests(
    model: LanguageModel, *, passages: int = 32, tokens: int = 64, source: str | None = None
) -> list[Request]:
    """Passages on which KL is measured and brought to a target; no audit is scored and nothing is tuned on them.

    Args:
        model: The model; its tokenizer cuts the passages.
        passages: How many, evenly spaced over the documents that are left.
        tokens: Longest passage in tokens, without BOS.
        source: A text; None for the packaged sample.

    Raises:
        ConfigurationError: No document is left that is long enough, or sizes below 1.
        NotFoundError, FormatError: The text cannot be read.
    """
    return _passages(model, passages, tokens, source, first=1)


def fitting_requests(
    model: LanguageModel, *, passages: int, tokens: int, source: str | None = None
) -> list[Request]:
    """Passages to find and tune on: every other document, and none of ``calibration_requests`` or an audit.

    Args:
        model: The model; its tokenizer cuts the passages.
        passages: How many, evenly spaced over the documents that are left.
        tokens: Longest passage in tokens, without BOS.
        source: A text; None for the packaged sample.

    Raises:
        ConfigurationError: No document is left that is long enough, or sizes below 1.
        NotFoundError, FormatError: The text cannot be read.
    """
    return _passages(model, passages, tokens, source, first=0)


def fitting_documents(model: LanguageModel, *, documents: int, source: str | None = None) -> list[Document]:
    """The documents from which ``fitting_requests`` takes its passages.

    Args:
        model: The model.
        documents: How many at most, evenly spaced over those that are left.
        source: A text; None for the packaged sample.

    Raises:
        ConfigurationError: No document is left that is long enough.
        NotFoundError, FormatError: The text cannot be read.
    """
    left = _documents(model, source, first=0)
    return [left[number] for number in evenly_spaced(len(left), documents)]


def _documents(model: LanguageModel, source: str | None, *, first: int) -> list[Document]:
    """Every other document that is long enough and that no audit takes."""
    every = [one for one in documents_outside_audits(model, source) if len(one.text) >= _SHORTEST]
    documents = every[first::2]
    if not documents:
        raise ConfigurationError(
            f"The KL benchmark takes every document of {_SHORTEST} characters or more: none is left to "
            "compare on.",
            hint="Give a longer text.",
        )
    return documents


def _passages(
    model: LanguageModel, passages: int, tokens: int, source: str | None, *, first: int
) -> list[Request]:
    size = min(tokens, model.max_context - 1)
    if size < 1:
        raise ConfigurationError(f"Passages of {size} tokens are too short.", hint="Take at least 1.")
    documents = _documents(model, source, first=first)
    scorer = ModelScorer(model)
    requests = []
    for number in evenly_spaced(len(documents), passages):
        beginning = documents[number].text[: _CHARACTERS_OF_A_TOKEN * size]
        requests.append(Request(beginning, ids=tuple(scorer.token_ids(beginning)[:size])))
    return requests
