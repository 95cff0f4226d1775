"""How tokens are chosen."""

from __future__ import annotations

import math

import pytest
import torch

from onesense.errors import ConfigurationError, NumericalError
from onesense.steer.sampling import GREEDY, FrequencyPenalty, SampleNoise, Sampling, logits_processors

IDS = torch.tensor([[3, 3, 1]])


def _draws(sampling: Sampling, scores: torch.Tensor, rows: int, seed: int = 0) -> torch.Tensor:
    chain = logits_processors(
        sampling, seed=seed, samples=range(rows), prompt_lengths=[1] * rows, vocab_size=scores.numel()
    )
    return chain(torch.zeros(rows, 1, dtype=torch.long), scores.repeat(rows, 1)).argmax(-1)


def test_noise_draws_from_the_softmax() -> None:
    scores = torch.tensor([2.0, 1.0, 0.0, -1.0])
    rows = 4000
    share = torch.bincount(_draws(Sampling(temperature=2.0), scores, rows), minlength=4) / rows
    # Four standard deviations of a share of 4000 draws.
    assert (share - torch.softmax(scores / 2, -1)).abs().max() < 4 * math.sqrt(0.25 / rows)


def test_top_k_and_top_p_narrow_the_choice() -> None:
    scores = torch.tensor([2.0, 1.9, 1.8, 1.7])
    assert set(_draws(Sampling(top_k=2), scores, 300).tolist()) == {0, 1}
    assert set(_draws(Sampling(top_p=0.1), scores, 300).tolist()) == {0}


def test_a_sample_is_the_same_alone_and_among_others() -> None:
    scores = torch.zeros(1, 50)
    among = SampleNoise(7, [0, 1, 2, 1])(IDS, scores.repeat(4, 1))
    alone = SampleNoise(7, [1])(IDS, scores)
    assert torch.equal(among[1], alone[0])
    assert torch.equal(among[1], among[3])
    assert not torch.equal(among[0], among[1])
    assert not torch.equal(SampleNoise(8, [1])(IDS, scores), alone)


def test_each_step_has_noise_of_its_own() -> None:
    noise = SampleNoise(7, [0])
    assert not torch.equal(noise(IDS, torch.zeros(1, 50)), noise(IDS, torch.zeros(1, 50)))


def test_a_token_pays_for_every_time_it_stands_in_the_text() -> None:
    ids = torch.tensor([[3, 3, 1], [0, 0, 2]])
    penalty = FrequencyPenalty(0.5, [3, 1])
    assert penalty(ids, torch.zeros(2, 4)).tolist() == [[0.0, -0.5, 0.0, -1.0], [0.0, 0.0, -0.5, 0.0]]
    longer = torch.cat([ids, torch.tensor([[1], [2]])], 1)
    assert penalty(longer, torch.zeros(2, 4)).tolist() == [[0.0, -1.0, 0.0, -1.0], [0.0, 0.0, -1.0, 0.0]]


def test_rows_that_are_no_token_are_never_chosen() -> None:
    chain = logits_processors(GREEDY, seed=0, samples=[0], prompt_lengths=[3], vocab_size=3)
    assert chain(IDS, torch.tensor([[0.0, 2.0, 1.0, 9.0]])).argmax().item() == 1


def test_logits_that_are_no_numbers_stop_the_text() -> None:
    chain = logits_processors(GREEDY, seed=0, samples=[0], prompt_lengths=[3], vocab_size=2)
    with pytest.raises(NumericalError, match="NaN"):
        chain(IDS, torch.tensor([[0.0, math.nan]]))


@pytest.mark.parametrize("temperature", [0.0, -1.0])
def test_a_temperature_of_zero_points_to_greedy(temperature: float) -> None:
    with pytest.raises(ConfigurationError, match="above 0") as caught:
        Sampling(temperature=temperature)
    assert "--greedy" in str(caught.value.hint)
    assert Sampling(temperature=temperature, do_sample=False) is not None


@pytest.mark.parametrize(
    "fields",
    [
        {"temperature": math.nan},
        {"top_p": 0.0},
        {"top_p": 1.1},
        {"top_k": 0},
        {"repetition_penalty": 0.0},
        {"typo": 1},
    ],
)
def test_flags_out_of_range_are_refused(fields: dict[str, float]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(fields))):
        Sampling.model_validate(fields)


def test_a_negative_seed_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="seed"):
        SampleNoise(-1, [0])
