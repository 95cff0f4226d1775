"""Edits that stay on a plain model: generation of every kind, adapters, copies, formats, threads, saving."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, pipeline

from onesense.debias.export.copies import copy_of
from onesense.errors import ConfigurationError, IncompatibleError
from onesense.model.language_model import LanguageModel
from onesense.sae.dictionary import Dictionary
from onesense.steer.apply import applied, prepare
from onesense.steer.edit import Edit, Operation
from onesense.steer.intervention import EditGroup
from onesense.steer.lasting import install_lasting
from onesense.steer.where import EVERYWHERE, Where, Window

MakeDictionary = Callable[..., Dictionary]
TEXTS = ("He said", "A nurse and a doctor met", "x")


def groups_of(
    make: MakeDictionary, wheres: Sequence[Where], point: str = "blocks.1.hook_resid_post", d_in: int = 32
) -> list[EditGroup]:
    """A latent edit, an added direction and a projection, each somewhere else."""
    edits = [
        Edit(feature=2, operation=Operation.SCALE, value=-2.0, where=wheres[0]),
        Edit(feature=5, operation=Operation.DIRECTION_ADD, value=4.0, where=wheres[1 % len(wheres)]),
        Edit(feature=9, operation=Operation.PROJECT_OUT, where=wheres[2 % len(wheres)]),
    ]
    return [EditGroup(make(point, d_in=d_in), edits)]


def edited(model: LanguageModel, groups: Sequence[EditGroup]) -> Any:
    twin = copy_of(model)
    install_lasting(twin, prepare(twin, list(groups)))
    return twin.hf


def rows_of(model: LanguageModel, texts: Sequence[str] = TEXTS) -> dict[str, torch.Tensor]:
    """Left-padded with the EOS, as people do."""
    ids = [[256, *model.require_tokenizer().encode(text)] for text in texts]
    width = max(map(len, ids))
    return {
        "input_ids": torch.tensor([[257] * (width - len(row)) + row for row in ids]),
        "attention_mask": torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in ids]),
    }


WINDOWS = [Where(window=Window.GENERATION), Where(last=2), Where(window=Window.PROMPT, special=True)]


def test_it_computes_what_the_recipe_does(model: LanguageModel, make_dictionary: MakeDictionary) -> None:
    groups = groups_of(make_dictionary, [Where(), EVERYWHERE])
    hf = edited(model, groups)
    assert type(hf) is type(model.hf)
    batch = rows_of(model)
    with torch.no_grad():
        with applied(model, groups, warn=False):
            wanted = model.hf(**batch).logits
        assert torch.equal(hf(**batch).logits, wanted)
        assert (wanted - model.hf(**batch).logits).abs().max() > 0.05


@pytest.mark.parametrize("wheres", [[EVERYWHERE], [Where(positions=((2, 6),))], WINDOWS])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"num_beams": 3},
        {"num_beams": 3, "num_return_sequences": 2},
        {"do_sample": True, "num_return_sequences": 2},
    ],
)
def test_cache_and_padding_do_not_change_the_text(
    tiny_llama: LanguageModel, make_dictionary: MakeDictionary, wheres: list[Where], options: dict[str, Any]
) -> None:
    hf = edited(tiny_llama, groups_of(make_dictionary, wheres))

    def generate(model: Any, batch: dict[str, torch.Tensor], **more: Any) -> list[list[int]]:
        torch.manual_seed(0)
        made = model.generate(**batch, max_new_tokens=8, pad_token_id=257, **options, **more)
        new: list[list[int]] = made[:, batch["input_ids"].shape[1] :].tolist()
        return new

    batch = rows_of(tiny_llama)
    with_cache = generate(hf, batch)
    assert generate(hf, batch, use_cache=False) == with_cache
    assert generate(tiny_llama.hf, batch) != with_cache
    if not options.get("do_sample"):
        returned = options.get("num_return_sequences", 1)
        alone = [row for text in TEXTS for row in generate(hf, rows_of(tiny_llama, [text]))]
        assert [_until_end(row) for row in alone] == [_until_end(row) for row in with_cache]
        assert len(alone) == returned * len(TEXTS)


def _until_end(row: list[int]) -> list[int]:
    return row[: row.index(257)] if 257 in row else row


@settings(max_examples=15)
@given(
    lengths=st.lists(st.integers(1, 9), min_size=1, max_size=4),
    first=st.integers(1, 4),
    start=st.integers(-3, 6),
    window=st.sampled_from(list(Window)),
    more=st.sampled_from(
        [{"use_cache": False}, {"prefill_chunk_size": 3}, {"cache_implementation": "static"}]
    ),
)
def test_generated_positions_are_absolute(
    tiny_llama: LanguageModel,
    make_dictionary: MakeDictionary,
    lengths: list[int],
    first: int,
    start: int,
    window: Window,
    more: dict[str, Any],
) -> None:
    """Whatever the rows and the edit's place: a cache of any kind, none, and a prompt read in chunks give one text."""
    where = Where(window=window, first=first, positions=((start, None),))
    hf = edited(tiny_llama, groups_of(make_dictionary, [where]))
    batch = rows_of(tiny_llama, ["abcdefghi"[:length] for length in lengths])
    options: dict[str, Any] = {"max_new_tokens": 4, "pad_token_id": 257, "eos_token_id": None}
    wanted = hf.generate(**batch, **options)
    assert torch.equal(hf.generate(**batch, **options, **more), wanted)


