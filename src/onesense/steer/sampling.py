"""How the next token is chosen: the sampling flags of transformers, with noise that belongs to the sample.

A sample draws its own noise from the seed and its number, whatever else is in the batch: the steered and the
unsteered text of one sample are made with the same noise, so that what differs between them is the steering,
and a sample is the same alone and among others.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from transformers import (
    LogitsProcessor,
    LogitsProcessorList,
    MinPLogitsWarper,
    NoRepeatNGramLogitsProcessor,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
    TypicalLogitsWarper,
)

from onesense.errors import ConfigurationError, NumericalError
from onesense.steer.checked import Checked

Share = Annotated[float, Field(gt=0, le=1)]


class Sampling(Checked):
    """How tokens are chosen. Names and meanings are those of transformers' ``generate``.

    Attributes:
        do_sample: Whether to sample; otherwise the likeliest token is taken.
        temperature: Divides the logits; above 0.
        top_k: Only the k likeliest tokens.
        top_p: Only the likeliest tokens that together reach this probability.
        min_p: Only tokens at least this share as likely as the likeliest.
        typical_p: Only the most typical tokens that together reach this probability.
        repetition_penalty: Divides the scores of tokens that stand in the text; 1 is none.
        frequency_penalty: Taken from a token's logit for every time that it stands in the text
            (TransformerLens' ``freq_penalty``); 0 is none.
        no_repeat_ngram_size: No run of so many tokens appears twice.

    Raises:
        ConfigurationError: A value is out of range, NaN or infinite, or the temperature is not above 0.
    """

    do_sample: bool = True
    temperature: float = 1.0
    top_k: Annotated[int, Field(ge=1)] | None = None
    top_p: Share | None = None
    min_p: Share | None = None
    typical_p: Annotated[float, Field(gt=0, lt=1)] | None = None
    repetition_penalty: Annotated[float, Field(gt=0)] = 1.0
    frequency_penalty: float = 0.0
    no_repeat_ngram_size: Annotated[int, Field(ge=1)] | None = None

    def check(self) -> None:
        """See ``Checked``."""
        if self.do_sample and self.temperature <= 0:
            raise ConfigurationError(
                f"The temperature must be above 0 (given: {self.temperature:g}).",
                hint="For the likeliest token at every step use --greedy.",
            )


GREEDY = Sampling(do_sample=False)
"""The likeliest token at every step."""


def logits_processors(
    sampling: Sampling,
    *,
    seed: int,
    samples: Sequence[int],
    prompt_lengths: Sequence[int],
    vocab_size: int,
) -> LogitsProcessorList:
    """Processors after which the largest score is the token chosen.

    Args:
        sampling: How tokens are chosen.
        seed: Where the noise comes from.
        samples: For each row of the batch the number of its sample; rows of one sample share their noise.
        prompt_lengths: Real tokens of each row's prompt, which stand at the right end of the prompt.
        vocab_size: Tokens that there are; the logits may have more entries.

    Raises:
        ConfigurationError: The seed is negative.
    """
    chain: list[LogitsProcessor] = [_Admissible(vocab_size)]
    if sampling.repetition_penalty != 1.0:
        chain.append(RepetitionPenaltyLogitsProcessor(sampling.repetition_penalty))
    if sampling.frequency_penalty != 0.0:
        chain.append(FrequencyPenalty(sampling.frequency_penalty, prompt_lengths))
    if sampling.no_repeat_ngram_size is not None:
        chain.append(NoRepeatNGramLogitsProcessor(sampling.no_repeat_ngram_size))
    if sampling.do_sample:
        chain.extend(_warpers(sampling))
        chain.append(SampleNoise(seed, samples))
    return LogitsProcessorList(chain)


def _warpers(sampling: Sampling) -> list[LogitsProcessor]:
    """What narrows the choice, in transformers' order."""
    warpers: list[LogitsProcessor] = []
    if sampling.temperature != 1.0:
        warpers.append(TemperatureLogitsWarper(float(sampling.temperature)))
    if sampling.top_k is not None:
        warpers.append(TopKLogitsWarper(sampling.top_k))
    if sampling.top_p is not None and sampling.top_p < 1:
        warpers.append(TopPLogitsWarper(sampling.top_p))
    if sampling.min_p is not None:
        warpers.append(MinPLogitsWarper(sampling.min_p))
    if sampling.typical_p is not None:
        warpers.append(TypicalLogitsWarper(sampling.typical_p))
    return warpers


class SampleNoise(LogitsProcessor):
    """Adds Gumbel noise to the scores, which makes the largest score a sample of their softmax.

    ``argmax(log p - log E)`` with E exponential is a draw from p (the Gumbel-max trick; Maddison et al. 2014,
    "A* Sampling", section 2).

    Args:
        seed: Where the noise comes from, not negative.
        samples: For each row of the batch the number of its sample.
    """

    def __init__(self, seed: int, samples: Sequence[int]) -> None:
        if seed < 0:
            raise ConfigurationError(f"The seed must not be negative (given: {seed}).")
        numbers = list(dict.fromkeys(samples))
        # Noise is drawn on the CPU, so that a seed gives the same text on every device.
        self._generators = [_generator(seed, number) for number in numbers]
        self._row_of = torch.tensor([numbers.index(sample) for sample in samples])

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:  # noqa: ARG002
        """Scores with noise, [rows, vocabulary]."""
        width = scores.shape[-1]
        drawn = torch.stack([torch.empty(width).exponential_(generator=one) for one in self._generators])
        noise = drawn.clamp_(min=torch.finfo(torch.float32).tiny).log_()
        return scores - noise[self._row_of].to(scores.device)


class FrequencyPenalty(LogitsProcessor):
    """Takes ``penalty`` from a token's logit for every time that it stands in the text, prompt included."""

    def __init__(self, penalty: float, prompt_lengths: Sequence[int]) -> None:
        self._penalty = penalty
        self._lengths = tuple(prompt_lengths)
        self._padding: Tensor | None = None

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Scores with the penalty taken off, [rows, vocabulary]."""
        if self._padding is None:
            lengths = torch.tensor(self._lengths, device=input_ids.device)
            self._padding = input_ids.shape[1] - lengths
        columns = torch.arange(input_ids.shape[1], device=input_ids.device)
        weight = (columns >= self._padding[:, None]).to(scores.dtype) * self._penalty
        return scores.scatter_add(1, input_ids, -weight)


class _Admissible(LogitsProcessor):
    """Stops at logits that are not numbers, and keeps out rows of the embedding that are no token."""

    def __init__(self, vocab_size: int) -> None:
        self._vocab_size = vocab_size

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:  # noqa: ARG002
        if bool(scores.isnan().any()):
            raise NumericalError(
                "The model's logits are NaN: the edit is too strong for the model's number format.",
                hint="Use a smaller value, or load the model in float32.",
            )
        if scores.shape[-1] > self._vocab_size:
            scores[:, self._vocab_size :] = float("-inf")
        return scores


def _generator(seed: int, sample: int) -> torch.Generator:
    state = np.random.SeedSequence([seed, sample]).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state) & 0x7FFF_FFFF_FFFF_FFFF)
