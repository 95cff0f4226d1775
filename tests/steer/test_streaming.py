"""Text as it comes."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from onesense.model.language_model import LanguageModel
from onesense.model.tokens import encode_text
from onesense.steer.streaming import BatchStreamer, TextPieces


@settings(max_examples=60)
@given(data=st.data())
def test_pieces_add_up_to_the_text_and_hold_whole_characters(
    tiny_llama: LanguageModel, data: st.DataObject
) -> None:
    text = data.draw(st.text(max_size=30))
    ids = encode_text(tiny_llama, text, prepend_bos=False)
    whole = tiny_llama.decode(ids)
    pieces = TextPieces(tiny_llama, encode_text(tiny_llama, "so "))
    told = [pieces.add(token) for token in ids]
    assert "".join([*told, pieces.finish()]) == whole
    if "\N{REPLACEMENT CHARACTER}" not in whole:
        assert not any("\N{REPLACEMENT CHARACTER}" in piece for piece in told)


def test_half_a_character_is_told_at_the_end(tiny_llama: LanguageModel) -> None:
    first = encode_text(tiny_llama, "é", prepend_bos=False)[0]
    pieces = TextPieces(tiny_llama)
    assert pieces.add(first) == ""
    assert pieces.finish() == "\N{REPLACEMENT CHARACTER}"


def test_rows_are_told_apart_and_end_at_their_stop_token(tiny_llama: LanguageModel) -> None:
    a, b = encode_text(tiny_llama, "ab", prepend_bos=False)
    told: list[tuple[int, str, bool]] = []
    streamer = BatchStreamer(tiny_llama, [(256, a), (256, b)], [257], lambda *one: told.append(one))
    streamer.put(torch.tensor([[256, a], [256, b]]))
    streamer.put(torch.tensor([a, b]))
    streamer.put(torch.tensor([257, a]))
    streamer.put(torch.tensor([b, b]))
    streamer.end()
    assert told == [
        (0, "a", False),
        (1, "b", False),
        (0, "", True),
        (1, "a", False),
        (1, "b", False),
        (1, "", True),
    ]
