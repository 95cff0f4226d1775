"""The published measures of monosemanticity of one dictionary, side by side."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from onesense.engine.stages import Silent, Stages
from onesense.errors import ConfigurationError
from onesense.model.language_model import LanguageModel
from onesense.senses.activity import firing_rates
from onesense.senses.field_metrics.cosines import DecoderCosines, decoder_cosines
from onesense.senses.field_metrics.estimate import Estimate
from onesense.senses.field_metrics.meta_dictionary import MetaExplained, MetaSettings, meta_dictionary
from onesense.senses.field_metrics.monosemanticity import MonosemanticityScore, feature_monosemanticity_score
from onesense.senses.field_metrics.probing import SparseProbe, sparse_probing
from onesense.senses.field_metrics.ps_eval import PolysemyScore, ps_eval_of
from onesense.senses.field_metrics.text_activations import Pooling, text_activations
from onesense.senses.field_metrics.word_pairs import WordPair
from onesense.text.corpus import read_documents
from onesense.text.windows import iter_windows

if TYPE_CHECKING:
    from onesense.sae.dictionary import Dictionary

FMS, PROBING, DECODER_COSINE, META, PS_EVAL = "fms", "probing", "decoder-cosine", "meta", "ps-eval"
METRICS = (FMS, PROBING, DECODER_COSINE, META, PS_EVAL)

_CONTEXT_SIZE = 128
_SILENT_FREQUENCY = 1e-9  # a release adds 1e-10 to a frequency before it takes the logarithm
_NEAR_COPY = 0.7


class LabelledTexts(NamedTuple):
    """Texts that tell whether a concept is there.

    Attributes:
        concept: Its name, for people.
        texts: The texts.
        labels: Whether it is there, one for each text.
        documents: What must not be cut when texts are divided into those fitted on and those scored.
    """

    concept: str
    texts: Sequence[str]
    labels: Sequence[bool]
    documents: Sequence[str]


@dataclass(frozen=True, slots=True)
class FieldSettings:
    """What is measured, and how.

    Attributes:
        metrics: Some of ``METRICS``.
        pooling: How the tokens of a labelled text become one row.
        tokens: Of the text that tells which features are live, where the release does not.
        text: That text; see ``read_documents``.
        text_field: Column that holds it.
        draws: Bootstrap draws of the intervals.
        seed: Of folds, of the meta dictionary, and of the draws.

    Raises:
        ConfigurationError: No metric, an unknown one, or too little text.
    """

    metrics: tuple[str, ...] = (FMS, PROBING, DECODER_COSINE, META)
    pooling: Pooling = Pooling.MEAN
    tokens: int = 20_000
    text: str | None = None
    text_field: str = "text"
    draws: int = 2000
    seed: int = 0

    def __post_init__(self) -> None:
        unknown = [one for one in self.metrics if one not in METRICS]
        if unknown or not self.metrics:
            raise ConfigurationError(
                f"There is no metric {unknown[0]!r}." if unknown else "No metric was named.",
                hint=f"Choose: {', '.join(METRICS)}.",
            )
        if self.tokens < 1:
            raise ConfigurationError(
                f"{self.tokens} tokens cannot tell which features are live.", hint="20,000 are usual."
            )


@dataclass(frozen=True, slots=True)
class CosineSummary:
    """Decoder cosines of all live features.

    Attributes:
        mean: Of each feature's largest cosine with another one.
        median: The same.
        ninth_decile: The same.
        near_copies: Share of features with another one above 0.7.
        encoder: Mean cosine of a feature's decoder row with its own encoder.
    """

    mean: float
    median: float
    ninth_decile: float
    near_copies: float
    encoder: float


@dataclass(frozen=True, slots=True)
class FieldMetrics:
    """What was measured of a dictionary; None for a metric that was not asked for.

    Attributes:
        features: Features of the dictionary.
        live: Those that fire; None where no metric needed to know.
        concept: What FMS and probing look for.
        texts: Labelled texts.
        monosemanticity: FMS of the dictionary's features.
        raw_monosemanticity: FMS of the raw channels of the same stream, to compare.
        probing: k-sparse probing, features against raw channels.
        cosines: Decoder cosines.
        meta: Variance of decoder rows that a meta dictionary explains.
        polysemy: PS-Eval.
    """

    features: int
    live: int | None = None
    concept: str | None = None
    texts: int | None = None
    monosemanticity: MonosemanticityScore | None = None
    raw_monosemanticity: MonosemanticityScore | None = None
    probing: list[SparseProbe] | None = None
    cosines: CosineSummary | None = None
    meta: MetaExplained | None = None
    polysemy: PolysemyScore | None = None

    def to_json(self) -> dict[str, Any]:
        """Everything as JSON values; NaN is None."""
        found: dict[str, Any] = _plain(asdict(self))
        return found

    def rows(self) -> list[MetricRow]:
        """Everything as lines of a table."""
        rows = []
        for of, fms in (
            ("features", self.monosemanticity),
            ("raw channels", self.raw_monosemanticity),
        ):
            if fms is not None:
                rows += [MetricRow(FMS, f"FMS@{p}, {of}", one) for p, one in fms.score.items()]
                rows.append(MetricRow(FMS, f"accuracy of the best one, {of}", fms.capacity))
        for probe in self.probing or []:
            rows.append(MetricRow(PROBING, f"accuracy of {probe.k}, features", probe.latents))
            rows.append(MetricRow(PROBING, f"accuracy of {probe.k}, raw channels", probe.channels))
            rows.append(MetricRow(PROBING, f"features ahead by, of {probe.k}", probe.difference))
        if self.cosines is not None:
            rows += [
                MetricRow(DECODER_COSINE, "largest with another, mean", self.cosines.mean),
                MetricRow(DECODER_COSINE, "largest with another, median", self.cosines.median),
                MetricRow(DECODER_COSINE, "largest with another, ninth decile", self.cosines.ninth_decile),
                MetricRow(DECODER_COSINE, f"share with another above {_NEAR_COPY}", self.cosines.near_copies),
                MetricRow(DECODER_COSINE, "with the own encoder, mean", self.cosines.encoder),
            ]
        if self.meta is not None:
            rows.append(MetricRow(META, "variance explained, rows held out", self.meta.held_out))
            rows.append(MetricRow(META, "variance explained, rows trained on", self.meta.in_sample))
        if self.polysemy is not None:
            rows += [
                MetricRow(PS_EVAL, name, getattr(self.polysemy, name))
                for name in ("accuracy", "precision", "recall", "specificity", "f1")
            ]
        return rows


class MetricRow(NamedTuple):
    """One line.

    Attributes:
        metric: One of ``METRICS``.
        name: What of it.
        value: With its interval where it has one.
    """

    metric: str
    name: str
    value: Estimate | float


def field_metrics(
    model: LanguageModel,
    dictionary: Dictionary,
    settings: FieldSettings | None = None,
    *,
    labelled: LabelledTexts | None = None,
    pairs: Sequence[WordPair] = (),
    stages: Stages | None = None,
) -> FieldMetrics:
    """Measure a dictionary with the published metrics.

    Args:
        model: The model.
        dictionary: Its dictionary.
        settings: What is measured, and how.
        labelled: Texts with a concept and without it, for FMS and probing.
        pairs: Words in context, for PS-Eval.
        stages: Told about progress.

    Raises:
        ConfigurationError: A metric lacks the data that it takes, or data are too few for it.
        HookPointError: The dictionary's hook point does not exist in this model.
        IncompatibleError: The dictionary has another width than the activations.
        NumericalError: NaN or infinity.
    """
    settings, stages = settings or FieldSettings(), stages or Silent()
    wanted = settings.metrics
    if PS_EVAL in wanted and not pairs:
        raise ConfigurationError(
            "PS-Eval takes words in pairs of sentences, and none were given.",
            hint=f"Give them with --word-pairs, or leave {PS_EVAL} out.",
        )
    found: dict[str, Any] = {"features": dictionary.d_sae}
    if FMS in wanted or PROBING in wanted:
        if labelled is None:
            raise ConfigurationError("FMS and probing take labelled texts, and none were given.")
        found |= _of_labelled(model, dictionary, settings, labelled, stages)
    if DECODER_COSINE in wanted or META in wanted:
        live = live_features(model, dictionary, settings, stages)
        found["live"] = int(live.sum())
        found |= _of_decoder(dictionary, live, settings, stages)
    if PS_EVAL in wanted:
        with stages.stage("Reading word pairs", "pairs") as progress:
            found["polysemy"] = ps_eval_of(model, dictionary, pairs, draws=settings.draws, seed=settings.seed)
            progress(len(pairs), len(pairs))
    return FieldMetrics(**found)


def live_features(
    model: LanguageModel, dictionary: Dictionary, settings: FieldSettings, stages: Stages | None = None
) -> Tensor:
    """Which features fire: as the release says, else on text, bool [d_sae].

    Raises:
        ConfigurationError: The text holds no token.
        NumericalError: NaN or infinity.
    """
    if dictionary.origin.sparsity is not None:
        return dictionary.origin.sparsity.double().cpu() > math.log10(_SILENT_FREQUENCY)
    documents = read_documents(settings.text, field=settings.text_field)
    count = math.ceil(settings.tokens / _CONTEXT_SIZE)
    size = min(_CONTEXT_SIZE, model.max_context)
    windows = list(islice(iter_windows(model, documents, context_size=size), count))
    if not windows:
        raise ConfigurationError("The text holds no token.", hint="Give more text with --text.")
    with (stages or Silent()).stage("Which features are live", "windows") as progress:
        rates = firing_rates(model, dictionary, windows)
        progress(len(windows), len(windows))
    return rates > 0


def _of_labelled(
    model: LanguageModel,
    dictionary: Dictionary,
    settings: FieldSettings,
    labelled: LabelledTexts,
    stages: Stages,
) -> dict[str, Any]:
    with stages.stage(f"Reading texts of {labelled.concept}", "texts") as progress:
        read = text_activations(
            model, dictionary, labelled.texts, pooling=settings.pooling, progress=progress
        )
    labels, documents = list(labelled.labels), labelled.documents
    found: dict[str, Any] = {"concept": labelled.concept, "texts": len(labelled.texts)}
    draws, seed = settings.draws, settings.seed
    if FMS in settings.metrics:
        for name, rows in (
            ("monosemanticity", read.latents),
            ("raw_monosemanticity", read.channels),
        ):
            found[name] = feature_monosemanticity_score(rows, labels, documents, draws=draws, seed=seed)
    if PROBING in settings.metrics:
        found["probing"] = sparse_probing(
            read.latents, read.channels, labels, documents, draws=draws, seed=seed
        )
    return found


def _of_decoder(
    dictionary: Dictionary, live: Tensor, settings: FieldSettings, stages: Stages
) -> dict[str, Any]:
    decoder = dictionary.decoder_rows(torch.arange(dictionary.d_sae, device=dictionary.device)).cpu()
    found: dict[str, Any] = {}
    if DECODER_COSINE in settings.metrics:
        found["cosines"] = _summary(decoder_cosines(decoder, dictionary.W_enc.cpu(), live=live))
    if META in settings.metrics:
        with stages.stage("Training a meta dictionary", "rows") as progress:
            found["meta"] = meta_dictionary(
                decoder, live=live, settings=MetaSettings(seed=settings.seed), draws=settings.draws
            )
            progress(int(live.sum()), int(live.sum()))
    return found


def _summary(cosines: DecoderCosines) -> CosineSummary:
    largest = cosines.largest[cosines.largest.isfinite()]
    return CosineSummary(
        mean=float(largest.mean()),
        median=float(largest.quantile(0.5)),
        ninth_decile=float(largest.quantile(0.9)),
        near_copies=float((largest > _NEAR_COPY).double().mean()),
        encoder=float(cosines.encoder.nanmean()),
    )


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(name): _plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
