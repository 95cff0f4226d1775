"""KL at each node: the numbers and gradients of automatic differentiation, in whatever parts it is made."""

from __future__ import annotations

import pytest
import torch

from onesense.debias.token_divergence import token_divergences


def _pair(nodes: int = 7, vocabulary: int = 50) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    base = torch.randn(nodes, vocabulary, generator=generator).log_softmax(-1)
    return base, 3 * torch.randn(nodes, vocabulary, generator=generator)


@pytest.mark.parametrize("rows", [1, 3, 100])
def test_value_and_gradient_are_those_of_the_definition(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    base, logits = _pair()
    monkeypatch.setattr("onesense.debias.token_divergence._BYTES_AT_ONCE", rows * base.shape[1] * 4)
    weights = torch.arange(1.0, 8.0)
    found, wanted = (logits.clone().requires_grad_() for _ in range(2))
    mine = token_divergences(base, found)
    plain = (base.exp() * (base - wanted.log_softmax(-1))).sum(-1)
    torch.testing.assert_close(mine.float(), plain, rtol=1e-5, atol=1e-6)
    (mine * weights).sum().backward()
    (plain * weights).sum().backward()
    torch.testing.assert_close(found.grad, wanted.grad, rtol=1e-4, atol=1e-5)
    assert float(wanted.grad.abs().max()) > 0.1


def test_the_gradient_is_a_finite_difference() -> None:
    base, logits = (one.double() for one in _pair(2, 5))
    assert torch.autograd.gradcheck(lambda some: token_divergences(base, some), logits.requires_grad_())


def test_nothing_changed_has_no_divergence_and_nothing_is_kept_without_gradients() -> None:
    base, _ = _pair()
    divergence = token_divergences(base, base)
    assert float(divergence.abs().max()) < 1e-6
    assert divergence.grad_fn is None


def test_an_empty_pass_has_no_divergence() -> None:
    assert token_divergences(torch.empty(0, 5), torch.empty(0, 5)).shape == (0,)
