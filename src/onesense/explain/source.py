"""Where the evidence of features comes from: a run of ``onesense extract``, or the original project's table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import torch

from onesense.engine.executor import Executor
from onesense.engine.stages import Stages
from onesense.errors import ConfigurationError, IncompatibleError
from onesense.explain.evidence import EvidenceReader, FeatureEvidence, is_train
from onesense.explain.lexical import (
    LexicalExplanation,
    Lexicon,
    explain_top_words,
    lexical_explanations,
)
from onesense.explain.llm import evidence_of_words
from onesense.explain.negative_pool import PoolSettings
from onesense.explain.negatives import Negatives, collect_negatives
from onesense.explain.sense_evidence import SenseEvidenceReader
from onesense.explain.table import COMMAND as FROM_TABLE
from onesense.explain.table import read_table, run_from_table
from onesense.features.context_store import STATISTICS
from onesense.features.word_sets import load_word_sets
from onesense.model.language_model import LanguageModel
from onesense.model.load import load_model
from onesense.sae.load import load_labelled
from onesense.store.catalog import Catalog
from onesense.store.run_folder import RUN_FILE, RunFolder
from onesense.text.corpus import read_documents, text_identity

_EXTRACT = "extract"
_DEFAULT_CONTEXT_SIZE = 128


class RunSource:
    """A run of ``onesense extract``.

    Args:
        run: The run.
        word_sets: Files of the user's own.
        seed: Of the division of documents into those for explaining and those for scoring.
        device: Where the model runs.
        device_map: How it is spread over several devices, or None.
    """

    def __init__(
        self, run: RunFolder, word_sets: Sequence[Path], seed: int, device: str, device_map: str | None = None
    ) -> None:
        self.run = run
        self.seed = seed
        self._word_sets = tuple(word_sets)
        self._device, self._device_map = device, device_map
        self._reader: EvidenceReader | None = None

    @cached_property
    def model(self) -> LanguageModel:
        """The model whose features are explained."""
        name = str(self.run.configuration["model"])
        return load_model(name, dtype="float32", device=self._device, device_map=self._device_map)

    @cached_property
    def lexicon(self) -> Lexicon:
        """Word sets over the model's vocabulary."""
        texts = self.model.token_strings(range(self.model.vocab_size))
        return Lexicon.of(texts, load_word_sets(self._word_sets))

    @property
    def reader(self) -> EvidenceReader:
        """Evidence of the features."""
        if self._reader is None:
            self._reader = EvidenceReader(self.run, self.model, self.seed)
        return self._reader

    def count_tokens(self, text: str) -> int:
        """Tokens of a text, by the tokenizer of the model that is explained."""
        return len(self.model.require_tokenizer()(text, add_special_tokens=False)["input_ids"])

    def describe(self) -> str:
        """What it is, for people."""
        return f"{self.run.configuration['hook_point']} of {self.run.configuration['model']}"

    def evidence(self, feature: int) -> FeatureEvidence:
        """What is known of one feature."""
        return self.reader.evidence(feature)

    def lexical(self, features: Sequence[int]) -> dict[int, LexicalExplanation]:
        """What word sets say of some features; contexts for scoring are not looked at."""
        found = lexical_explanations(
            self.run, self.lexicon, documents=lambda document: is_train(document, self.seed)
        )
        return {feature: found[feature] for feature in features}

    def senses(self, folder: Path) -> SenseEvidenceReader:
        """Evidence of the senses that a run of ``onesense senses measure`` found.

        Raises:
            IncompatibleError: They are of another dictionary.
            NotFoundError: There is no such run.
        """
        measured = RunFolder.open(folder)
        # The same dictionary may be called by its release or by its folder: its numbers decide.
        own, other = (
            one.provenance.get("inputs", {}).get("dictionary", {}).get("fingerprint")
            for one in (self.run, measured)
        )
        if own is None or own != other:
            raise IncompatibleError(
                f"{folder} measured the senses of another dictionary than {self.run.path} is of.",
                hint="Give the run of `onesense senses measure` of the same dictionary.",
            )
        return SenseEvidenceReader(measured, self.model, self.seed)

    def negatives(self, text: str | None, stages: Stages, executor: Executor | None = None) -> Negatives:
        """Texts in which features do not fire; read once and kept in the run.

        Args:
            text: The text of the run; None for the packaged sample.
            stages: Told about progress.
            executor: Where they are read; None: here.

        Raises:
            IncompatibleError: It is another text.
        """
        known = self.run.provenance["inputs"].get("text")
        if known != text_identity(text):
            raise IncompatibleError(
                f"The contexts of {self.run.path} come from another text.",
                hint="Give the same --text as to `onesense extract`.",
            )
        dictionary = load_labelled(str(self.run.configuration["dictionary"]))
        stored = self.run.configuration["contexts"]
        size = stored["context_size"] or min(
            dictionary.origin.context_size or _DEFAULT_CONTEXT_SIZE, self.model.max_context
        )
        dtype = getattr(torch, str(self.run.configuration["dtype"]))
        field = str(self.run.configuration["text_field"])
        return collect_negatives(
            self.model.copy_as(dtype),
            dictionary,
            read_documents(text, field=field),
            self.run,
            pieces=self.reader.pieces,
            settings=PoolSettings(context_size=size, width=stored["width"], seed=self.seed),
            stages=stages,
            executor=executor,
        )


