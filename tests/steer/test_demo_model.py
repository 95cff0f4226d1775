"""Steering of the real demo model."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from onesense.model.language_model import LanguageModel
from onesense.model.tokens import encode_text, pad_batch
from onesense.sae.dictionary import Dictionary
from onesense.steer.apply import applied, prepare
from onesense.steer.decoding import Row, encode_prompt, generate_rows
from onesense.steer.edit import Edit, Operation
from onesense.steer.generate import generate
from onesense.steer.intervention import EditGroup
from onesense.steer.sampling import GREEDY
from onesense.steer.where import Where

PROMPTS = ["What is your favorite animal?", "She works as a"]


@pytest.fixture(scope="module")
def groups(make_dictionary: Callable[..., Dictionary], demo_model: LanguageModel) -> list[EditGroup]:
    dictionary = make_dictionary("blocks.15.hook_resid_post", d_in=demo_model.d_model, d_sae=64)
    edits = [
        Edit.plain(3, 20.0),
        Edit(feature=5, operation=Operation.ADD, value=15.0, where=Where(window="generation")),  # type: ignore[arg-type]
    ]
    return [EditGroup(dictionary, edits)]


def test_an_empty_recipe_is_bit_equal(demo_model: LanguageModel, groups: list[EditGroup]) -> None:
    ids = torch.tensor([encode_text(demo_model, PROMPTS[0])])
    with torch.no_grad():
        plain = demo_model.hf(ids).logits
        with applied(demo_model, [EditGroup(groups[0].dictionary, [])]):
            assert torch.equal(demo_model.hf(ids).logits.view(torch.int32), plain.view(torch.int32))
        with applied(demo_model, groups, warn=False):
            assert (demo_model.hf(ids).logits - plain).abs().max() > 0.1


def test_cache_and_padding_do_not_change_the_text(demo_model: LanguageModel, groups: list[EditGroup]) -> None:
    variants = [prepare(demo_model, groups)]
    rows = [Row(encode_prompt(demo_model, prompt, max_new_tokens=6), 0, 0) for prompt in PROMPTS]

    def text(chosen: list[Row], use_cache: bool) -> list[str]:
        samples, _ = generate_rows(
            demo_model, chosen, variants, sampling=GREEDY, max_new_tokens=6, seed=0, use_cache=use_cache
        )
        return [sample.text for sample in samples]

    together = text(rows, True)
    assert text(rows, False) == together
    assert [text([row], True)[0] for row in rows] == together


def test_left_and_right_padding_give_the_same_logits(
    demo_model: LanguageModel, groups: list[EditGroup]
) -> None:
    rows = [encode_text(demo_model, prompt) for prompt in PROMPTS]
    found = []
    for side in ("left", "right"):
        batch = pad_batch(demo_model, rows, side=side)  # type: ignore[arg-type]
        with torch.no_grad(), applied(demo_model, groups, warn=False):
            logits = demo_model.hf(
                input_ids=batch.ids, attention_mask=batch.attention_mask, position_ids=batch.position_ids
            ).logits
        found.append(logits[batch.attention_mask == 1])
    # Logits are about 20; the kernels of differently padded batches differ in the last bits.
    torch.testing.assert_close(found[0], found[1], atol=1e-3, rtol=1e-4)


def test_readable_text_on_both_sides(demo_model: LanguageModel, groups: list[EditGroup]) -> None:
    made = generate(demo_model, PROMPTS[0], groups, samples=1, max_new_tokens=8)
    assert made.steered[0].text != made.unsteered[0].text
    assert made.unsteered[0].text.strip()
    assert made.doses[0].relative is not None
