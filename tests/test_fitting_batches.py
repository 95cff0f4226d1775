"""Where the device has no memory for a batch, halves of it are run, with the same results."""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch

from onesense.bias.scoring.requests import Request
from onesense.bias.scoring.scorer import ModelScorer, ScoringSettings
from onesense.cli.main import _showing
from onesense.errors import DeviceError
from onesense.model.batching import FittingBatch, SmallerBatchWarning, is_out_of_memory
from onesense.model.language_model import LanguageModel
from onesense.steer.edit import Edit, Operation
from onesense.steer.generate import Piece, generate, sweep
from onesense.steer.intervention import EditGroup
from onesense.steer.sampling import GREEDY
from onesense.steer.where import Where
from small_recipes import PROMPTS, dictionary_at, group_of

NO_ROOM = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB."),
    RuntimeError("MPS backend out of memory (MPS allocated: 9.05 GB, max allowed: 9.07 GB)"),
    RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."),
    MemoryError(),
]
GROUPS = [
    group_of("blocks.1.hook_resid_post", Operation.SCALE, 0.3),
    group_of("blocks.2.hook_resid_post", Operation.DIRECTION_ADD, 2.0),
]
REQUESTS = [Request(f" she was here {number}.", prompt) for number, prompt in enumerate(PROMPTS)]


