"""The self-check at load: does this dictionary reconstruct what it should, at its hook point of this model?

A dictionary that is read wrongly still gives numbers. About 2,000 tokens tell: L0, the fraction of variance
unexplained and dead features against what its maker recorded, or against bounds that every useful dictionary
keeps; and whether a neighbouring layer, or the other choice of centring, would fit better.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple

import torch
from torch import Tensor

from onesense.errors import (
    ConfigurationError,
    HookPointError,
    IncompatibleError,
    NumericalError,
    SelfCheckError,
)
from onesense.model.capture import capture
from onesense.model.hook_points import HookPoint
from onesense.model.language_model import LanguageModel
from onesense.model.names import hub_name
from onesense.sae.activations import usable_positions
from onesense.sae.diagnose import (
    USUAL_CAUSES,
    Reading,
    measure,
    other_readings,
    place_cause,
    read_as,
    sparser,
    with_b_dec,
    with_centering,
)
from onesense.sae.dictionary import Dictionary
from onesense.text.corpus import Document, read_documents
from onesense.text.windows import Window, batch_windows, iter_windows

# Without recorded values: a dictionary that leaves more than this unexplained is of no use.
GENERIC_FVU = 0.6
# With a recorded FVU: other text and other rules for BOS move it, a fault moves it further.
_FVU_SLACK, _FVU_FACTOR, _LARGEST_FVU = 0.25, 2.0, 0.95
# L0 moves with the text too, but a lost threshold or TopK moves it tenfold.
_L0_FACTOR = 3.0
# A topk dictionary has k latents, less those that are not above zero.
_TOPK_SHARE = 0.25
_SMALLEST_L0 = 0.5
# Another layer or preparation must fit this much better before it is believed.
_NEIGHBOUR_GAIN, _PREPARATION_GAIN, _SMALLEST_GAIN = 0.9, 0.8, 0.01
# Two thirds of the latents cannot be cut away for less than this where they mean anything.
_CUT_LOSS = 1.05
# Tokens on which other readings are compared with the own one.
_COMPARED = 512
_CONTEXT = 128
_NAMED_CAUSES = 3
_WINDOWS_PER_BATCH = 8
_STREAM = ("hook_resid_pre", "hook_resid_mid", "hook_resid_post")
_OTHER_SITES = (*_STREAM, "hook_attn_out", "hook_mlp_out")


class Bounds(NamedTuple):
    """What a dictionary must keep to.

    Attributes:
        l0_low: Least mean number of active latents.
        l0_high: Most.
        fvu_high: Largest fraction of variance unexplained.
        recorded: Whether they come from values that its maker recorded.
    """

    l0_low: float
    l0_high: float
    fvu_high: float
    recorded: bool


class SelfCheck(NamedTuple):
    """What was measured.

    Attributes:
        l0: Mean number of active latents per token.
        fvu: Fraction of variance unexplained, about the mean.
        dead_share: Share of features that never fired on these tokens.
        tokens: Tokens that counted: BOS, special tokens and outliers are left out.
        passed: Whether everything is within bounds.
        findings: What is wrong, and the likely causes.
    """

    l0: float
    fvu: float
    dead_share: float
    tokens: int
    passed: bool
    findings: tuple[str, ...]


def self_check(
    model: LanguageModel,
    dictionary: Dictionary,
    documents: Iterable[Document] | None = None,
    *,
    tokens: int = 2000,
    force: bool = False,
) -> SelfCheck:
    """Check a dictionary against its model.

    Args:
        model: The model.
        dictionary: The dictionary.
        documents: Text to check on; None takes the packaged sample.
        tokens: How many tokens, about.
        force: Report what is wrong instead of raising.

    Raises:
        SelfCheckError: It does not fit; the message says how, and the hint which causes are likely.
        IncompatibleError: Its width is not that of the hook point.
        HookPointError: The model has no such hook point.
        ConfigurationError: The text holds no token.
        NumericalError: NaN or infinity in the activations.
    """
    return self_checks(model, [dictionary], documents, tokens=tokens, force=force)[0]


def self_checks(
    model: LanguageModel,
    dictionaries: Sequence[Dictionary],
    documents: Iterable[Document] | None = None,
    *,
    tokens: int = 2000,
    force: bool = False,
) -> list[SelfCheck]:
    """``self_check`` of several dictionaries, from one pass over the text to the last of their hook points.

    Raises:
        SelfCheckError: The first of them that does not fit.
        OnesenseError: See ``self_check``.
    """
    near: dict[HookPoint, list[HookPoint]] = {}
    for dictionary in dictionaries:
        width = _width(model, dictionary)
        near[dictionary.hook_point] = _resolvable(model, neighbours_of(dictionary.hook_point), width)
    windows = _windows(model, documents if documents is not None else read_documents(), tokens)
    found = _activations(model, windows, near)
    return [_checked(model, one, windows, found[one.hook_point], force=force) for one in dictionaries]


def _width(model: LanguageModel, dictionary: Dictionary) -> int:
    """How wide the dictionary's hook point is; the dictionary is as wide."""
    point = dictionary.hook_point
    width = model.resolve(point).width
    if width != dictionary.d_in:
        name = dictionary.origin.model_name
        trained_on = f" It was trained on `{name}`." if name else ""
        raise IncompatibleError(
            f"{dictionary.origin.label} reads {dictionary.d_in} numbers; {point} of `{model.name}` has "
            f"{width}.{trained_on}",
            hint="Choose a dictionary that was trained on this model.",
        )
    return width


