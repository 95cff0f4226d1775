"""How strong an edit is."""

from __future__ import annotations

import pytest
import torch

from onesense.errors import ConfigurationError, NumericalError
from onesense.model.capture import capture
from onesense.model.hook_points import HookPoint
from onesense.model.language_model import LanguageModel
from onesense.model.positions import Positions
from onesense.model.tokens import encode_text, pad_batch
from onesense.sae.dictionary import Dictionary
from onesense.steer.apply import applied
from onesense.steer.dose import Dose, DoseMeter, dose_warnings, measure_mean_norm
from onesense.steer.edit import Edit, Operation, Unit
from onesense.steer.intervention import EditGroup
from onesense.text.corpus import Document

POINT = HookPoint.parse("blocks.1.hook_resid_post")
DOCUMENTS = [
    Document(0, "one", "The cat sat."),
    Document(1, "none", ""),
    Document(2, "two", "It rained on it."),
]


def _positions(ids: list[list[int]]) -> Positions:
    tokens = torch.tensor(ids)
    index = torch.arange(tokens.shape[1]).expand_as(tokens)
    return Positions(index, tokens >= 0, tokens, torch.full((len(ids),), tokens.shape[1]), prompt_known=True)


def test_special_tokens_and_padding_do_not_count_in_the_norm() -> None:
    before = torch.tensor([[[900.0, 0.0], [700.0, 0.0], [3.0, 4.0], [0.0, 15.0]]])
    after = before.clone()
    after[0, 2] += torch.tensor([0.0, 5.0])
    meter = DoseMeter(POINT, [0])
    positions = _positions([[-1, 0, 5, 6]])
    meter.observe(before, after, positions)
    assert meter.read() == Dose(POINT, 1, 0.5, 0.5, 10.0)


def test_passes_add_up() -> None:
    meter = DoseMeter(POINT, [])
    positions = _positions([[5, 6]])
    before = torch.full((1, 2, 1), 2.0)
    for change in (1.0, 3.0, 0.0):
        meter.observe(before, before + change, positions)
    dose = meter.read()
    assert (dose.positions, dose.relative, dose.largest) == (4, 1.0, 1.5)


def test_a_known_norm_is_taken_as_it_is() -> None:
    meter = DoseMeter(POINT, [], mean_norm=8.0)
    before = torch.full((1, 2, 1), 2.0)
    meter.observe(before, before + 4.0, _positions([[5, 6]]))
    assert meter.read().relative == 0.5


def test_only_what_the_user_should_know_is_said() -> None:
    assert dose_warnings([Dose(POINT, 3, 0.9, 0.9, 1.0)]) == ()
    assert "1.50" in dose_warnings([Dose(POINT, 3, 1.5, 2.0, 1.0)])[0]
    assert "no activation" in dose_warnings([Dose(POINT, 0, None, None, 1.0)])[0]
    assert dose_warnings([Dose(POINT, 0, None, None, 1.0), Dose(POINT, 3, 0.5, 0.5, 1.0)]) == ()


def test_the_mean_norm_is_that_of_the_tokens(model: LanguageModel) -> None:
    rows = [encode_text(model, document.text) for document in DOCUMENTS if document.text]
    batch = pad_batch(model, rows)
    norms = capture(model, batch, [POINT])[POINT].norm(dim=-1)[batch.content]
    kept = norms[norms <= 5 * norms.median()]
    assert measure_mean_norm(model, POINT, DOCUMENTS) == pytest.approx(kept.mean().item(), rel=1e-5)


def test_text_without_a_token_has_no_norm(model: LanguageModel) -> None:
    with pytest.raises(ConfigurationError, match="no token"):
        measure_mean_norm(model, POINT, [Document(0, "none", "")])


def test_activations_that_are_no_numbers_have_no_norm(tiny_llama: LanguageModel) -> None:
    broken = tiny_llama.resolve(POINT).module.register_forward_hook(lambda _m, _a, output: output * torch.nan)
    try:
        with pytest.raises(NumericalError, match="NaN"):
            measure_mean_norm(tiny_llama, POINT, DOCUMENTS)
    finally:
        broken.remove()


def test_a_share_of_the_norm_is_the_dose(model: LanguageModel, dictionary: Dictionary) -> None:
    norm = measure_mean_norm(model, POINT, DOCUMENTS)
    edit = Edit(feature=2, operation=Operation.DIRECTION_ADD, value=0.25, unit=Unit.NORM)
    with applied(model, [EditGroup(dictionary, [edit], mean_norm=norm)]) as report:
        model.hf(torch.tensor([encode_text(model, "The cat sat.")]))
    assert report.doses[0].relative == pytest.approx(0.25, rel=1e-4)
