"""Steered text beside unsteered text."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from onesense.errors import ConfigurationError, NumericalError
from onesense.model.language_model import LanguageModel
from onesense.model.tokens import encode_text
from onesense.sae.dictionary import Dictionary
from onesense.steer.apply import applied, prepare
from onesense.steer.decoding import Row, encode_prompt, generate_rows
from onesense.steer.edit import Edit, Operation
from onesense.steer.generate import Generation, Piece, generate, stream, sweep
from onesense.steer.intervention import EditGroup, Intervention
from onesense.steer.sampling import GREEDY, Sampling
from onesense.steer.where import Where

MakeDictionary = Callable[..., Dictionary]
PROMPT = "What is your"


@pytest.fixture
def groups(dictionary: Dictionary, make_dictionary: MakeDictionary) -> list[EditGroup]:
    """Edits that depend on tokens, latents and windows, at two hook points."""
    early = make_dictionary("blocks.0.hook_resid_post", seed=5)
    edits = [
        Edit.plain(3, 9.0),
        Edit(feature=4, operation=Operation.CLAMP, value=6.0, where=Where(window="generation")),  # type: ignore[arg-type]
        Edit(feature=5, operation=Operation.PROJECT_OUT, where=Where(positions=((-2, None),))),
    ]
    return [
        EditGroup(dictionary, edits),
        EditGroup(early, [Edit(feature=0, value=3.0, where=Where(window="prompt", first=4))]),  # type: ignore[arg-type]
    ]


def _hooks(model: LanguageModel) -> int:
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.hf.modules())


def _greedy(
    model: LanguageModel, interventions: list[Intervention], prompts: list[str], **options: Any
) -> list[tuple[int, ...]]:
    rows = [Row(encode_prompt(model, prompt, max_new_tokens=12), 0, 0) for prompt in prompts]
    samples, _ = generate_rows(
        model, rows, [interventions], sampling=GREEDY, max_new_tokens=12, seed=0, **options
    )
    return [sample.ids for sample in samples]


def test_with_and_without_cache_alone_and_padded_the_text_is_the_same(
    model: LanguageModel, groups: list[EditGroup]
) -> None:
    interventions = prepare(model, groups)
    prompts = [PROMPT[: 2 + place] for place in range(8)]
    alone = [_greedy(model, interventions, [prompt])[0] for prompt in prompts]
    assert _greedy(model, interventions, prompts) == alone
    assert _greedy(model, interventions, prompts, use_cache=False) == alone
    assert _greedy(model, [], prompts) != alone


def test_each_token_is_what_one_whole_pass_would_give(model: LanguageModel, groups: list[EditGroup]) -> None:
    prompt = encode_text(model, PROMPT)
    (made,) = _greedy(model, prepare(model, groups), [PROMPT])
    whole = torch.tensor([[*prompt, *made]])
    with torch.no_grad(), applied(model, groups, prompt_lengths=[len(prompt)], warn=False):
        logits: Tensor = model.hf(whole).logits[..., : model.vocab_size]
    assert logits[0, len(prompt) - 1 : -1].argmax(-1).tolist() == list(made)


@pytest.mark.parametrize("window", ["all", "prompt", "generation"])
def test_the_first_generated_token_is_steered(
    model: LanguageModel, dictionary: Dictionary, window: str
) -> None:
    where = Where(window=window)  # type: ignore[arg-type]
    group = EditGroup(dictionary, [Edit(feature=3, value=400.0, where=where)])
    steered = generate(model, PROMPT, [group], samples=1, max_new_tokens=1, sampling=GREEDY)
    first = steered.steered[0].ids
    prompt = torch.tensor([encode_text(model, PROMPT)])
    with torch.no_grad():
        hidden: list[Tensor] = []
        handle = model.resolve(dictionary.hook_point).module.register_forward_hook(
            lambda _module, _args, output: _shifted(output, 400.0 * dictionary.W_dec[3], hidden)
        )
        by_hand = int(model.hf(prompt).logits[0, -1, : model.vocab_size].argmax())
        handle.remove()
    assert hidden
    assert first != steered.unsteered[0].ids
    if window == "all":
        assert first == (by_hand,)


def _shifted(output: Any, vector: Tensor, seen: list[Tensor]) -> Any:
    tensor = output[0] if isinstance(output, tuple) else output
    seen.append(tensor)
    # Not at the BOS, which is special.
    new = torch.cat([tensor[:, :1], tensor[:, 1:] + vector], 1)
    return (new, *output[1:]) if isinstance(output, tuple) else new


def test_three_and_three_from_one_seed(model: LanguageModel, groups: list[EditGroup]) -> None:
    made = generate(model, PROMPT, groups, max_new_tokens=8, seed=4)
    again = generate(model, PROMPT, groups, max_new_tokens=8, seed=4)
    other = generate(model, PROMPT, groups, max_new_tokens=8, seed=5)
    assert (len(made.steered), len(made.unsteered)) == (3, 3)
    assert made == again
    assert made.steered != other.steered
    assert len({sample.ids for sample in made.steered}) == 3
    assert made.steered != made.unsteered
    assert {sample.ending for sample in made.steered} <= {"length", "stop"}


def test_an_empty_recipe_gives_the_same_texts_on_both_sides(model: LanguageModel) -> None:
    made = generate(model, PROMPT, [], max_new_tokens=8)
    assert made.steered == made.unsteered
    assert made.doses == ()


def test_a_sample_does_not_depend_on_how_many_there_are(
    model: LanguageModel, groups: list[EditGroup]
) -> None:
    many = generate(model, PROMPT, groups, samples=4, max_new_tokens=8)
    few = generate(model, PROMPT, groups, samples=1, unsteered=False, max_new_tokens=8)
    assert few.steered == many.steered[:1]
    assert few.unsteered == ()


def test_what_it_made_is_json(model: LanguageModel, groups: list[EditGroup]) -> None:
    made = generate(model, PROMPT, groups, samples=1, max_new_tokens=3)
    value = json.loads(json.dumps(made.to_json(), allow_nan=False))
    assert value["steered"][0]["text"] == made.steered[0].text
    assert [dose["hook_point"] for dose in value["doses"]] == [group.point.name for group in groups]
    assert all(dose["relative"] > 0 for dose in value["doses"])


def test_edits_without_effect_are_told(model: LanguageModel, dictionary: Dictionary) -> None:
    idle = EditGroup(dictionary, [Edit(feature=0, operation=Operation.SCALE, value=1.0)])
    made = generate(model, PROMPT, [idle], samples=1, max_new_tokens=2)
    assert "changed no activation" in made.warnings[0]
    strong = EditGroup(dictionary, [Edit.plain(0, 1e5)])
    assert "relative dose" in generate(model, PROMPT, [strong], samples=1, max_new_tokens=2).warnings[0]


def test_a_prompt_that_spells_a_special_token_stays_text(model: LanguageModel) -> None:
    ids = encode_prompt(model, "so <eos> <bos>", max_new_tokens=1)
    assert (ids.count(256), ids.count(257)) == (1, 0)
    assert model.decode(ids) == "so <eos> <bos>"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prompt": ""}, "empty"),
        ({"prompt": " \n\t"}, "empty"),
        ({"prompt": "a" * 128}, "context"),
        ({"prompt": "a" * 10**5}, "context"),
        ({"max_new_tokens": 10**5}, "do not fit"),
        ({"max_new_tokens": 0}, "one token"),
        ({"samples": 0}, "one sample"),
        ({"seed": -1}, "seed"),
    ],
)
def test_what_cannot_be_generated_is_refused(
    model: LanguageModel, groups: list[EditGroup], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        generate(model, edits=groups, **({"prompt": PROMPT} | options))


def test_an_edit_that_breaks_the_numbers_is_told(model: LanguageModel, dictionary: Dictionary) -> None:
    count = _hooks(model)
    group = EditGroup(dictionary, [Edit.plain(0, 3e38)] * 100, stack=True)
    with pytest.raises(NumericalError):
        generate(model, PROMPT, [group], samples=1, max_new_tokens=3)
    assert _hooks(model) == count


def test_pieces_come_as_they_are_made_and_add_up(model: LanguageModel, groups: list[EditGroup]) -> None:
    told: dict[tuple[bool, int], str] = {}
    lengths: list[int] = []

    def tell(piece: Piece) -> None:
        key = (piece.steered, piece.sample)
        told[key] = told.get(key, "") + piece.text
        lengths.append(len(piece.text))

    made = generate(model, PROMPT, groups, samples=2, max_new_tokens=10, on_piece=tell)
    assert len(lengths) > 4
    for sample in made.steered:
        assert told[True, sample.number] == sample.text
    for sample in made.unsteered:
        assert told[False, sample.number] == sample.text


def test_a_stream_ends_in_the_whole(model: LanguageModel, groups: list[EditGroup]) -> None:
    *pieces, last = stream(model, PROMPT, groups, samples=1, max_new_tokens=6, seed=2)
    assert last == generate(model, PROMPT, groups, samples=1, max_new_tokens=6, seed=2)
    assert isinstance(last, Generation)
    text = "".join(piece.text for piece in pieces if isinstance(piece, Piece) and piece.steered)
    assert text == last.steered[0].text


def test_a_closed_stream_ends_the_model_and_takes_the_hooks_away(
    model: LanguageModel, groups: list[EditGroup]
) -> None:
    count, threads = _hooks(model), threading.active_count()
    iterator = stream(model, PROMPT, groups, samples=1, max_new_tokens=40)
    assert isinstance(next(iterator), Piece)
    iterator.close()  # type: ignore[attr-defined]
    assert _hooks(model) == count
    assert threading.active_count() == threads


def test_an_error_in_the_stream_reaches_its_reader(model: LanguageModel, groups: list[EditGroup]) -> None:
    with pytest.raises(ConfigurationError, match="empty"):
        next(stream(model, "", groups))


def test_a_cancelled_text_ends_early_and_says_so(model: LanguageModel, groups: list[EditGroup]) -> None:
    cancel = threading.Event()
    made = generate(
        model, PROMPT, groups, samples=1, max_new_tokens=40, cancel=cancel, on_piece=lambda _: cancel.set()
    )
    assert made.steered[0].ending == "cancelled"
    assert len(made.steered[0].ids) < 40


def test_two_threads_steer_one_model_without_touching_each_other(
    model: LanguageModel, dictionary: Dictionary
) -> None:
    recipes = [[EditGroup(dictionary, [Edit.plain(feature, 30.0)])] for feature in (3, 7)]
    expected = [generate(model, PROMPT, recipe, max_new_tokens=8) for recipe in recipes]
    found: dict[int, Generation] = {}

    def work(number: int) -> None:
        found[number] = generate(model, PROMPT, recipes[number], max_new_tokens=8)

    threads = [threading.Thread(target=work, args=(number,)) for number in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[0], found[1]] == expected


@pytest.fixture
def calls(model: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """The batch size of every call of the model's own ``generate``."""
    sizes: list[int] = []
    original: Any = model.hf.generate

    def counted(ids: Tensor, **options: Any) -> Any:
        sizes.append(ids.shape[0])
        return original(ids, **options)

    monkeypatch.setattr(model.hf, "generate", counted)
    return sizes  # type: ignore[return-value]


