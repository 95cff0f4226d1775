"""Steered text beside unsteered text, from one seed and one batched generation."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from onesense.errors import ConfigurationError
from onesense.model.language_model import LanguageModel
from onesense.steer.apply import Edits, Report, prepare
from onesense.steer.decoding import Row, Sample, encode_prompt, generate_rows
from onesense.steer.dose import Dose, dose_warnings
from onesense.steer.sampling import Sampling


class Piece(NamedTuple):
    """New text of one sample.

    Attributes:
        steered: Whether the sample is steered.
        sample: Number of the sample.
        text: What was added to its text; may be empty where ``ended``.
        ended: Whether this was the last of it.
        step: Place of its coefficient in a sweep.
    """

    steered: bool
    sample: int
    text: str
    ended: bool = False
    step: int = 0


@dataclass(frozen=True, slots=True)
class Generation:
    """Texts with and without edits.

    Sample i is made with the same noise on both sides, so that edits without effect give the same text.

    Attributes:
        prompt: The prompt.
        steered: The samples with the edits.
        unsteered: The samples without.
        doses: How strong the edits were, for each hook point.
        warnings: What the user should know: edits without effect, doses above 1.
        seed: Where the samples' noise came from.
    """

    prompt: str
    steered: tuple[Sample, ...]
    unsteered: tuple[Sample, ...]
    doses: tuple[Dose, ...]
    warnings: tuple[str, ...]
    seed: int

    def to_json(self) -> dict[str, Any]:
        """The generation as JSON values."""
        return {
            "prompt": self.prompt,
            "seed": self.seed,
            "steered": [asdict(sample) for sample in self.steered],
            "unsteered": [asdict(sample) for sample in self.unsteered],
            "doses": [{**asdict(dose), "hook_point": dose.hook_point.name} for dose in self.doses],
            "warnings": list(self.warnings),
        }


@dataclass(frozen=True, slots=True)
class SweepStep:
    """The samples of one coefficient, and how strong the edits were at it, for each hook point."""

    coefficient: float
    samples: tuple[Sample, ...]
    doses: tuple[Dose, ...]
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Sweep:
    """Texts for several coefficients, and without edits; see ``sweep``."""

    prompt: str
    steps: tuple[SweepStep, ...]
    unsteered: tuple[Sample, ...]
    seed: int

    def to_json(self) -> dict[str, Any]:
        """The sweep as JSON values."""
        return {
            "prompt": self.prompt,
            "seed": self.seed,
            "steps": [
                {
                    **asdict(step),
                    "doses": [{**asdict(dose), "hook_point": dose.hook_point.name} for dose in step.doses],
                }
                for step in self.steps
            ],
            "unsteered": [asdict(sample) for sample in self.unsteered],
        }


def generate(
    model: LanguageModel,
    prompt: str,
    edits: Edits,
    *,
    samples: int = 3,
    unsteered: bool = True,
    max_new_tokens: int = 50,
    sampling: Sampling | None = None,
    seed: int = 0,
    use_cache: bool = True,
    force: bool = False,
    on_piece: Callable[[Piece], None] | None = None,
    cancel: threading.Event | None = None,
) -> Generation:
    """Go on from a prompt with and without edits, in one batch.

    Args:
        model: The model.
        prompt: The text to go on from.
        edits: A recipe, or edits with their dictionaries.
        samples: Texts on each side.
        unsteered: Whether to make the side without edits too.
        max_new_tokens: Tokens of each text, at most.
        sampling: How tokens are chosen; at temperature 1 by default.
        seed: Where the samples' noise comes from.
        use_cache: Whether to keep keys and values; the texts are the same either way.
        force: Whether to go on with another model or dictionary than the recipe was made for.
        on_piece: Called with each new piece of text as it comes.
        cancel: Once set, generation ends after the current token.

    Raises:
        ConfigurationError: Prompt empty or too long, no sample, or what ``prepare`` refuses.
        IncompatibleError, NotFoundError: See ``prepare``.
        HookPointError: An edit's hook never ran.
        NumericalError: The logits became NaN.
    """
    ids = _checked_prompt(model, prompt, samples, max_new_tokens)
    interventions = prepare(model, edits, force=force)
    rows = [Row(ids, number, 0) for number in range(samples)]
    if unsteered:
        rows += [Row(ids, number, None) for number in range(samples)]

    def tell(row: int, text: str, ended: bool) -> None:
        if on_piece is not None:
            on_piece(Piece(rows[row].variant is not None, rows[row].sample, text, ended))

    texts, report = generate_rows(
        model,
        rows,
        [interventions],
        sampling=sampling or Sampling(),
        max_new_tokens=max_new_tokens,
        seed=seed,
        use_cache=use_cache,
        on_text=None if on_piece is None else tell,
        cancel=cancel,
    )
    return Generation(
        prompt, tuple(texts[:samples]), tuple(texts[samples:]), report.doses, report.warnings(), seed
    )


def stream(model: LanguageModel, prompt: str, edits: Edits, **options: Any) -> Iterator[Piece | Generation]:
    """Like ``generate``, piece by piece; the last thing given is the whole ``Generation``.

    The model runs in a thread of its own. Closing the iterator ends it after the current token and takes its
    hooks away.

    Args:
        model: The model.
        prompt: The text to go on from.
        edits: A recipe, or edits with their dictionaries.
        **options: Those of ``generate``, without ``on_piece`` and ``cancel``.
    """
    arrived: queue.Queue[Piece | Generation | BaseException] = queue.Queue()
    cancel = threading.Event()

    def work() -> None:
        try:
            arrived.put(generate(model, prompt, edits, on_piece=arrived.put, cancel=cancel, **options))
        except BaseException as error:  # handed to the thread that reads
            arrived.put(error)

    worker = threading.Thread(target=work, name="onesense-stream", daemon=True)
    worker.start()
    try:
        while True:
            item = arrived.get()
            if isinstance(item, BaseException):
                raise item
            yield item
            if isinstance(item, Generation):
                return
    finally:
        cancel.set()
        worker.join()


def sweep(
    model: LanguageModel,
    prompt: str,
    edits: Edits,
    coefficients: Sequence[float],
    *,
    samples: int = 1,
    unsteered: bool = True,
    max_new_tokens: int = 50,
    sampling: Sampling | None = None,
    seed: int = 0,
    force: bool = False,
    on_piece: Callable[[Piece], None] | None = None,
    cancel: threading.Event | None = None,
) -> Sweep:
    """Go on from a prompt with the same edits at several strengths, in one batch.

    Every coefficient multiplies the value of every edit: edits of value 1 are swept over the coefficients
    themselves.

    Args:
        model: The model.
        prompt: The text to go on from.
        edits: A recipe, or edits with their dictionaries.
        coefficients: The strengths.
        samples: Texts for each coefficient; sample i has the same noise at every coefficient.
        unsteered: Whether to make texts without edits too.
        max_new_tokens: Tokens of each text, at most.
        sampling: How tokens are chosen; at temperature 1 by default.
        seed: Where the samples' noise comes from.
        force: Whether to go on with another model or dictionary than the recipe was made for.
        on_piece: Called with each new piece of text as it comes.
        cancel: Once set, generation ends after the current token.

    Raises:
        ConfigurationError: No coefficient, one that is NaN or infinite, or what ``generate`` refuses.
    """
    ids = _checked_prompt(model, prompt, samples, max_new_tokens)
    if not coefficients or not all(abs(one) < float("inf") for one in coefficients):
        raise ConfigurationError(
            f"A sweep needs coefficients that are finite numbers (given: {list(coefficients)}).",
            hint="For example 0,1,2,4.",
        )
    interventions = prepare(model, edits, force=force)
    variants = [[one.with_amounts(one.amounts * float(by)) for one in interventions] for by in coefficients]
    rows = [Row(ids, number, variant) for variant in range(len(variants)) for number in range(samples)]
    if unsteered:
        rows += [Row(ids, number, None) for number in range(samples)]

    def tell(row: int, text: str, ended: bool) -> None:
        if on_piece is not None:
            own = rows[row]
            on_piece(Piece(own.variant is not None, own.sample, text, ended, own.variant or 0))

    texts, report = generate_rows(
        model,
        rows,
        variants,
        sampling=sampling or Sampling(),
        max_new_tokens=max_new_tokens,
        seed=seed,
        on_text=None if on_piece is None else tell,
        cancel=cancel,
    )
    steps = tuple(
        _step(coefficient, variant, texts[variant * samples : (variant + 1) * samples], report)
        for variant, coefficient in enumerate(coefficients)
    )
    return Sweep(prompt, steps, tuple(texts[len(variants) * samples :]), seed)


def _step(coefficient: float, variant: int, texts: Sequence[Sample], report: Report) -> SweepStep:
    doses = report.doses_of(variant)
    return SweepStep(float(coefficient), tuple(texts), doses, dose_warnings(doses))


def _checked_prompt(model: LanguageModel, prompt: str, samples: int, max_new_tokens: int) -> tuple[int, ...]:
    if samples < 1:
        raise ConfigurationError(f"At least one sample must be generated (given: {samples}).")
    return encode_prompt(model, prompt, max_new_tokens=max_new_tokens)
