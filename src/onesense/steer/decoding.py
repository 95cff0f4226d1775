"""One batched generation, with other edits in each of its rows."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor
from transformers import GenerationConfig, StoppingCriteria, StoppingCriteriaList

from onesense.errors import ConfigurationError
from onesense.model.batching import FittingBatch
from onesense.model.hooks import Firings
from onesense.model.language_model import LanguageModel
from onesense.model.tokens import encode_text, pad_batch
from onesense.steer.apply import Report, applied_by_row
from onesense.steer.intervention import Intervention
from onesense.steer.sampling import Sampling, logits_processors
from onesense.steer.streaming import BatchStreamer

Ending: TypeAlias = Literal["stop", "length", "cancelled"]


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a generation.

    Attributes:
        prompt: Token ids of its prompt.
        sample: Number of its sample; rows of one sample are made with the same noise.
        variant: Index of its edits, or None for a row that is left alone.
    """

    prompt: tuple[int, ...]
    sample: int
    variant: int | None


@dataclass(frozen=True, slots=True)
class Sample:
    """One generated text.

    Attributes:
        number: Number of the sample.
        text: The text that follows the prompt.
        ids: Its token ids, without the token that ended it.
        ending: ``stop`` where the model ended it, ``length`` at the last token allowed, ``cancelled``.
    """

    number: int
    text: str
    ids: tuple[int, ...]
    ending: Ending


class _Cancelled(StoppingCriteria):
    """Ends every row once someone has set the event."""

    def __init__(self, event: threading.Event) -> None:
        self._event = event

    def __call__(self, input_ids: Tensor, scores: Any, **kwargs: Any) -> Tensor:  # noqa: ARG002
        return torch.full((input_ids.shape[0],), self._event.is_set(), device=input_ids.device)


class _OnceTold:
    """Tells each row's text once, also where its generation was begun again in a smaller batch."""

    def __init__(self, on_text: Callable[[int, str, bool], None]) -> None:
        self._on_text = on_text
        self._told: dict[int, int] = {}
        self._ended: set[int] = set()

    def of(self, rows: Sequence[int]) -> Callable[[int, str, bool], None]:
        """What a generation of some rows tells, by their place among them."""
        made = dict.fromkeys(rows, 0)

        def tell(place: int, text: str, ended: bool) -> None:
            row = rows[place]
            made[row] += len(text)
            new = made[row] - self._told.get(row, 0)
            fresh = text[max(len(text) - new, 0) :] if new > 0 else ""
            self._told[row] = max(self._told.get(row, 0), made[row])
            if fresh or (ended and row not in self._ended):
                self._on_text(row, fresh, ended)
            if ended:
                self._ended.add(row)

        return tell


def encode_prompt(model: LanguageModel, prompt: str, *, max_new_tokens: int) -> tuple[int, ...]:
    """Token ids of a prompt that has room for what is to be generated.

    Text that spells a special token stays text.

    Raises:
        ConfigurationError: The prompt is empty, or it and what follows do not fit the model's context.
    """
    if max_new_tokens < 1:
        raise ConfigurationError(f"At least one token must be generated (given: {max_new_tokens}).")
    if not prompt.strip():
        raise ConfigurationError("The prompt is empty.", hint="Give a text to go on from (--prompt).")
    ids = encode_text(model, prompt)
    room = model.max_context - len(ids)
    if room < 1:
        raise ConfigurationError(
            f"The prompt has {len(ids)} tokens, and the context of `{model.name}` has {model.max_context}.",
            hint="Shorten the prompt.",
        )
    if max_new_tokens > room:
        raise ConfigurationError(
            f"{max_new_tokens} new tokens do not fit: the prompt takes {len(ids)} of the {model.max_context} "
            f"tokens of `{model.name}`'s context.",
            hint=f"Generate at most {room} tokens (--max-new-tokens), or shorten the prompt.",
        )
    return tuple(ids)