def test_both_sides_are_one_batch(model: LanguageModel, groups: list[EditGroup], calls: list[int]) -> None:
    generate(model, PROMPT, groups, max_new_tokens=2)
    assert calls == [6]


def test_a_sweep_is_one_batch_and_each_step_its_own_recipe(
    model: LanguageModel, dictionary: Dictionary, calls: list[int]
) -> None:
    unit = [EditGroup(dictionary, [Edit.plain(3, 1.0)])]
    made = sweep(model, PROMPT, unit, [0.0, 5.0, -20.0], samples=2, max_new_tokens=6, seed=3)
    assert calls == [8]
    assert [step.coefficient for step in made.steps] == [0.0, 5.0, -20.0]
    assert made.steps[0].samples == made.unsteered
    for step in made.steps[1:]:
        alone = [EditGroup(dictionary, [Edit.plain(3, step.coefficient)])]
        expected = generate(model, PROMPT, alone, samples=2, max_new_tokens=6, seed=3)
        assert step.samples == expected.steered
    doses = [step.doses[0].relative for step in made.steps[1:]]
    assert doses[1] == pytest.approx(4 * doses[0], rel=0.5)  # type: ignore[operator]
    assert json.loads(json.dumps(made.to_json(), allow_nan=False))["steps"][1]["coefficient"] == 5.0


