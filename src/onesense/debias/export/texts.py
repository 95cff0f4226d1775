"""The text that an export is fitted to and measured on: three parts that share no document."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Annotated

from pydantic import Field

from onesense.bias.benchmark import Split
from onesense.bias.benchmarks.gender_facts import load_facts
from onesense.bias.benchmarks.occupations import load_occupations, load_templates
from onesense.errors import ConfigurationError
from onesense.model.language_model import LanguageModel
from onesense.model.tokens import TokenBatch, encode_texts, pad_batch
from onesense.steer.checked import Checked
from onesense.text.corpus import read_documents
from onesense.text.windows import Window, batch_windows, iter_windows

_PARTS = 10
_LEAST_TOKENS = 2


class TextSettings(Checked):
    """Which text, and how much of it.

    Attributes:
        source: See ``onesense.text.corpus.read_documents``; None for the packaged sample.
        field: The column that holds the text, where there are columns.
        context_size: Length of a window in tokens, its BOS counted.
        fit_windows: Windows to fit to, at most.
        validation_windows: Windows that choose the checkpoint, at most.
        measured_windows: Windows that the KL is measured on, at most; nothing is fitted or chosen by them.
    """

    source: str | None = None
    field: str = "text"
    context_size: Annotated[int, Field(ge=2)] = 64
    fit_windows: Annotated[int, Field(ge=1)] = 512
    validation_windows: Annotated[int, Field(ge=1)] = 12
    measured_windows: Annotated[int, Field(ge=1)] = 32


@dataclass(frozen=True, slots=True)
class ExportText:
    """Batches of text.

    Attributes:
        fit: What is fitted to.
        validation: What chooses the checkpoint.
        measured: What the KL is measured on.
    """

    fit: list[TokenBatch]
    validation: list[TokenBatch]
    measured: list[TokenBatch]


def default_prompts() -> list[str]:
    """Where edits against gender bias act most: occupations and gender facts of the tuning split."""
    templates = load_templates()
    occupations = [
        template.filled(occupation.name)
        for occupation in load_occupations(Split.TUNE)
        for template in templates
    ]
    return [*occupations, *(fact.prompt for fact in load_facts(Split.TUNE))]


def read_text(model: LanguageModel, settings: TextSettings, *, rows: int) -> ExportText:
    """Cut a text into windows and these into three parts: of ten documents eight, one and one.

    Args:
        model: Whose tokenizer and BOS.
        settings: Which text.
        rows: Windows of a batch.

    Raises:
        ConfigurationError: The text is too short for three parts, or a window does not fit the model.
        NotFoundError, FormatError, NetworkError: The text cannot be read.
    """
    size = min(settings.context_size, model.max_context)
    wanted = {0: settings.fit_windows, 1: settings.validation_windows, 2: settings.measured_windows}
    # About an eighth of what is fitted to lies in each of the other parts.
    enough = 2 * sum(wanted.values()) + 10 * (wanted[1] + wanted[2])
    documents = read_documents(settings.source, field=settings.field)
    windows = [
        window
        for window in islice(iter_windows(model, documents, context_size=size), enough)
        if len(window.ids) >= min(_LEAST_TOKENS, size - 1)
    ]
    by_document = len({window.document for window in windows}) >= _PARTS
    parts: dict[int, list[Window]] = {0: [], 1: [], 2: []}
    for number, window in enumerate(windows):
        part = _part(window.document if by_document else number)
        if len(parts[part]) < wanted[part]:
            parts[part].append(window)
    if not all(parts.values()):
        raise ConfigurationError(
            f"The text has {len(windows)} windows of {size} tokens, too few to fit to and to measure on.",
            hint=f"Give a text of {_PARTS} documents, or of {_PARTS} windows, at least (--text).",
        )
    fit, validation, measured = (_batches(model, parts[part], rows) for part in (0, 1, 2))
    return ExportText(fit, validation, measured)


def read_prompts(model: LanguageModel, prompts: Sequence[str], *, rows: int) -> ExportText:
    """Cut prompts into the same three parts; prompts of like length share a batch.

    Raises:
        ConfigurationError: There are prompts, but fewer than ten.
    """
    unique = list(dict.fromkeys(prompt for prompt in prompts if prompt.strip()))
    if not unique:
        return ExportText([], [], [])
    if len(unique) < _PARTS:
        raise ConfigurationError(
            f"{len(unique)} prompts are too few to fit to and to measure on.",
            hint=f"Give {_PARTS} at least, or none.",
        )
    ids = [one[: model.max_context] for one in encode_texts(model, unique)]
    parts: dict[int, list[list[int]]] = {0: [], 1: [], 2: []}
    for number, one in enumerate(ids):
        parts[_part(number)].append(one)
    batches = []
    for part in (0, 1, 2):
        ordered = sorted(parts[part], key=len)
        batches.append([pad_batch(model, ordered[at : at + rows]) for at in range(0, len(ordered), rows)])
    return ExportText(*batches)


def _part(number: int) -> int:
    return max(0, number % _PARTS - (_PARTS - 3))


def _batches(model: LanguageModel, windows: Sequence[Window], rows: int) -> list[TokenBatch]:
    return [batch_windows(model, windows[at : at + rows]) for at in range(0, len(windows), rows)]
