"""What each operation does to an activation."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from onesense.errors import ConfigurationError, IncompatibleError, NotFoundError, NumericalError
from onesense.model.language_model import LanguageModel
from onesense.model.positions import Positions
from onesense.sae.dictionary import Dictionary
from onesense.sae.preparation import Normalization, Preparation
from onesense.steer.edit import Edit, Operation, Unit
from onesense.steer.intervention import EditGroup, Intervention
from onesense.steer.where import EVERYWHERE, Where

MakeDictionary = Callable[..., Dictionary]


@pytest.fixture(scope="module")
def hidden() -> Tensor:
    return torch.randn(2, 7, 32, generator=torch.Generator().manual_seed(1)) * 3


def _positions(hidden: Tensor) -> Positions:
    batch, length = hidden.shape[:2]
    index = torch.arange(length).expand(batch, length)
    ids = torch.full((batch, length), 9)
    ids[:, 0] = 256
    return Positions(index, torch.ones_like(ids, dtype=torch.bool), ids, torch.full((batch,), length), True)


def _run(
    model: LanguageModel, dictionary: Dictionary, edits: list[Edit], hidden: Tensor, *, stack: bool = False
) -> Tensor:
    return Intervention(model, EditGroup(dictionary, edits, stack=stack))(hidden, _positions(hidden))


def _edit(
    operation: Operation, value: float | None = None, feature: int = 4, where: Where = EVERYWHERE
) -> Edit:
    return Edit(feature=feature, operation=operation, value=value, where=where)


EXPECTED: dict[Operation, Callable[[Tensor], Tensor]] = {
    Operation.SCALE: lambda z: 0.5 * z,
    Operation.ABLATE: torch.zeros_like,
    Operation.ADD: lambda z: (z - 0.7).clamp(min=0),
    Operation.CLAMP: lambda z: torch.full_like(z, 1.5),
    Operation.CAP: lambda z: z.clamp(max=0.8),
    Operation.FLOOR: lambda z: z.clamp(min=0.8),
}
VALUES = {
    Operation.SCALE: 0.5, Operation.ABLATE: None, Operation.ADD: -0.7,
    Operation.CLAMP: 1.5, Operation.CAP: 0.8, Operation.FLOOR: 0.8,
}  # fmt: skip


@pytest.mark.parametrize("operation", list(EXPECTED))
def test_a_latent_changes_and_the_rest_stays(
    tiny_llama: LanguageModel, dictionary: Dictionary, hidden: Tensor, operation: Operation
) -> None:
    latent = dictionary.encode(hidden)[..., 4]
    assert (latent > 1).any()
    assert (latent == 0).any()
    new = _run(tiny_llama, dictionary, [_edit(operation, VALUES[operation])], hidden)
    row = dictionary.decoder_rows(torch.tensor([4]))[0]
    change = (EXPECTED[operation](latent) - latent)[..., None] * row
    torch.testing.assert_close(new, hidden + change, atol=1e-5, rtol=1e-5)
    # Where the latent keeps its value, the activation keeps its bits.
    kept = EXPECTED[operation](latent) == latent
    assert torch.equal(new[kept], hidden[kept])


def test_a_direction_is_added_at_every_position(
    tiny_llama: LanguageModel, dictionary: Dictionary, hidden: Tensor
) -> None:
    new = _run(tiny_llama, dictionary, [Edit.plain(4, 300.0)], hidden)
    torch.testing.assert_close(new, hidden + 300.0 * dictionary.W_dec[4])


def test_special_tokens_are_left_alone_unless_asked(
    tiny_llama: LanguageModel, dictionary: Dictionary, hidden: Tensor
) -> None:
    new = _run(tiny_llama, dictionary, [_edit(Operation.DIRECTION_ADD, 3.0, where=Where())], hidden)
    assert torch.equal(new[:, 0], hidden[:, 0])
    assert not (new[:, 1:] == hidden[:, 1:]).all(-1).any()


def test_a_projected_direction_is_gone(
    tiny_llama: LanguageModel, dictionary: Dictionary, hidden: Tensor
) -> None:
    features = [4, 9, 30]
    new = _run(
        tiny_llama, dictionary, [_edit(Operation.PROJECT_OUT, feature=one) for one in features], hidden
    )
    rows = dictionary.decoder_rows(torch.tensor(features))
    assert (hidden @ rows.T).abs().max() > 1
    assert (new @ rows.T).abs().max() < 1e-4
    # Only their span is touched.
    basis = torch.linalg.qr(rows.T).Q
    change = new - hidden
    torch.testing.assert_close(change - change @ basis @ basis.T, torch.zeros_like(change), atol=1e-4, rtol=0)


def test_nothing_of_a_projected_direction_comes_back(
    tiny_llama: LanguageModel, dictionary: Dictionary, hidden: Tensor
) -> None:
    edits = [_edit(Operation.PROJECT_OUT), _edit(Operation.DIRECTION_ADD, 50.0, feature=7)]
    new = _run(tiny_llama, dictionary, edits, hidden)
    assert (new @ dictionary.W_dec[4]).abs().max() < 1e-3


def test_half_a_projection_leaves_half(
    tiny_llama: LanguageModel, dictionary: Dictionary, hidden: Tensor
) -> None:
    new = _run(tiny_llama, dictionary, [_edit(Operation.PROJECT_OUT, 0.5)], hidden)
    torch.testing.assert_close(new @ dictionary.W_dec[4], hidden @ dictionary.W_dec[4] / 2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_edits_that_change_nothing_keep_every_bit(
    tiny_llama: LanguageModel, dictionary: Dictionary, hidden: Tensor, dtype: torch.dtype
) -> None:
    stored = hidden.to(dtype)
    stored[0, 0, :4] = torch.tensor([-0.0, 0.0, -0.0, 1e-30])
    edits = [
        _edit(Operation.SCALE, 1.0, 0),
        _edit(Operation.CAP, 1e9, 1),
        _edit(Operation.FLOOR, -1.0, 2),
        _edit(Operation.ADD, 0.0, 3),
        _edit(Operation.DIRECTION_ADD, 0.0, 4),
        _edit(Operation.PROJECT_OUT, 0.0, 5),
    ]
    for chosen in ([], edits):
        new = _run(tiny_llama, dictionary, chosen, stored)
        assert new.dtype == dtype
        assert torch.equal(new.view(torch.int16), stored.view(torch.int16))


@pytest.mark.parametrize("normalization", [Normalization.LAYER_NORM, Normalization.CONSTANT_NORM])
def test_a_normalisation_of_each_tokens_own_is_undone(
    tiny_llama: LanguageModel, dictionary: Dictionary, hidden: Tensor, normalization: Normalization
) -> None:
    normalized = replace(dictionary, preparation=Preparation(normalization=normalization))
    latents = normalized.encode(hidden)
    changed = latents.clone()
    changed[..., 4] = 2.0
    expected = hidden + normalized.decode(changed, hidden) - normalized.decode(latents, hidden)
    new = _run(tiny_llama, normalized, [_edit(Operation.CLAMP, 2.0)], hidden)
    torch.testing.assert_close(new, expected, atol=1e-4, rtol=1e-4)


def test_maths_is_done_in_float32(tiny_llama: LanguageModel, dictionary: Dictionary, hidden: Tensor) -> None:
    stored = hidden.to(torch.bfloat16)
    edits = [_edit(Operation.CLAMP, 2.0), _edit(Operation.DIRECTION_ADD, 0.3, 7)]
    exact = _run(tiny_llama, dictionary, edits, stored.float())
    assert torch.equal(_run(tiny_llama, dictionary, edits, stored), exact.to(torch.bfloat16))


def test_stacked_edits_act_in_their_order(
    tiny_llama: LanguageModel, dictionary: Dictionary, hidden: Tensor
) -> None:
    edits = [_edit(Operation.CLAMP, 4.0), _edit(Operation.SCALE, 0.5)]
    latent = dictionary.encode(hidden)[..., 4:5]
    new = _run(tiny_llama, dictionary, edits, hidden, stack=True)
    torch.testing.assert_close(new, hidden + (2.0 - latent) * dictionary.W_dec[4])
    turned = _run(tiny_llama, dictionary, edits[::-1], hidden, stack=True)
    torch.testing.assert_close(turned, hidden + (4.0 - latent) * dictionary.W_dec[4])


def test_two_edits_of_one_feature_are_refused(tiny_llama: LanguageModel, dictionary: Dictionary) -> None:
    edits = [_edit(Operation.ABLATE), _edit(Operation.DIRECTION_ADD, 1.0)]
    with pytest.raises(ConfigurationError, match="twice") as caught:
        Intervention(tiny_llama, EditGroup(dictionary, edits))
    assert "stack" in str(caught.value.hint)


def test_a_feature_out_of_range_is_refused(tiny_llama: LanguageModel, dictionary: Dictionary) -> None:
    with pytest.raises(NotFoundError, match="48 features"):
        Intervention(tiny_llama, EditGroup(dictionary, [Edit.plain(48, 1.0)]))


def test_a_dictionary_of_another_width_is_refused(
    tiny_llama: LanguageModel, make_dictionary: MakeDictionary
) -> None:
    with pytest.raises(IncompatibleError, match="16"):
        Intervention(tiny_llama, EditGroup(make_dictionary(d_in=16), [Edit.plain(0, 1.0)]))


def test_a_unit_whose_number_is_unknown_is_refused(tiny_llama: LanguageModel, dictionary: Dictionary) -> None:
    edit = Edit(feature=0, operation=Operation.ADD, value=1.0, unit=Unit.MAX)
    with pytest.raises(ConfigurationError, match="largest activation"):
        Intervention(tiny_llama, EditGroup(dictionary, [edit]))
    known = Intervention(tiny_llama, EditGroup(dictionary, [edit], max_activation={0: 6.0}))
    assert known.amounts.tolist() == [6.0]


def test_an_edit_so_large_that_it_overflows_is_told(
    tiny_llama: LanguageModel, dictionary: Dictionary
) -> None:
    with pytest.raises(NumericalError):
        Intervention(tiny_llama, EditGroup(dictionary, [Edit.plain(0, 1e39)]))


def test_ten_thousand_edits(
    tiny_llama: LanguageModel, make_dictionary: MakeDictionary, hidden: Tensor
) -> None:
    large = make_dictionary(d_sae=10_000)
    new = _run(tiny_llama, large, [_edit(Operation.ABLATE, feature=one) for one in range(10_000)], hidden)
    torch.testing.assert_close(new, hidden - large.encode(hidden) @ large.W_dec, atol=1e-3, rtol=1e-4)


@pytest.mark.parametrize("operation", [Operation.SCALE, Operation.ADD, Operation.CLAMP,
                                       Operation.DIRECTION_ADD, Operation.PROJECT_OUT])  # fmt: skip
def test_gradients_reach_the_amounts_even_where_nothing_changes_yet(
    tiny_llama: LanguageModel, dictionary: Dictionary, hidden: Tensor, operation: Operation
) -> None:
    neutral = 1.0 if operation is Operation.SCALE else 0.0
    intervention = Intervention(tiny_llama, EditGroup(dictionary, [_edit(operation, neutral)]))
    amounts = intervention.amounts.clone().requires_grad_()
    target = torch.randn(hidden.shape, generator=torch.Generator().manual_seed(2))
    (intervention.with_amounts(amounts)(hidden, _positions(hidden)) * target).sum().backward()
    assert amounts.grad is not None
    step = 1e-2
    higher, lower = (
        (intervention.with_amounts(intervention.amounts + by)(hidden, _positions(hidden)) * target).sum()
        for by in (step, -step if operation is not Operation.ADD else 0.0)
    )
    width = 2 * step if operation is not Operation.ADD else step
    # `add` does not let an idle latent go below zero, so its slope is one-sided.
    assert amounts.grad.item() == pytest.approx(((higher - lower) / width).item(), rel=2e-2, abs=0.05)
    assert amounts.grad.item() != 0


def test_another_device_gets_every_tensor(
    tiny_llama: LanguageModel, make_dictionary: MakeDictionary, monkeypatch: pytest.MonkeyPatch
) -> None:
    operations = (Operation.SCALE, Operation.DIRECTION_ADD, Operation.PROJECT_OUT)
    edits = [Edit(feature=n, operation=operation, value=0.5) for n, operation in enumerate(operations)]
    here = Intervention(tiny_llama, EditGroup(make_dictionary(), edits))
    # nobody can look into tensors of the device that computes nothing
    monkeypatch.setattr("onesense.sae.architecture._check_finite", lambda *_: None)
    there = here.to(torch.device("meta"))

    def devices(value: object) -> list[str]:
        if isinstance(value, Dictionary):
            return devices(list(value.tensors().values()))
        if isinstance(value, list | tuple):
            return [device for one in value for device in devices(one)]
        return [value.device.type] if isinstance(value, Tensor) else []

    assert here.to(torch.device("cpu")) is here
    assert devices(list(vars(here).values())) == ["cpu"] * 15
    assert devices(list(vars(there).values())) == ["meta"] * 15
    assert copy.deepcopy(here) is here
