"""Passes from the first edited block on: the same numbers as whole passes, and gradients that are right."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from onesense.bias.scoring.requests import Request
from onesense.bias.scoring.scorer import ModelScorer
from onesense.debias.forward import (
    edited_until,
    first_edited_block,
    frozen,
    log_probabilities,
    prepare_texts,
    token_logits,
)
from onesense.model.language_model import LanguageModel
from onesense.steer.edit import Edit, Operation
from onesense.steer.intervention import EditGroup, Intervention
from small_recipes import dictionary_at

REQUESTS = [
    Request(" she", "The nurse said that"),
    Request(" he", "The nurse said that"),
    Request(" himself", "The baker hurt"),
    Request(" his", "A cook lost"),
]


def _group(value: float) -> EditGroup:
    edits = [Edit(feature=feature, operation=Operation.SCALE, value=value) for feature in (3, 7)]
    return EditGroup(dictionary_at("blocks.1.hook_resid_pre"), edits)


@pytest.mark.parametrize("family", ["gpt2", "llama", "gpt_neox", "gemma2"])
@pytest.mark.parametrize("max_tokens", [1 << 30, 24])
def test_log_probabilities_are_those_of_the_scorer(
    tiny_model: Callable[[str], LanguageModel], family: str, max_tokens: int
) -> None:
    model = tiny_model(family)
    edits = [Intervention(model, _group(3.0))]
    batches = prepare_texts(model, REQUESTS, first_edited_block(edits), max_tokens=max_tokens)
    with torch.no_grad():
        found = sum(log_probabilities(texts, token_logits(model, texts, edits)) for texts in batches)
    wanted = ModelScorer(model, [None, [_group(3.0)]]).score(REQUESTS)[1]
    torch.testing.assert_close(
        torch.as_tensor(found).double(),
        torch.tensor([one.logprob for one in wanted], dtype=torch.float64),
        rtol=1e-5,
        atol=1e-5,
    )


@pytest.mark.parametrize("family", ["gpt2", "llama", "gpt_neox", "gemma2"])
@pytest.mark.parametrize("max_tokens", [1 << 30, 24])
@pytest.mark.parametrize("later", ["hook_resid_post", "hook_mlp_out"])
def test_what_comes_before_a_later_edit_may_be_run_once(
    tiny_model: Callable[[str], LanguageModel], family: str, max_tokens: int, later: str
) -> None:
    model = tiny_model(family)
    edits = [Edit(feature=feature, operation=Operation.SCALE, value=3.0) for feature in (3, 7)]
    point = f"blocks.{0 if later == 'hook_resid_post' else 1}.{later}"
    first = Intervention(model, EditGroup(dictionary_at("blocks.0.hook_mlp_out"), edits))
    second = Intervention(model, EditGroup(dictionary_at(point, seed=1), edits))
    for texts in prepare_texts(model, REQUESTS, 0, max_tokens=max_tokens):
        going_on = edited_until(model, texts, [first], 1)
        with torch.no_grad():
            for rest in ([second], []):
                whole = token_logits(model, texts, [first, *rest])
                torch.testing.assert_close(token_logits(model, going_on, rest), whole, rtol=1e-5, atol=1e-5)
            assert not torch.equal(token_logits(model, texts, []), whole)


@pytest.mark.parametrize("resume", [True, False])
def test_gradients_are_finite_differences(tiny_llama: LanguageModel, resume: bool) -> None:
    edits = Intervention(tiny_llama, _group(1.0))
    texts = prepare_texts(tiny_llama, REQUESTS, 1, resume=resume)[0]

    def value(amounts: torch.Tensor) -> torch.Tensor:
        scores = log_probabilities(texts, token_logits(tiny_llama, texts, [edits.with_amounts(amounts)]))
        return scores[0] - scores[1]

    amounts = torch.tensor([1.3, 0.4], requires_grad=True)
    (gradient,) = torch.autograd.grad(value(amounts), amounts)
    step = 1e-2
    for place in range(2):
        shift = torch.zeros(2)
        shift[place] = step
        with torch.no_grad():
            slope = (value(amounts + shift) - value(amounts - shift)) / (2 * step)
        assert float(gradient[place]) == pytest.approx(float(slope), rel=0.02, abs=1e-4)


def test_weights_get_no_gradient_and_stay_trainable(tiny_gpt2: LanguageModel) -> None:
    wanted = [parameter.requires_grad for parameter in tiny_gpt2.hf.parameters()]
    with frozen(tiny_gpt2):
        assert not any(parameter.requires_grad for parameter in tiny_gpt2.hf.parameters())
    assert [parameter.requires_grad for parameter in tiny_gpt2.hf.parameters()] == wanted
