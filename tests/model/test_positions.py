"""Positions of a forward pass, from whatever it was told."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from onesense.errors import ConfigurationError, IncompatibleError
from onesense.model.positions import PositionTracker

NAMES = ("input_ids", "cache", "attention_mask", "position_ids")


class _Cache:
    def __init__(self, length: int) -> None:
        self.length = length

    def get_seq_length(self) -> int:
        return self.length


def _padded(lengths: list[int], side: str) -> tuple[Tensor, Tensor]:
    width = max(lengths)
    ids = torch.zeros(len(lengths), width, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, length in enumerate(lengths):
        where = slice(0, length) if side == "right" else slice(width - length, width)
        ids[row, where] = torch.arange(100, 100 + length)
        mask[row, where] = 1
    return ids, mask


@given(lengths=st.lists(st.integers(1, 9), min_size=1, max_size=5), side=st.sampled_from(["left", "right"]))
def test_real_tokens_count_from_zero_whatever_the_padding(lengths: list[int], side: str) -> None:
    ids, mask = _padded(lengths, side)
    positions = PositionTracker(NAMES).observe((), {"input_ids": ids, "attention_mask": mask})
    for row, length in enumerate(lengths):
        assert positions.index[row][positions.real[row]].tolist() == list(range(length))
    assert positions.prompt_length.tolist() == lengths
    assert torch.equal(positions.real, mask == 1)


@given(lengths=st.lists(st.integers(1, 9), min_size=1, max_size=4), steps=st.integers(1, 4))
def test_one_step_on_a_cache_stands_where_it_stands_in_the_whole(lengths: list[int], steps: int) -> None:
    ids, mask = _padded(lengths, "left")
    tracker = PositionTracker(NAMES)
    tracker.observe((), {"input_ids": ids, "attention_mask": mask})
    for step in range(steps):
        mask = torch.cat([mask, torch.ones(len(lengths), 1, dtype=torch.long)], 1)
        new = torch.full((len(lengths), 1), 7)
        cache = _Cache(ids.shape[1] + step)
        positions = tracker.observe((), {"input_ids": new, "attention_mask": mask, "cache": cache})
        assert positions.index[:, 0].tolist() == [length + step for length in lengths]
        assert positions.prompt_length.tolist() == lengths


@pytest.mark.parametrize("name", ["cache", "past_key_values"])
def test_without_mask_and_position_ids_the_cache_tells(name: str) -> None:
    positions = PositionTracker(NAMES).observe((), {"input_ids": torch.ones(2, 3), name: _Cache(5)})
    assert positions.index.tolist() == [[5, 6, 7], [5, 6, 7]]


def test_position_ids_are_believed_first() -> None:
    told = torch.tensor([[4, 5, 6]])
    given_ids = torch.ones(2, 3, dtype=torch.long)
    assert PositionTracker(NAMES).observe(
        (given_ids,), {"position_ids": told, "attention_mask": torch.ones(2, 3)}
    ).index.tolist() == [[4, 5, 6], [4, 5, 6]]


def test_a_mask_that_hides_the_padding_is_refused() -> None:
    with pytest.raises(IncompatibleError, match="padding"):
        PositionTracker(NAMES).observe(
            (), {"input_ids": torch.ones(1, 2), "attention_mask": torch.ones(1, 1, 2, 2)}
        )


def test_prompt_lengths_that_do_not_fit_the_batch_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="3 rows"):
        PositionTracker(NAMES, [1, 2, 3]).observe((), {"input_ids": torch.ones(2, 4)})


def test_the_end_of_a_repeated_prompt_is_not_known() -> None:
    observe: Callable[..., object] = PositionTracker(NAMES).observe
    assert not observe((torch.ones(1, 3),), {"use_cache": False}).prompt_known  # type: ignore[attr-defined]
    told = PositionTracker(NAMES, [2]).observe((torch.ones(1, 3),), {"use_cache": False})
    assert told.prompt_known
    assert told.prompt_length.tolist() == [2]
