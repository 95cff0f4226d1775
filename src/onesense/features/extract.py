"""Extract: everything that can be said of each feature without asking anyone, into a run folder."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from onesense.engine.executor import Executor
from onesense.engine.stages import Silent, Stages
from onesense.errors import ConfigurationError
from onesense.features.contexts import Contexts, ContextSettings, collect_contexts_together
from onesense.features.decoder_rows import DecoderRows
from onesense.features.lens import LensDtype, LensStatistics, lens_statistics
from onesense.model.dtype import resolve_dtype
from onesense.model.language_model import LanguageModel
from onesense.model.tokens import describe_bos
from onesense.model.unembedding import unembedding
from onesense.sae.check import SelfCheck, self_check
from onesense.sae.dictionary import Dictionary
from onesense.store.atomic import write_json
from onesense.store.catalog import Catalog, FeatureRow
from onesense.store.provenance import provenance
from onesense.store.run_folder import RunFolder
from onesense.text.corpus import Document, read_documents, text_identity

LensConvention = Literal["folded", "raw"]
LENS = "lens"
_FEATURES_PER_WORD = 1_000  # how often progress of the catalogue is told


@dataclass(frozen=True, slots=True)
class ExtractSettings:
    """What is extracted, and how.

    Attributes:
        lens: ``folded``: final norm's gain folded in, centred over the vocabulary; ``raw``: as it is.
        lens_dtype: Of the product of decoder and unembedding.
        top_k: Tokens kept at each end of the lens.
        with_contexts: Whether to read text.
        text: See ``read_documents``; None for the packaged sample.
        text_field: Column that holds the text.
        dtype: Of the model while it reads text; ``auto`` is bfloat16 where the hardware has units for it.
        contexts: What is kept of the text.
        check: Whether to check the dictionary against the model first.
        force: Go on, and mark the run, where that check fails.
    """

    lens: LensConvention = "folded"
    lens_dtype: LensDtype = "float32"
    top_k: int = 10
    with_contexts: bool = True
    text: str | None = None
    text_field: str = "text"
    dtype: str = "auto"
    contexts: ContextSettings = field(default_factory=ContextSettings)
    check: bool = True
    force: bool = False

    def __post_init__(self) -> None:
        if self.lens not in get_args(LensConvention):
            raise ConfigurationError(f"`{self.lens}` is no lens convention.", hint="Choose folded or raw.")


@dataclass(frozen=True, slots=True, eq=False)
class Extraction:
    """What was extracted.

    Attributes:
        run: The run folder.
        lens: Logit-lens statistics of every feature.
        contexts: Where features fire; None where no text was read.
        sparsity: ``log10(firing frequency + 1e-10)``, [d_sae]; NaN where nobody knows.
        check: The self-check; None where it was left out.
        vocabulary: The tokenizer's strings by id.
    """

    run: RunFolder
    lens: LensStatistics
    contexts: Contexts | None
    sparsity: NDArray[np.float64]
    check: SelfCheck | None
    vocabulary: list[str]

    def records(self) -> Iterator[dict[str, Any]]:
        """One record for each feature, with the fields of the original project's JSON."""
        for feature in range(self.lens.n_features):
            yield {
                "feature": feature,
                "mean": _number(self.lens.mean[feature]),
                "std": _number(self.lens.std[feature]),
                "skewness": _number(self.lens.skewness[feature]),
                "kurtosis": _number(self.lens.kurtosis[feature]),
                "sparsity": _number(self.sparsity[feature]),
                "top_activated_words": " ".join(self.lens.words(feature, self.vocabulary)),
            }


def extract(
    model: LanguageModel,
    dictionary: Dictionary,
    run_folder: Path | str,
    settings: ExtractSettings | None = None,
    *,
    stages: Stages | None = None,
    executor: Executor | None = None,
) -> Extraction:
    """Extract every feature of a dictionary; see ``extract_together``."""
    return extract_together(model, [(dictionary, run_folder)], settings, stages=stages, executor=executor)[0]


def extract_together(
    model: LanguageModel,
    wanted: Sequence[tuple[Dictionary, Path | str]],
    settings: ExtractSettings | None = None,
    *,
    stages: Stages | None = None,
    executor: Executor | None = None,
) -> list[Extraction]:
    """Extract every feature of some dictionaries, reading the text once for all of them.

    An interrupted call goes on where it stopped and ends in the same bytes. What a dictionary gets does not depend
    on the others.

    Args:
        model: The model, in float32 where the lens is to be exact.
        wanted: Its dictionaries, each with the folder where results go; made if it does not exist.
        settings: What to extract.
        stages: Told about progress.
        executor: Where text is read; None: here. Results do not depend on it.

    Raises:
        ConfigurationError: Two dictionaries share a folder.
        SelfCheckError: A dictionary does not fit the model, and ``force`` is off.
        IncompatibleError: A folder holds another run.
        LockedError: Another process writes there.
        OnesenseError: See ``lens_statistics`` and ``collect_contexts_together``.
    """
    settings = settings or ExtractSettings()
    stages = stages or Silent()
    vocabulary = (
        model.vocabulary() if model.tokenizer is not None else [str(i) for i in range(model.vocab_size)]
    )
    if len({Path(folder).resolve() for _, folder in wanted}) < len(wanted):
        raise ConfigurationError(
            "Two dictionaries would write into one run folder.", hint="Give each dictionary once."
        )
    checks = [_check(model, dictionary, settings, stages) for dictionary, _ in wanted]
    runs = [
        _open_run(model, dictionary, folder, settings, check)
        for (dictionary, folder), check in zip(wanted, checks, strict=True)
    ]
    with ExitStack() as locks:
        for run in runs:
            locks.enter_context(run.lock())
        pairs = [(dictionary, run) for (dictionary, _), run in zip(wanted, runs, strict=True)]
        lenses = [_lens(model, dictionary, run, settings, stages) for dictionary, run in pairs]
        contexts: Sequence[Contexts | None] = [None] * len(pairs)
        if settings.with_contexts:
            contexts = _contexts(model, pairs, settings, stages, executor)
        extractions = [
            Extraction(run, lens, own, _sparsity(dictionary, own), check, vocabulary)
            for (dictionary, run), lens, own, check in zip(pairs, lenses, contexts, checks, strict=True)
        ]
        for extraction in extractions:
            _write_catalog(extraction, model, stages)
    return extractions