def _checked(
    model: LanguageModel,
    dictionary: Dictionary,
    windows: Sequence[Window],
    found: dict[HookPoint, Tensor],
    *,
    force: bool,
) -> SelfCheck:
    metrics = measure(dictionary, found[dictionary.hook_point])
    bounds = bounds_of(dictionary)
    findings = _outside(metrics.l0, metrics.fvu, bounds)
    faults = _silent_faults(dictionary, found, bounds)
    if findings or faults:
        causes = _causes(model, dictionary, windows, found, bounds)
        findings += _explain(model, dictionary, faults, causes)
    check = SelfCheck(
        metrics.l0, metrics.fvu, metrics.dead_share, metrics.tokens, not findings, tuple(findings)
    )
    if findings and not force:
        raise _error(model, dictionary, check, bounds)
    return check


def neighbours_of(point: HookPoint) -> list[HookPoint]:
    """Where a dictionary for `point` may have been meant to go: a layer away, or half a block in the stream."""
    near = [point.at_layer(point.layer - 1), point.at_layer(point.layer + 1)]
    if point.suffix in _STREAM:
        near += [HookPoint(point.layer, suffix) for suffix in _STREAM]
    # what leaves a block is what enters the next
    places = {_stream_place(other): other for other in reversed(near)}
    return [other for place, other in places.items() if place != _stream_place(point)]


def bounds_of(dictionary: Dictionary) -> Bounds:
    """The bounds of a dictionary: from recorded values where there are any, else generic ones."""
    l0, fvu = dictionary.origin.expected_l0, dictionary.origin.expected_fvu
    if dictionary.k is not None:
        low, high = _TOPK_SHARE * dictionary.k, float(dictionary.k)
    elif l0 is not None:
        low, high = l0 / _L0_FACTOR, l0 * _L0_FACTOR
    else:
        # more active latents than dimensions is no sparse code
        low, high = _SMALLEST_L0, min(dictionary.d_in, dictionary.d_sae / 2)
    worst = GENERIC_FVU
    if fvu is not None:
        worst = min(_LARGEST_FVU, max(fvu + _FVU_SLACK, fvu * _FVU_FACTOR))
    return Bounds(low, high, worst, l0 is not None or fvu is not None)


