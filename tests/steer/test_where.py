"""Which positions an edit changes."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from onesense.errors import ConfigurationError, IncompatibleError
from onesense.model.language_model import LanguageModel
from onesense.model.positions import Positions
from onesense.steer.where import Selector, Where, token_ids

# Two rows of a prompt of 4 and 2 tokens (BOS first) that has gone on by 2, padded on the left.
IDS = torch.tensor([[256, 11, 12, 13, 14, 15], [0, 0, 256, 11, 12, 11]])
REAL = torch.tensor([[1, 1, 1, 1, 1, 1], [0, 0, 1, 1, 1, 1]], dtype=torch.bool)
POSITIONS = Positions((REAL.long().cumsum(1) - 1).clamp(min=0), REAL, IDS, torch.tensor([4, 2]), True)


@pytest.mark.parametrize(
    ("fields", "rows"),
    [
        ({}, (".11111", "...111")),
        ({"special": True}, ("111111", "..1111")),
        ({"window": "prompt"}, (".111..", "...1..")),
        ({"window": "generation"}, ("...111", "...111")),
        ({"window": "generation", "special": True}, ("...111", "...111")),
        ({"window": "generation", "first": 1}, ("...1..", "...1..")),
        ({"window": "generation", "first": 2}, ("...11.", "...11.")),
        ({"first": 2}, (".1....", "...1..")),
        ({"first": 2, "special": True}, ("11....", "..11..")),
        ({"last": 1}, ("...1..", "...1..")),
        ({"last": 2, "window": "prompt"}, ("..11..", "...1..")),
        ({"positions": [(2, 4)]}, ("..11..", "....11")),
        ({"positions": [(-1, None)]}, ("...111", "...111")),
        ({"positions": [(-3, -1)], "special": True}, (".11...", "..1...")),
        ({"positions": [(1, 2), (5, None)]}, (".1...1", "...1..")),
        ({"first": 2, "last": 1}, (".1.1..", "...1..")),
        ({"include": [11]}, (".1....", "...1.1")),
        ({"include": [11, 12], "exclude": [12]}, (".1....", "...1.1")),
        ({"exclude": [11]}, ("..1111", "....1.")),
        ({"include": [256]}, ("......", "......")),
        ({"include": [256], "special": True}, ("1.....", "..1...")),
    ],
)
def test_the_positions_that_are_named(
    tiny_llama: LanguageModel, fields: dict[str, Any], rows: tuple[str, str]
) -> None:
    chosen = Selector(Where.model_validate(fields), tiny_llama)(POSITIONS)
    found = tuple("".join("1" if cell else "." for cell in row) for row in chosen.tolist())
    assert found == rows


def test_one_position_at_a_time_names_the_same(tiny_llama: LanguageModel) -> None:
    where = Where(window="generation", positions=((-2, None),), exclude=(14,))  # type: ignore[arg-type]
    selector = Selector(where, tiny_llama)
    whole = selector(POSITIONS)
    for column in range(IDS.shape[1]):
        one = slice(column, column + 1)
        alone = Positions(
            POSITIONS.index[:, one], REAL[:, one], IDS[:, one], POSITIONS.prompt_length, prompt_known=True
        )
        assert torch.equal(selector(alone), whole[:, one])


def test_tokens_by_id_by_spelling_and_by_text(tiny_llama: LanguageModel) -> None:
    space = tiny_llama.vocabulary().index("Ġ")
    assert token_ids(tiny_llama, (space, "Ġ", " ")) == (space, space, space)


@pytest.mark.parametrize("token", ["she", "", 10**6])
def test_what_is_not_one_token_is_refused(tiny_llama: LanguageModel, token: str | int) -> None:
    with pytest.raises(ConfigurationError):
        token_ids(tiny_llama, (token,))


def test_an_unknown_end_of_the_prompt_matters_only_where_it_is_asked_for(tiny_llama: LanguageModel) -> None:
    unknown = Positions(POSITIONS.index, REAL, IDS, POSITIONS.prompt_length, prompt_known=False)
    assert Selector(Where(), tiny_llama)(unknown).any()
    with pytest.raises(ConfigurationError, match="prompt"):
        Selector(Where(window="prompt"), tiny_llama)(unknown)  # type: ignore[arg-type]


def test_embeddings_have_no_special_tokens_to_tell(tiny_llama: LanguageModel) -> None:
    embedded = Positions(POSITIONS.index, REAL, None, POSITIONS.prompt_length, prompt_known=True)
    assert torch.equal(Selector(Where(special=True), tiny_llama)(embedded), REAL)
    with pytest.raises(IncompatibleError, match="embeddings"):
        Selector(Where(), tiny_llama)(embedded)