def test_without_a_mask_the_first_pass_says_where_the_prompt_ends(
    tiny_llama: LanguageModel, make_dictionary: MakeDictionary
) -> None:
    hf = edited(tiny_llama, groups_of(make_dictionary, WINDOWS))
    ids = rows_of(tiny_llama, TEXTS[:1])["input_ids"]
    wanted = hf.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=6, pad_token_id=257)
    for use_cache in (True, False):
        found = hf.generate(ids, max_new_tokens=6, pad_token_id=257, use_cache=use_cache)
        assert torch.equal(found, wanted)
    with pytest.raises(ConfigurationError, match="prefill_chunk_size"):
        hf.generate(ids, max_new_tokens=6, pad_token_id=257, prefill_chunk_size=2)
    mask = torch.ones_like(ids)
    looked_up = hf.generate(
        ids, attention_mask=mask, max_new_tokens=6, pad_token_id=257, prompt_lookup_num_tokens=2
    )
    assert torch.equal(looked_up, wanted)


def test_in_a_pipeline(tiny_llama: LanguageModel, make_dictionary: MakeDictionary) -> None:
    hf = edited(tiny_llama, groups_of(make_dictionary, [EVERYWHERE]))
    options: dict[str, Any] = {"max_new_tokens": 8, "do_sample": False, "pad_token_id": 257}
    texts = []
    for model in (hf, tiny_llama.hf):
        pipe = pipeline("text-generation", model=model, tokenizer=tiny_llama.require_tokenizer())
        texts.append(pipe("She works", **options)[0]["generated_text"])
    assert texts[0] != texts[1]
    ids = torch.tensor([tiny_llama.require_tokenizer().encode("She works")])
    again = hf.generate(ids, attention_mask=torch.ones_like(ids), **options)
    assert tiny_llama.decode(again[0].tolist()) == texts[0]


@pytest.mark.parametrize(
    ("point", "d_in"),
    [
        ("blocks.1.hook_resid_post", 32),
        ("blocks.1.hook_resid_mid", 32),
        ("blocks.1.attn.hook_z", 32),
        ("blocks.1.mlp.hook_post", 48),
        ("blocks.1.hook_mlp_out", 32),
    ],
)
def test_with_an_adapter_the_edit_still_applies(
    tiny_llama: LanguageModel, make_dictionary: MakeDictionary, point: str, d_in: int, tmp_path: Path
) -> None:
    groups = groups_of(make_dictionary, [EVERYWHERE], point, d_in)
    batch = rows_of(tiny_llama)
    hf = edited(tiny_llama, groups)
    with torch.no_grad():
        before = hf(**batch).logits
    # The adapter's own path through a module sees the edited state too, so that merged weights do the same.
    configuration = LoraConfig(
        r=4, target_modules="all-linear", init_lora_weights=False, task_type="CAUSAL_LM"
    )
    adapted: Any = get_peft_model(hf, configuration)
    loss = adapted(**batch, labels=batch["input_ids"]).loss
    loss.backward()
    assert all(p.grad is not None for p in adapted.parameters() if p.requires_grad)
    adapted.eval()
    options: dict[str, Any] = {"max_new_tokens": 6, "pad_token_id": 257}
    with torch.no_grad():
        found = adapted(**batch).logits
        text = adapted.generate(**batch, **options)
        assert torch.equal(adapted.generate(**batch, **options, use_cache=False), text)
        with adapted.disable_adapter():
            torch.testing.assert_close(adapted(**batch).logits, before, atol=1e-5, rtol=1e-5)
    adapted.save_pretrained(tmp_path / "adapter")
    back = adapted.merge_and_unload()
    with torch.no_grad():
        torch.testing.assert_close(back(**batch).logits, found, atol=2e-4, rtol=1e-4)
    assert torch.equal(back.generate(**batch, **options), text)