def _stream_place(point: HookPoint) -> object:
    if point.suffix in _STREAM:
        return 2 * point.layer + _STREAM.index(point.suffix)
    return point


def _outside(l0: float, fvu: float, bounds: Bounds) -> list[str]:
    findings = []
    if not bounds.l0_low <= l0 <= bounds.l0_high:
        findings.append(
            f"{l0:.4g} latents are active per token; expected {bounds.l0_low:.3g} to {bounds.l0_high:.3g}"
        )
    if not fvu <= bounds.fvu_high:
        findings.append(
            f"{fvu:.3g} of the variance stays unexplained; expected at most {bounds.fvu_high:.3g}"
        )
    return findings


def _silent_faults(dictionary: Dictionary, found: dict[HookPoint, Tensor], bounds: Bounds) -> list[Reading]:
    """Other readings that fit clearly better, which bounds alone would not tell."""
    sample = {point: _sample(rows) for point, rows in found.items()}
    rows = sample.pop(dictionary.hook_point)
    own = read_as("", dictionary, rows)
    better = []
    for point, other in sample.items():
        reading = read_as(place_cause(dictionary.hook_point, point), dictionary, other)
        if reading.fvu < _NEIGHBOUR_GAIN * own.fvu - _SMALLEST_GAIN:
            better.append(reading)
    for cause, variant in (with_centering(dictionary), with_b_dec(dictionary)):
        reading = read_as(cause, variant, rows)
        if reading.fvu < _PREPARATION_GAIN * own.fvu - _SMALLEST_GAIN:
            better.append(reading)
    cut = [read_as(cause, variant, rows) for cause, variant in sparser(dictionary, own.l0)]
    # latents that belong there cannot be cut away for nothing
    cut = [reading for reading in cut if reading.fvu <= _CUT_LOSS * own.fvu]
    faults = [*better, *sorted(cut, key=lambda reading: reading.fvu)[:1]]
    return [reading for reading in faults if reading.fvu <= bounds.fvu_high]


def _causes(
    model: LanguageModel,
    dictionary: Dictionary,
    windows: Sequence[Window],
    found: dict[HookPoint, Tensor],
    bounds: Bounds,
) -> list[Reading]:
    """The readings under which the dictionary would fit, best first."""
    own = dictionary.hook_point
    sites = [HookPoint(own.layer, suffix) for suffix in _OTHER_SITES if suffix != own.suffix]
    resolvable = _resolvable(model, sites, dictionary.d_in)
    elsewhere = {**found, **_activations(model, windows, {own: resolvable})[own]}
    rows = _sample(elsewhere.pop(own))
    as_loaded = read_as("", dictionary, rows)
    readings = other_readings(dictionary, rows, {point: _sample(other) for point, other in elsewhere.items()})
    return [reading for reading in readings if _fits(reading, as_loaded, bounds)]


def _explain(
    model: LanguageModel, dictionary: Dictionary, faults: Sequence[Reading], causes: Sequence[Reading]
) -> list[str]:
    """What was found, in words."""
    best_first = sorted((*faults, *causes), key=lambda reading: reading.fvu)
    by_cause = {reading.cause: reading for reading in best_first}
    lines = [
        f"likely {cause} (then L0 {reading.l0:.3g}, FVU {reading.fvu:.3g})"
        for cause, reading in list(by_cause.items())[:_NAMED_CAUSES]
    ]
    trained_on = dictionary.origin.model_name
    if trained_on and not _same_model(trained_on, model.name):
        lines.append(
            f"perhaps the wrong base model: it was trained on `{trained_on}`, this is `{model.name}`"
        )
    elif not lines:
        lines.append("no other way to read it fits: perhaps the wrong base model, or damaged weights")
    return lines


