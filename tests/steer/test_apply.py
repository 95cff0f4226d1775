"""Edits in a running model: where they act, that they go away, and that silence is told."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor

from onesense.errors import ConfigurationError, HookPointError
from onesense.model.capture import capture
from onesense.model.hook_points import HookPoint
from onesense.model.language_model import LanguageModel
from onesense.model.tokens import pad_batch
from onesense.sae.dictionary import Dictionary
from onesense.steer.apply import SteeringWarning, applied, applied_by_row, changes_nothing, prepare
from onesense.steer.edit import Edit, Operation
from onesense.steer.intervention import EditGroup
from onesense.steer.where import EVERYWHERE, Where

MakeDictionary = Callable[..., Dictionary]
ROWS = [[256, *range(10 + n, 13 + 2 * n)] for n in range(8)]
OPERATIONS = [
    Edit.plain(3, 9.0),
    Edit(feature=4, operation=Operation.CLAMP, value=6.0),
    Edit(feature=5, operation=Operation.PROJECT_OUT),
    Edit(feature=6, operation=Operation.ADD, value=5.0, where=Where(positions=((2, 4), (-1, None)))),
    Edit(feature=7, operation=Operation.DIRECTION_ADD, value=8.0, where=Where(window="prompt", first=3)),  # type: ignore[arg-type]
    Edit(feature=8, operation=Operation.FLOOR, value=4.0, where=Where(window="generation")),  # type: ignore[arg-type]
]


@pytest.fixture
def groups(dictionary: Dictionary, make_dictionary: MakeDictionary) -> list[EditGroup]:
    """Edits of every kind at two hook points."""
    early = make_dictionary("blocks.0.hook_resid_pre", seed=5)
    return [EditGroup(dictionary, OPERATIONS), EditGroup(early, [Edit.plain(0, 2.0)])]


def _hooks(model: LanguageModel) -> int:
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.hf.modules())


def _padded(model: LanguageModel, rows: list[list[int]], side: str) -> list[Tensor]:
    """Logits of each row's real tokens, from one padded batch."""
    batch = pad_batch(model, rows, side=side)  # type: ignore[arg-type]
    with torch.no_grad():
        logits = model.hf(
            input_ids=batch.ids, attention_mask=batch.attention_mask, position_ids=batch.position_ids
        ).logits
    return [row[mask == 1] for row, mask in zip(logits, batch.attention_mask, strict=True)]


@pytest.mark.parametrize("edits", [[], [Edit(feature=1, operation=Operation.SCALE, value=1.0)]])
def test_a_recipe_without_effect_is_bit_equal(
    model: LanguageModel, dictionary: Dictionary, edits: list[Edit]
) -> None:
    ids = torch.tensor([ROWS[3]])
    with torch.no_grad(), applied(model, [EditGroup(dictionary, edits)], warn=False) as report:
        edited = model.hf(ids).logits
    with torch.no_grad():
        plain = model.hf(ids).logits
    assert torch.equal(edited.view(torch.int32), plain.view(torch.int32))
    assert report.positions == 0


def test_ablating_a_feature_with_the_error_kept_moves_the_logits(
    model: LanguageModel, dictionary: Dictionary
) -> None:
    ids = torch.tensor([ROWS[3]])
    point = dictionary.hook_point
    batch = pad_batch(model, [ROWS[3]])
    before = capture(model, batch, [point])[point]
    feature = int(dictionary.encode(before)[0, 1:].sum(0).argmax())
    group = EditGroup(dictionary, [Edit(feature=feature, operation=Operation.ABLATE)])
    with torch.no_grad(), applied(model, [group], warn=False) as report:
        edited = model.hf(ids).logits
        after = capture(model, batch, [point])[point]
    with torch.no_grad():
        assert (edited - model.hf(ids).logits).abs().max() > 1e-3
    assert report.positions > 0
    # Only the feature's own contribution is gone; the BOS keeps its bits.
    latent = dictionary.encode(before)[..., feature, None]
    torch.testing.assert_close(after[:, 1:], (before - latent * dictionary.W_dec[feature])[:, 1:])
    assert torch.equal(after[:, 0], before[:, 0])