def _open_run(
    model: LanguageModel,
    dictionary: Dictionary,
    folder: Path | str,
    settings: ExtractSettings,
    check: SelfCheck | None,
) -> RunFolder:
    return RunFolder.create_or_resume(
        folder,
        command="extract",
        configuration=_configuration(model, dictionary, settings, check),
        provenance=provenance(
            model={"fingerprint": model.fingerprint, "name": model.name},
            dictionary={"fingerprint": dictionary.origin.fingerprint, "name": dictionary.origin.label},
            text=text_identity(settings.text) if settings.with_contexts else None,
            seeds=settings.contexts.seed,
        ),
    )


def write_original_json(extraction: Extraction, path: Path) -> None:
    """Write the table as the original project did: a list of records.

    Raises:
        StorageError: The file cannot be written.
    """
    write_json(path, list(extraction.records()), sort_keys=False)


def _check(
    model: LanguageModel, dictionary: Dictionary, settings: ExtractSettings, stages: Stages
) -> SelfCheck | None:
    if not settings.check or model.tokenizer is None:
        return None
    documents = read_documents(settings.text, field=settings.text_field) if settings.text else None
    with stages.stage("Checking the dictionary", "tokens"):
        return self_check(model, dictionary, documents, force=settings.force)


def _configuration(
    model: LanguageModel, dictionary: Dictionary, settings: ExtractSettings, check: SelfCheck | None
) -> dict[str, Any]:
    chosen = asdict(settings)
    for name in ("check", "force", "text", "contexts"):
        del chosen[name]
    return {
        **chosen,
        "contexts": asdict(settings.contexts) if settings.with_contexts else None,
        "model": model.name,
        "hook_point": dictionary.hook_point.name,
        "dictionary": dictionary.origin.label,
        "bos": describe_bos(model),
        "dtype": str(resolve_dtype(settings.dtype, model.device)).removeprefix("torch."),
        "self_check": "left out" if check is None else "passed" if check.passed else "failed, forced",
    }


def _lens(
    model: LanguageModel, dictionary: Dictionary, run: RunFolder, settings: ExtractSettings, stages: Stages
) -> LensStatistics:
    if run.has_result(LENS):
        return LensStatistics.from_tensors(run.read_result(LENS))
    with stages.stage("Logit lens", "features") as progress:
        statistics = lens_statistics(
            DecoderRows(dictionary),
            unembedding(model, convention=settings.lens),
            k=settings.top_k,
            dtype=settings.lens_dtype,
            progress=progress,
        )
    run.write_result(LENS, statistics.to_tensors(), {"convention": settings.lens})
    return statistics


def _contexts(
    model: LanguageModel,
    wanted: Sequence[tuple[Dictionary, RunFolder]],
    settings: ExtractSettings,
    stages: Stages,
    executor: Executor | None,
) -> list[Contexts]:
    reader = model.copy_as(resolve_dtype(settings.dtype, model.device))
    documents: Iterator[Document] = read_documents(settings.text, field=settings.text_field)
    with stages.stage(f"Contexts in {str(reader.dtype).removeprefix('torch.')}", "tokens") as progress:
        return collect_contexts_together(
            reader,
            wanted,
            documents,
            settings=settings.contexts,
            executor=executor,
            progress=progress,
        )


def _sparsity(dictionary: Dictionary, contexts: Contexts | None) -> NDArray[np.float64]:
    if dictionary.origin.sparsity is not None:
        return np.asarray(dictionary.origin.sparsity.double().cpu().numpy(), dtype=np.float64)
    if contexts is not None:
        return np.log10(contexts.density + 1e-10)
    return np.full(dictionary.d_sae, np.nan)


def _write_catalog(extraction: Extraction, model: LanguageModel, stages: Stages) -> None:
    lens, contexts = extraction.lens, extraction.contexts
    density = None if contexts is None else contexts.density
    spelled = (
        model.token_strings(range(model.vocab_size)) if model.tokenizer is not None else extraction.vocabulary
    )
    rows = (
        FeatureRow(
            feature,
            mean=float(lens.mean[feature]),
            std=float(lens.std[feature]),
            skewness=float(lens.skewness[feature]),
            kurtosis=float(lens.kurtosis[feature]),
            sparsity=float(extraction.sparsity[feature]),
            density=None if density is None else float(density[feature]),
            max_activation=None if contexts is None else float(contexts.maximum[feature]),
            top_tokens=[spelled[token] for token in lens.top_ids[feature]],
            bottom_tokens=[spelled[token] for token in lens.bottom_ids[feature]],
        )
        for feature in range(lens.n_features)
    )
    catalog = Catalog(extraction.run.catalog_path)
    with stages.stage("Catalogue", "features") as progress, closing(catalog):
        catalog.replace_features(_told(rows, progress, lens.n_features))


def _told(
    rows: Iterable[FeatureRow], progress: Callable[[int, int | None], None], total: int
) -> Iterator[FeatureRow]:
    for number, row in enumerate(rows):
        yield row
        if number % _FEATURES_PER_WORD == 0:
            progress(number, total)
    progress(total, total)


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