def generate_rows(
    model: LanguageModel,
    rows: Sequence[Row],
    variants: Sequence[Sequence[Intervention]],
    *,
    sampling: Sampling,
    max_new_tokens: int,
    seed: int,
    use_cache: bool = True,
    on_text: Callable[[int, str, bool], None] | None = None,
    cancel: threading.Event | None = None,
    fitting: FittingBatch | None = None,
) -> tuple[list[Sample], Report]:
    """Generate all rows in one call of transformers' ``generate``, or in several where the device has no room.

    Args:
        model: The model.
        rows: The rows.
        variants: The edits that rows refer to.
        sampling: How tokens are chosen.
        max_new_tokens: Tokens to generate in each row, at most.
        seed: Where the samples' noise comes from.
        use_cache: Whether to keep keys and values; the texts are the same either way.
        on_text: Called with the index of a row, its new text as soon as there is some, and whether the row ended.
        cancel: Once set, generation ends after the current token.
        fitting: How many tokens fit, where earlier generations have found out.

    Returns:
        The samples in the order of the rows, and what the edits did.

    Raises:
        HookPointError: An edit's hook never ran.
        NumericalError: The logits became NaN.
        DeviceError: The device has no memory for one row.
    """
    fitting = fitting or FittingBatch("Generating text", mend="Generate fewer tokens (--max-new-tokens)")
    told = None if on_text is None else _OnceTold(on_text)

    def tokens(some: Sequence[int]) -> int:
        return len(some) * (max(len(rows[index].prompt) for index in some) + max_new_tokens)

    def work(some: Sequence[int]) -> tuple[list[Sample], Report]:
        return _generate_at_once(
            model,
            [rows[index] for index in some],
            variants,
            sampling=sampling,
            max_new_tokens=max_new_tokens,
            seed=seed,
            use_cache=use_cache,
            on_text=None if told is None else told.of(some),
            cancel=cancel,
        )

    samples: list[Sample] = []
    whole: Report | None = None
    for _, (made, report) in fitting.over(range(len(rows)), work, tokens=tokens):
        samples += made
        if whole is None:
            whole = report
        else:
            whole.add(report)
    return samples, whole or Report(Firings(()), {})


def _generate_at_once(
    model: LanguageModel,
    rows: Sequence[Row],
    variants: Sequence[Sequence[Intervention]],
    *,
    sampling: Sampling,
    max_new_tokens: int,
    seed: int,
    use_cache: bool,
    on_text: Callable[[int, str, bool], None] | None,
    cancel: threading.Event | None,
) -> tuple[list[Sample], Report]:
    prompts = [row.prompt for row in rows]
    batch = pad_batch(model, prompts, side="left")
    lengths = [len(prompt) for prompt in prompts]
    stops = stop_ids(model)
    arguments: dict[str, Any] = {
        "generation_config": _configuration(model, max_new_tokens, stops, use_cache),
        "logits_processor": logits_processors(
            sampling,
            seed=seed,
            samples=[row.sample for row in rows],
            prompt_lengths=lengths,
            vocab_size=model.vocab_size,
        ),
    }
    if on_text is not None:
        arguments["streamer"] = BatchStreamer(model, prompts, stops, on_text)
    if cancel is not None:
        arguments["stopping_criteria"] = StoppingCriteriaList([_Cancelled(cancel)])
    generate: Any = model.hf.generate
    with applied_by_row(model, variants, [row.variant for row in rows], prompt_lengths=lengths) as report:
        sequences: Tensor = generate(batch.ids, attention_mask=batch.attention_mask, **arguments)
    cancelled = cancel is not None and cancel.is_set()
    generated: list[list[int]] = sequences[:, batch.ids.shape[1] :].tolist()
    samples = [
        _sample(model, row, ids, stops, max_new_tokens, cancelled)
        for row, ids in zip(rows, generated, strict=True)
    ]
    return samples, report


def stop_ids(model: LanguageModel) -> tuple[int, ...]:
    """The tokens with which the model ends a text."""
    named: Any = getattr(model.hf.generation_config, "eos_token_id", None)
    if named is None and model.tokenizer is not None:
        named = model.tokenizer.eos_token_id
    if named is None:
        return ()
    return tuple(named) if isinstance(named, list | tuple) else (int(named),)


def _configuration(
    model: LanguageModel, max_new_tokens: int, stops: tuple[int, ...], use_cache: bool
) -> GenerationConfig:
    padding: Any = None if model.tokenizer is None else model.tokenizer.pad_token_id
    if padding is None:
        padding = stops[0] if stops else 0
    # Sampling is done by our own processors; what is named here keeps the model's own defaults out.
    return GenerationConfig(
        max_new_tokens=max_new_tokens,
        do_sample=False,
        num_beams=1,
        num_return_sequences=1,
        repetition_penalty=1.0,
        no_repeat_ngram_size=0,
        min_length=0,
        use_cache=use_cache,
        return_dict_in_generate=False,
        pad_token_id=padding,
        eos_token_id=list(stops) or None,
    )


def _sample(
    model: LanguageModel,
    row: Row,
    ids: Sequence[int],
    stops: tuple[int, ...],
    max_new_tokens: int,
    cancelled: bool,
) -> Sample:
    end = next((place for place, token in enumerate(ids) if token in stops), None)
    kept = tuple(ids if end is None else ids[:end])
    ending: Ending = "stop" if end is not None else "length"
    if end is None and cancelled and len(kept) < max_new_tokens:
        ending = "cancelled"
    return Sample(row.sample, _continuation(model, row.prompt, kept), kept, ending)


def _continuation(model: LanguageModel, prompt: Sequence[int], ids: Sequence[int]) -> str:
    """The text of ``ids`` after the prompt, its leading space told right."""
    if model.tokenizer is None:
        return ""
    before = model.decode(prompt)
    whole = model.decode([*prompt, *ids])
    return whole[len(before) :] if whole.startswith(before) else model.decode(ids)
