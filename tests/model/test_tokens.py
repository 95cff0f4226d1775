"""The BOS policy, and text that spells special tokens (sae.md 3: 14, 16, 62; product.md 6: 20)."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from onesense.errors import ConfigurationError
from onesense.model.language_model import LanguageModel
from onesense.model.tokens import describe_bos, encode_text, pad_batch
from tiny_models import make_byte_tokenizer, tiny_hf


@settings(deadline=None)
@given(text=st.text())
def test_any_text_survives(tiny_gpt2: LanguageModel, text: str) -> None:
    ids = encode_text(tiny_gpt2, text)
    assert ids[0] == 256
    assert 256 not in ids[1:]
    assert 257 not in ids[1:]
    assert tiny_gpt2.decode(ids) == text.encode("utf-8", errors="replace").decode()


@pytest.mark.parametrize("spelled", ["<|im_start|>", "<|endoftext|>", "a<|im_end|>b"])
def test_text_that_spells_a_special_token_stays_text(demo_model: LanguageModel, spelled: str) -> None:
    ids = encode_text(demo_model, spelled)
    assert ids[0] == demo_model.bos_id
    assert not demo_model.special_ids & set(ids[1:])
    assert demo_model.decode(ids[1:]) == spelled


def test_one_bos_and_it_is_described(demo_model: LanguageModel) -> None:
    assert encode_text(demo_model, "Hello") == [1, *encode_text(demo_model, "Hello", prepend_bos=False)]
    assert "id 1" in describe_bos(demo_model)


def test_bos_id_zero_is_an_id() -> None:
    tokenizer = make_byte_tokenizer()
    tokenizer.bos_token = tokenizer.convert_ids_to_tokens(0)
    model = LanguageModel.from_hf(tiny_hf("gpt2"), tokenizer, "zero")
    assert model.bos_id == 0
    ids = encode_text(model, "xyz")
    assert ids[0] == 0
    assert len(ids) == 4
    assert not bool(pad_batch(model, [ids]).content[0, 0])


def test_a_tokenizer_without_bos_drops_no_token() -> None:
    tokenizer = make_byte_tokenizer()
    tokenizer.bos_token = None
    model = LanguageModel.from_hf(tiny_hf("gpt2"), tokenizer, "none")
    assert encode_text(model, "ab") == encode_text(model, "ab", prepend_bos=False)
    assert bool(pad_batch(model, [encode_text(model, "ab")]).content.all())
    assert "no BOS" in describe_bos(model)


def test_a_model_without_a_tokenizer_takes_token_ids_only() -> None:
    model = LanguageModel.from_hf(tiny_hf("gpt2"), None, "bare")
    assert model.vocab_size == 260
    assert pad_batch(model, [[1, 2]]).content.tolist() == [[True, True]]
    with pytest.raises(ConfigurationError, match="has no tokenizer"):
        encode_text(model, "text")


def test_a_padded_vocabulary_counts_only_what_the_tokenizer_knows(tiny_gpt2: LanguageModel) -> None:
    assert tiny_gpt2.hf.get_input_embeddings().weight.shape[0] == 260
    assert tiny_gpt2.vocab_size == 258
    assert len(tiny_gpt2.vocabulary()) == 258


@pytest.mark.parametrize("side", ["left", "right"])
def test_positions_are_absolute(tiny_gpt2: LanguageModel, side: str) -> None:
    batch = pad_batch(tiny_gpt2, [[256, 1, 2, 3], [256, 4]], side=side)  # type: ignore[arg-type]
    for row, length in enumerate((4, 2)):
        real = batch.attention_mask[row] == 1
        assert batch.position_ids[row][real].tolist() == list(range(length))
    assert batch.padded
    assert batch.left_padded is (side == "left")
    assert int(batch.content.sum()) == 4
    assert batch.ids.dtype == torch.long