def test_pieces_of_a_sweep_add_up_to_its_texts(model: LanguageModel, groups: list[EditGroup]) -> None:
    pieces: list[Piece] = []
    made = sweep(
        model, PROMPT, groups, [0.0, 2.0], samples=2, max_new_tokens=8, seed=1, on_piece=pieces.append
    )
    told: dict[tuple[int | None, int], str] = {}
    for piece in pieces:
        place = (piece.step if piece.steered else None, piece.sample)
        told[place] = told.get(place, "") + piece.text
    texts = {(at, one.number): one.text for at, step in enumerate(made.steps) for one in step.samples}
    assert told == texts | {(None, one.number): one.text for one in made.unsteered}
    assert sum(piece.ended for piece in pieces) == 6


def test_a_cancelled_sweep_ends_early_and_takes_the_hooks_away(
    model: LanguageModel, groups: list[EditGroup]
) -> None:
    cancel = threading.Event()
    made = sweep(
        model, PROMPT, groups, [1.0, 2.0], max_new_tokens=40, on_piece=lambda _: cancel.set(), cancel=cancel
    )
    endings = {one.ending for step in made.steps for one in step.samples}
    assert "cancelled" in endings
    assert all(len(one.ids) < 40 for step in made.steps for one in step.samples)
    assert _hooks(model) == 0