@pytest.mark.parametrize("side", ["left", "right"])
def test_batch_and_padding_do_not_matter(model: LanguageModel, groups: list[EditGroup], side: str) -> None:
    with applied(model, groups, warn=False):
        alone = [_padded(model, [row], "right")[0] for row in ROWS]
        together = _padded(model, ROWS, side)
    plain = _padded(model, ROWS, side)
    for one, other, untouched in zip(alone, together, plain, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)
        assert (one - untouched).abs().max() > 1e-2


def test_one_token_at_a_time_on_a_cache_gives_the_same_logits(
    model: LanguageModel, groups: list[EditGroup]
) -> None:
    ids, prompt = torch.tensor([ROWS[5]]), 6
    with torch.no_grad(), applied(model, groups, prompt_lengths=[prompt], warn=False):
        whole = model.hf(ids, use_cache=False).logits
    with torch.no_grad(), applied(model, groups, warn=False):
        output = model.hf(ids[:, :prompt], use_cache=True)
        pieces = [output.logits]
        for place in range(prompt, ids.shape[1]):
            output = model.hf(ids[:, place : place + 1], cache=output.cache, use_cache=True)
            pieces.append(output.logits)
    torch.testing.assert_close(torch.cat(pieces, 1), whole, atol=1e-5, rtol=1e-5)


def test_a_prompt_in_chunks_gives_the_same_logits(model: LanguageModel, groups: list[EditGroup]) -> None:
    ids = torch.tensor([ROWS[5]])
    with torch.no_grad(), applied(model, groups, prompt_lengths=[ids.shape[1]], warn=False):
        whole = model.hf(ids).logits
        first = model.hf(ids[:, :4], use_cache=True)
        second = model.hf(ids[:, 4:], cache=first.cache, use_cache=True)
    torch.testing.assert_close(torch.cat([first.logits, second.logits], 1), whole, atol=1e-5, rtol=1e-5)


def test_padding_is_never_edited(model: LanguageModel, dictionary: Dictionary) -> None:
    rows = [ROWS[0], ROWS[4]]
    batch = pad_batch(model, rows, side="left")
    with torch.no_grad(), applied(model, [EditGroup(dictionary, [Edit.plain(3, 9.0)])], warn=False) as report:
        model.hf(input_ids=batch.ids, attention_mask=batch.attention_mask, position_ids=batch.position_ids)
    assert report.positions == sum(len(row) for row in rows)