@contextmanager
def little_memory(model: LanguageModel, most: int, error: BaseException, sizes: list[int]) -> Iterator[None]:
    """As on a device that takes so many tokens in one pass; half of the model has run when it says so."""

    def fail(_module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        hidden = args[0] if args else kwargs["hidden_states"]
        sizes.append(hidden.shape[0] * hidden.shape[1])
        if sizes[-1] > most:
            raise error

    handle = model.resolve(GROUPS[1].point).module.register_forward_pre_hook(fail, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()


@pytest.mark.parametrize("error", NO_ROOM, ids=lambda error: type(error).__name__)
def test_what_counts_as_out_of_memory(error: BaseException) -> None:
    assert is_out_of_memory(error)


@pytest.mark.parametrize("error", [RuntimeError("shapes cannot be multiplied"), ValueError("out of memory")])
def test_what_does_not(error: Exception) -> None:
    assert not is_out_of_memory(error)

    def work(_some: object) -> None:
        raise error

    with pytest.raises(type(error), match=str(error)):
        list(FittingBatch("Test").over([1, 2], work, tokens=len))


def _taking(most: int, ran: list[list[int]]) -> Callable[[Any], int]:
    def work(some: Any) -> int:
        ran.append(list(some))
        if len(some) > most:
            raise MemoryError
        return sum(some)

    return work


def test_halves_in_their_order_and_for_the_rest_of_the_run() -> None:
    ran: list[list[int]] = []
    fitting = FittingBatch("Test")
    with pytest.warns(SmallerBatchWarning) as told:
        found = list(fitting.over(list(range(8)), _taking(2, ran), tokens=len))
    assert found == [([0, 1], 1), ([2, 3], 5), ([4, 5], 9), ([6, 7], 13)]
    assert [len(some) for some in ran] == [8, 4, 2, 2, 2, 2]
    assert fitting.most == 2
    assert len(told) == 1
    ran.clear()
    assert [len(some) for some, _ in fitting.over(list(range(5)), _taking(2, ran), tokens=len)] == [2, 2, 1]
    assert [len(some) for some in ran] == [2, 2, 1]
    assert pickle.loads(pickle.dumps(fitting)).most == 2  # noqa: S301


def test_tokens_count_and_not_rows() -> None:
    fitting = FittingBatch("Test")
    fitting.most = 12

    def padded(some: Any) -> int:
        return len(some) * max(some)

    parts = [some for some, _ in fitting.over([3, 3, 4, 6, 9, 20], lambda some: None, tokens=padded)]
    assert parts == [[3, 3, 4], [6], [9], [20]]


def test_what_can_be_made_again_is_given_up_first() -> None:
    given_up: list[int] = []
    ran: list[list[int]] = []
    with pytest.warns(SmallerBatchWarning):
        list(
            FittingBatch("Test").over(
                [1, 2], _taking(1, ran), tokens=len, before_retry=lambda: given_up.append(len(ran))
            )
        )
    assert given_up == [1]


def test_one_row_that_does_not_fit() -> None:
    with (
        pytest.warns(SmallerBatchWarning),
        pytest.raises(DeviceError, match="2,048 tokens of a single row") as told,
    ):
        list(FittingBatch("Test").over([0, 1], _taking(0, []), tokens=lambda some: 2048 * len(some)))
    assert "--dtype bfloat16" in (told.value.hint or "")


@pytest.mark.parametrize("trees", [True, False])
@pytest.mark.parametrize("error", NO_ROOM, ids=lambda error: type(error).__name__)
def test_scores(tiny_llama: LanguageModel, error: BaseException, trees: bool) -> None:
    settings = ScoringSettings(batch_tokens=512, trees=trees, prefix_bytes=10**6)
    wanted = ModelScorer(tiny_llama, [None, GROUPS, GROUPS[:1]], settings=settings)
    scores, divergences = wanted.score(REQUESTS), wanted.divergence(REQUESTS)
    effects = wanted.take_effects()
    scorer = ModelScorer(tiny_llama, [None, GROUPS, GROUPS[:1]], settings=settings)
    sizes: list[int] = []
    with little_memory(tiny_llama, 120, error, sizes), pytest.warns(SmallerBatchWarning) as told:
        found = scorer.score(REQUESTS), scorer.divergence(REQUESTS), scorer.logits_equal(REQUESTS, 0)
    assert found[2]
    assert len(told) == 1
    assert max(sizes) > 120
    too_large = [size for size in sizes if size > 120]
    assert all(later < earlier for earlier, later in pairwise(too_large))
    for got, want in zip(found[0], scores, strict=True):
        np.testing.assert_allclose([one.logprob for one in got], [one.logprob for one in want], atol=1e-5)
        assert [one.greedy for one in got] == [one.greedy for one in want]
    for got_kl, want_kl in zip(found[1], divergences, strict=True):
        np.testing.assert_allclose([one.kl for one in got_kl], [one.kl for one in want_kl], atol=1e-5)
    if not trees:  # a tree counts a shared position once for all its texts
        assert [count for count, _ in scorer.take_effects()][:2] == [count for count, _ in effects][:2]


def test_scores_in_threads(tiny_llama: LanguageModel) -> None:
    wanted = ModelScorer(tiny_llama).score(REQUESTS)
    threads = torch.get_num_threads()
    torch.set_num_threads(4)
    try:
        with little_memory(tiny_llama, 60, NO_ROOM[2], []), pytest.warns(SmallerBatchWarning) as told:
            found = ModelScorer(tiny_llama).score(REQUESTS)
    finally:
        torch.set_num_threads(threads)
    assert len(told) == 1
    np.testing.assert_allclose(
        [one.logprob for one in found[0]], [one.logprob for one in wanted[0]], atol=1e-5
    )


def test_a_text_that_does_not_fit_is_refused(tiny_llama: LanguageModel) -> None:
    with (
        little_memory(tiny_llama, 10, NO_ROOM[0], []),
        pytest.warns(SmallerBatchWarning),
        pytest.raises(DeviceError, match="Scoring texts.*single row"),
    ):
        ModelScorer(tiny_llama).score(REQUESTS)


def _edits(operation: Operation, value: float) -> EditGroup:
    edit = Edit(feature=3, operation=operation, value=value, where=Where())
    return EditGroup(dictionary_at("blocks.1.hook_resid_post"), [edit])


@pytest.mark.parametrize("error", NO_ROOM, ids=lambda error: type(error).__name__)
def test_steered_text(tiny_llama: LanguageModel, error: BaseException) -> None:
    group = _edits(Operation.DIRECTION_ADD, 2.0)
    options: dict[str, Any] = {"samples": 4, "max_new_tokens": 12, "seed": 3}
    wanted = generate(tiny_llama, PROMPTS[0], [group], **options)
    pieces: list[Piece] = []
    sizes: list[int] = []
    # The prompt fits and a later step with its one token for each row does not: text was told already.
    length = len(tiny_llama.require_tokenizer()(PROMPTS[0])["input_ids"]) + 1
    with little_memory(tiny_llama, 3 * length, error, sizes), pytest.warns(SmallerBatchWarning) as told:
        found = generate(tiny_llama, PROMPTS[0], [group], on_piece=pieces.append, **options)
    assert len(told) == 1
    assert sizes[0] == 8 * length
    assert (found.steered, found.unsteered) == (wanted.steered, wanted.unsteered)
    assert [dose.positions for dose in found.doses] == [dose.positions for dose in wanted.doses]
    np.testing.assert_allclose(found.doses[0].relative, wanted.doses[0].relative, rtol=1e-5)
    for steered, samples in ((True, found.steered), (False, found.unsteered)):
        for sample in samples:
            mine = [one for one in pieces if one.steered == steered and one.sample == sample.number]
            assert "".join(one.text for one in mine) == sample.text
            assert [one.ended for one in mine].count(True) == 1


def test_text_that_was_told_before_it_failed_is_not_told_twice(tiny_llama: LanguageModel) -> None:
    group = _edits(Operation.DIRECTION_ADD, 2.0)
    options: dict[str, Any] = {"samples": 2, "max_new_tokens": 12, "sampling": GREEDY}
    wanted = generate(tiny_llama, PROMPTS[0], [group], **options)
    pieces: list[Piece] = []
    steps = 0

    def fail(_module: Any, _args: Any) -> None:
        nonlocal steps
        steps += 1
        if steps == 6:
            raise MemoryError

    handle = tiny_llama.resolve(GROUPS[1].point).module.register_forward_pre_hook(fail)
    try:
        with pytest.warns(SmallerBatchWarning):
            found = generate(tiny_llama, PROMPTS[0], [group], on_piece=pieces.append, **options)
    finally:
        handle.remove()
    assert steps > 6
    assert (found.steered, found.unsteered) == (wanted.steered, wanted.unsteered)
    for sample in found.steered:
        mine = [one.text for one in pieces if one.steered and one.sample == sample.number]
        assert "".join(mine) == sample.text


def test_a_sweep(tiny_llama: LanguageModel) -> None:
    group = _edits(Operation.SCALE, 1.0)
    options: dict[str, Any] = {"samples": 2, "max_new_tokens": 8}
    wanted = sweep(tiny_llama, PROMPTS[0], [group], [0.0, 1.0, 3.0], **options).to_json()
    with little_memory(tiny_llama, 100, NO_ROOM[0], []), pytest.warns(SmallerBatchWarning):
        found = sweep(tiny_llama, PROMPTS[0], [group], [0.0, 1.0, 3.0], **options).to_json()
    assert [step["samples"] for step in found["steps"]] == [step["samples"] for step in wanted["steps"]]
    assert found["unsteered"] == wanted["unsteered"]


def test_completions_keep_the_size(tiny_llama: LanguageModel) -> None:
    options = {"samples": 2, "max_new_tokens": 6, "seed": 1}
    wanted = ModelScorer(tiny_llama, [None, GROUPS]).complete(PROMPTS[:6], **options)
    sizes: list[int] = []
    with little_memory(tiny_llama, 200, NO_ROOM[0], sizes), pytest.warns(SmallerBatchWarning) as told:
        found = ModelScorer(tiny_llama, [None, GROUPS]).complete(PROMPTS[:6], **options)
    assert found == wanted
    assert len(told) == 1
    assert sum(size > 200 for size in sizes) <= 2  # halved until it fitted, and never too large again


def test_the_user_gets_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with warnings.catch_warnings():
        warnings.showwarning = _showing(warnings.showwarning)
        warnings.simplefilter("always")
        list(FittingBatch("Scoring texts").over([1, 2, 3, 4], _taking(1, []), tokens=len))
    assert capsys.readouterr().err == (
        "Warning: Scoring texts: the device has no memory for 4 tokens at once; from here on at most 2 are run "
        "together, or fewer.\n"
    )