@pytest.mark.parametrize("coefficients", [[], [math.nan], [1.0, math.inf]])
def test_a_sweep_without_numbers_is_refused(
    model: LanguageModel, groups: list[EditGroup], coefficients: list[float]
) -> None:
    with pytest.raises(ConfigurationError, match="coefficients"):
        sweep(model, PROMPT, groups, coefficients)


def test_greedy_text_is_transformers_own(model: LanguageModel) -> None:
    prompt = torch.tensor([encode_text(model, PROMPT)])
    options: dict[str, Any] = {"max_new_tokens": 8, "do_sample": False, "pad_token_id": 257}
    theirs: Any = model.hf.generate(prompt, suppress_tokens=[258, 259], **options)  # type: ignore[operator]
    ours = generate(model, PROMPT, [], samples=1, unsteered=False, max_new_tokens=8, sampling=GREEDY)
    theirs = [token for token in theirs[0, prompt.shape[1] :].tolist() if token != 257]
    assert list(ours.steered[0].ids) == theirs


def test_a_frequency_penalty_keeps_tokens_from_coming_back(tiny_llama: LanguageModel) -> None:
    plain = generate(tiny_llama, PROMPT, [], samples=1, max_new_tokens=30, sampling=GREEDY)
    without = Sampling(do_sample=False, frequency_penalty=1e6)
    varied = generate(tiny_llama, PROMPT, [], samples=1, max_new_tokens=30, sampling=without)
    assert len(set(plain.steered[0].ids)) < len(plain.steered[0].ids)
    assert len(set(varied.steered[0].ids)) == len(varied.steered[0].ids)