def test_rows_have_edits_of_their_own(model: LanguageModel, dictionary: Dictionary) -> None:
    variants = [prepare(model, [EditGroup(dictionary, [Edit.plain(3, value)])]) for value in (9.0, -4.0)]
    ids = torch.tensor([ROWS[3]] * 4)
    with torch.no_grad(), applied_by_row(model, variants, [1, None, 0, 1]) as report:
        mixed = model.hf(ids).logits
    with torch.no_grad():
        plain = model.hf(ids).logits
        for row, variant in ((0, 1), (2, 0), (3, 1)):
            with applied(model, variants[variant], warn=False):
                torch.testing.assert_close(mixed[row], model.hf(ids).logits[row], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(mixed[1], plain[1], atol=1e-5, rtol=1e-5)
    first, second = (report.doses_of(variant)[0] for variant in (0, 1))
    assert (first.positions, second.positions) == (len(ROWS[3]), 2 * len(ROWS[3]))
    assert first.relative == pytest.approx(9 / 4 * second.relative)  # type: ignore[operator]


def test_rows_that_do_not_fit_the_batch_are_refused(model: LanguageModel, dictionary: Dictionary) -> None:
    variants = [prepare(model, [EditGroup(dictionary, [Edit.plain(3, 1.0)])])]
    with pytest.raises(ConfigurationError, match="3 rows"), applied_by_row(model, variants, [0, 0, None]):
        model.hf(torch.tensor([ROWS[3]] * 4))


def test_the_dose_is_the_share_of_the_norm_that_was_added(
    model: LanguageModel, dictionary: Dictionary
) -> None:
    batch, point = pad_batch(model, [ROWS[6]]), dictionary.hook_point
    norm = capture(model, batch, [point])[point][batch.content].norm(dim=-1).mean().item()
    with applied(model, [EditGroup(dictionary, [Edit.plain(3, 0.5 * norm)])]) as report:
        model.hf(batch.ids)
    (dose,) = report.doses
    assert dose.mean_norm == pytest.approx(norm, rel=1e-5)
    assert dose.relative == pytest.approx(0.5, rel=1e-5)
    assert dose.largest == pytest.approx(0.5, rel=1e-5)
    assert report.warnings() == ()


def test_a_dose_above_one_is_warned_of(model: LanguageModel, dictionary: Dictionary) -> None:
    group = EditGroup(dictionary, [Edit.plain(3, 1e4)])
    with pytest.warns(SteeringWarning, match="relative dose"), applied(model, [group]):
        model.hf(torch.tensor([ROWS[3]]))


def test_a_recipe_that_moves_nothing_is_told(model: LanguageModel, dictionary: Dictionary) -> None:
    batch = pad_batch(model, [ROWS[3]])
    nothing = [EditGroup(dictionary, [Edit(feature=1, operation=Operation.SCALE, value=1.0)])]
    something = [EditGroup(dictionary, [Edit(feature=1, operation=Operation.CLAMP, value=3.0)])]
    assert changes_nothing(model, nothing, batch)
    assert changes_nothing(model, [], batch)
    assert not changes_nothing(model, something, batch)
    with pytest.warns(SteeringWarning, match="changed no activation"), applied(model, nothing):
        model.hf(batch.ids)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with applied(model, [EditGroup(dictionary, [Edit.plain(1, 0.1)])]):
            model.hf(batch.ids)


def test_edits_that_never_ran_raise(model: LanguageModel, groups: list[EditGroup]) -> None:
    with pytest.raises(HookPointError, match="never ran"), applied(model, groups):
        pass


def test_an_error_in_the_block_is_the_one_that_is_seen(model: LanguageModel, groups: list[EditGroup]) -> None:
    count = _hooks(model)
    with pytest.raises(KeyboardInterrupt), applied(model, groups):
        raise KeyboardInterrupt
    assert _hooks(model) == count


def test_a_closed_generator_takes_its_hooks_away(model: LanguageModel, groups: list[EditGroup]) -> None:
    count = _hooks(model)

    def steps() -> Iterator[Tensor]:
        with applied(model, groups, warn=False):
            while True:
                yield model.hf(torch.tensor([ROWS[2]])).logits

    iterator = steps()
    assert next(iterator).isfinite().all()
    assert _hooks(model) > count
    iterator.close()  # type: ignore[attr-defined]
    assert _hooks(model) == count


def test_nested_edits_act_one_after_the_other(model: LanguageModel, make_dictionary: MakeDictionary) -> None:
    early, late = (
        make_dictionary("blocks.0.hook_resid_post"),
        make_dictionary("blocks.2.hook_resid_post", seed=3),
    )
    outer, inner = EditGroup(early, [Edit.plain(1, 5.0)]), EditGroup(late, [Edit.plain(2, 7.0)])
    ids = torch.tensor([ROWS[3]])
    with torch.no_grad():
        with applied(model, [outer], warn=False), applied(model, [inner], warn=False):
            nested = model.hf(ids).logits
        with applied(model, [outer, inner], warn=False):
            torch.testing.assert_close(model.hf(ids).logits, nested)


def test_edits_may_act_at_another_layer_than_the_dictionarys(
    model: LanguageModel, dictionary: Dictionary
) -> None:
    point = HookPoint.parse("blocks.2.hook_resid_pre").at_layer(2)
    group = EditGroup(dictionary, [Edit(feature=0, value=3.0, where=EVERYWHERE)], hook_point=point)
    batch = pad_batch(model, [ROWS[1]])
    before = capture(model, batch, [point])[point]
    with applied(model, [group], warn=False):
        after = capture(model, batch, [point])[point]
    torch.testing.assert_close(after, before + 3.0 * dictionary.W_dec[0])