class TableSource:
    """A run that was begun from the original project's JSON: tokens are all that is known.

    Args:
        run: The run.
        word_sets: Files of the user's own.
    """

    def __init__(self, run: RunFolder, word_sets: Sequence[Path]) -> None:
        self.run = run
        self.count_tokens = None
        self._word_sets = tuple(word_sets)
        self._catalog = Catalog(run.catalog_path, read_only=True)

    def describe(self) -> str:
        """What it is, for people."""
        return "A table of features without contexts"

    def evidence(self, feature: int) -> FeatureEvidence:
        """What is known of one feature."""
        return evidence_of_words(feature, self._catalog.feature(feature).top_tokens)

    def lexical(self, features: Sequence[int]) -> dict[int, LexicalExplanation]:
        """What word sets say of some features."""
        # What is usual for a feature only all features of the table tell, whichever are asked for.
        every = [int(row[0]) for row in self._catalog.rows("SELECT feature FROM features ORDER BY feature")]
        words = [self._catalog.feature(feature).top_tokens for feature in every]
        found = dict(zip(every, explain_top_words(words, load_word_sets(self._word_sets)), strict=True))
        return {feature: replace(found[feature], feature=feature) for feature in features}


def open_source(
    folder: Path | None,
    table: Path | None,
    *,
    word_sets: Sequence[Path],
    seed: int,
    device: str,
    device_map: str | None = None,
    default: Path,
) -> RunSource | TableSource:
    """The run whose features are explained.

    Args:
        folder: A run of ``onesense extract``, or where the run of a table goes.
        table: The original project's JSON.
        word_sets: Files of the user's own.
        seed: Of the division of documents.
        device: Where a model runs.
        device_map: How it is spread over several devices, or None.
        default: Where the run of a table goes without a folder.

    Raises:
        ConfigurationError: Neither a run nor a table.
        NotFoundError: There is no such run or table.
        IncompatibleError: The folder holds a run of something else.
    """
    if folder is not None and (folder / RUN_FILE).exists():
        run = RunFolder.open(folder)
        if run.command == _EXTRACT:
            return RunSource(run, word_sets, seed, device, device_map)
        if run.command != FROM_TABLE:
            raise IncompatibleError(
                f"{folder} was made by `onesense {run.command}`.",
                hint="Give the folder that `onesense extract` wrote.",
            )
        if table is None:
            return TableSource(run, word_sets)
    if table is None:
        raise ConfigurationError(
            "There is nothing to explain.",
            hint="Give --run-folder (what `onesense extract` wrote), or --input-file (its JSON).",
        )
    return TableSource(run_from_table(read_table(table), folder or default), word_sets)


def with_contexts(source: RunSource | TableSource) -> RunSource:
    """The source, where it has contexts: scores and senses need them.

    Raises:
        ConfigurationError: It has none.
    """
    if isinstance(source, RunSource) and source.run.has_result(STATISTICS):
        return source
    raise ConfigurationError(
        f"{source.run.path} has no contexts: there is nothing to score, and there are no senses.",
        hint="Give the folder that `onesense extract` wrote with contexts, with --run-folder.",
    )


def listed_features(table: Path) -> list[int]:
    """Ids of the features in a table.

    Raises:
        NotFoundError, FormatError: See ``read_table``.
    """
    return [row.feature for row in read_table(table)]


def texts_of(explanations: Mapping[int, LexicalExplanation]) -> dict[int, str]:
    """Their texts."""
    return {feature: one.text for feature, one in explanations.items()}