def _fits(reading: Reading, as_loaded: Reading, bounds: Bounds) -> bool:
    within = bounds.l0_low <= reading.l0 <= bounds.l0_high and reading.fvu <= bounds.fvu_high
    outside = not bounds.l0_low <= as_loaded.l0 <= bounds.l0_high or as_loaded.fvu > bounds.fvu_high
    return within and (outside or reading.fvu < _NEIGHBOUR_GAIN * as_loaded.fvu)


def _windows(model: LanguageModel, documents: Iterable[Document], tokens: int) -> list[Window]:
    """Windows that hold about so many tokens."""
    if tokens < 1:
        raise ConfigurationError("The self-check needs at least one token.", hint="About 2000 are usual.")
    kept: list[Window] = []
    for window in iter_windows(model, documents, context_size=min(_CONTEXT, model.max_context)):
        kept.append(window)
        tokens -= len(window.ids)
        if tokens <= 0:
            break
    if not kept:
        raise ConfigurationError("The text holds no token to check on.", hint="Give more text.")
    return kept


def _activations(
    model: LanguageModel, windows: Sequence[Window], near: Mapping[HookPoint, Sequence[HookPoint]]
) -> dict[HookPoint, dict[HookPoint, Tensor]]:
    """For each hook point its activations and those at some others, on the positions that count at it.

    Returns:
        For each hook point, by hook point, float32 [n, d_in]; others with NaN or infinity are left out.
    """
    kept: dict[HookPoint, dict[HookPoint, list[Tensor]]] = {
        own: {point: [] for point in (own, *others)} for own, others in near.items()
    }
    wanted = list(dict.fromkeys(point for points in kept.values() for point in points))
    for start in range(0, len(windows), _WINDOWS_PER_BATCH):
        batch = batch_windows(model, windows[start : start + _WINDOWS_PER_BATCH])
        read = capture(model, batch, wanted)
        for own, points in kept.items():
            if not read[own][batch.content].isfinite().all():
                raise NumericalError(
                    f"The activations of `{model.name}` at {own} hold NaN or infinity.",
                    hint="Load the model in float32 or bfloat16.",
                )
            usable = usable_positions(read[own], batch.content)
            for point, rows in points.items():
                rows.append(read[point][usable].float())
    return {own: _finite(own, points) for own, points in kept.items()}


def _finite(own: HookPoint, kept: Mapping[HookPoint, Sequence[Tensor]]) -> dict[HookPoint, Tensor]:
    found = {point: torch.cat(list(rows)) for point, rows in kept.items()}
    found = {point: rows for point, rows in found.items() if rows.isfinite().all()}
    if found[own].shape[0] == 0:
        raise ConfigurationError(
            "The text holds nothing but special tokens, which do not count.", hint="Give other text."
        )
    return found


def _resolvable(model: LanguageModel, points: Sequence[HookPoint], width: int) -> list[HookPoint]:
    """Those of the hook points that the model has, of the same width."""
    found = []
    for point in points:
        with suppress(HookPointError):
            if model.resolve(point).width == width:
                found.append(point)
    return found


def _sample(rows: Tensor) -> Tensor:
    """At most so many rows, spread over all."""
    return rows[:: max(1, rows.shape[0] // _COMPARED)][:_COMPARED]


def _same_model(one: str, other: str) -> bool:
    def plain(name: str) -> str:
        return hub_name(name).rstrip("/").rsplit("/", 1)[-1].lower()

    return plain(one) == plain(other)


def _error(model: LanguageModel, dictionary: Dictionary, check: SelfCheck, bounds: Bounds) -> SelfCheckError:
    against = (
        "the values that its maker recorded" if bounds.recorded else "what every useful dictionary keeps to"
    )
    return SelfCheckError(
        f"{dictionary.origin.label} does not fit `{model.name}` at {dictionary.hook_point} (measured on "
        f"{check.tokens} tokens, against {against}): " + "; ".join(check.findings) + ".",
        hint=f"Usual causes: {USUAL_CAUSES}. --force goes on all the same and marks the run.",
    )