def test_a_copy_has_edits_of_its_own(tiny_llama: LanguageModel, make_dictionary: MakeDictionary) -> None:
    groups = groups_of(make_dictionary, WINDOWS)
    hf = edited(tiny_llama, groups)
    batch = rows_of(tiny_llama)
    options: dict[str, Any] = {"max_new_tokens": 6, "pad_token_id": 257}
    for first_run in (False, True):
        twin = copy.deepcopy(hf)
        assert torch.equal(twin.generate(**batch, **options), hf.generate(**batch, **options)), first_run
    with torch.no_grad():
        before = hf(**batch).logits
        for parameter in twin.parameters():
            parameter.zero_()
        assert torch.equal(hf(**batch).logits, before)
        assert twin.generate(**batch, **options)[:, -6:].unique().tolist() == [0]
    twin = copy.deepcopy(hf)
    get_peft_model(twin, LoraConfig(r=2, target_modules=["down_proj"], init_lora_weights=False))
    with torch.no_grad():
        assert torch.equal(hf(**batch).logits, before)


def test_in_another_number_format(tiny_llama: LanguageModel, make_dictionary: MakeDictionary) -> None:
    groups = groups_of(make_dictionary, [Where()])
    batch = rows_of(tiny_llama)
    with torch.no_grad():
        hf = edited(tiny_llama, groups).to(torch.bfloat16)
        half = copy_of(tiny_llama)
        half.hf.to(torch.bfloat16)
        with applied(half, groups, warn=False):
            wanted = half.hf(**batch).logits
        found = hf(**batch).logits
        assert found.dtype == torch.bfloat16
        assert torch.equal(found, wanted)
        assert (found - half.hf(**batch).logits).abs().max() > 0.05


def test_threads_do_not_see_each_other_s_prompts(
    tiny_llama: LanguageModel, make_dictionary: MakeDictionary
) -> None:
    hf = edited(tiny_llama, groups_of(make_dictionary, WINDOWS))
    batches = [rows_of(tiny_llama, [text]) for text in TEXTS]
    options: dict[str, Any] = {"max_new_tokens": 12, "pad_token_id": 257, "eos_token_id": None}
    wanted = [hf.generate(**batch, **options) for batch in batches]
    found: dict[int, torch.Tensor] = {}

    def run(number: int) -> None:
        found[number] = hf.generate(**batches[number], **options)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(len(batches))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(torch.equal(found[number], wanted[number]) for number in range(len(batches)))


def test_training_reaches_the_weights_before_the_edit(
    tiny_llama: LanguageModel, make_dictionary: MakeDictionary
) -> None:
    hf = edited(tiny_llama, groups_of(make_dictionary, [Where()])).requires_grad_(True).train()
    batch = rows_of(tiny_llama)
    hf(**batch, labels=batch["input_ids"]).loss.backward()
    assert hf.model.layers[0].mlp.down_proj.weight.grad.abs().sum() > 0


def test_saving_is_refused_and_says_what_to_do(
    tiny_llama: LanguageModel, make_dictionary: MakeDictionary, tmp_path: Path
) -> None:
    hf = edited(tiny_llama, groups_of(make_dictionary, [Where()]))
    with pytest.raises(IncompatibleError, match="onesense export"):
        hf.save_pretrained(tmp_path / "model")
    assert not (tmp_path / "model").exists()
    with pytest.raises(IncompatibleError, match="unedited"):
        copy.deepcopy(hf).save_pretrained(tmp_path / "model")
    hf.save_pretrained(tmp_path / "model", without_edits=True)
    ids = rows_of(tiny_llama)
    with torch.no_grad():
        plain = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
        torch.testing.assert_close(plain(**ids).logits, tiny_llama.hf(**ids).logits)
