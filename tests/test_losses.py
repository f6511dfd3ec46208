"""Losses against their published formulas, in float64, value and gradient."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from gan_bench.losses import Loss
from gan_bench.registry import LOSSES

LOGITS = torch.linspace(-8, 8, 33, dtype=torch.float64)


def build(name: str) -> Loss:
    loss: Loss = LOSSES.build(LOSSES.parse(name))
    return loss


# As written in Goodfellow et al. 2014, with D = sigmoid(logit).
G_FORMULAS = {
    "saturating": lambda logits: torch.log(1 - torch.sigmoid(logits)).mean(),
    "non_saturating": lambda logits: -torch.log(torch.sigmoid(logits)).mean(),
}


def value_and_gradient(function: object, logits: Tensor) -> tuple[Tensor, Tensor]:
    logits = logits.clone().requires_grad_()
    value = function(logits)  # type: ignore[operator]
    return value.detach(), torch.autograd.grad(value, logits)[0]


@pytest.mark.parametrize("name", sorted(G_FORMULAS))
def test_g_loss_is_its_formula(name: str) -> None:
    ours, our_gradient = value_and_gradient(build(name).generator, LOGITS)
    theirs, their_gradient = value_and_gradient(G_FORMULAS[name], LOGITS)
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(our_gradient, their_gradient, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", sorted(G_FORMULAS))
def test_d_terms_are_their_formulas(name: str) -> None:
    real, fake = build(name).discriminator(LOGITS, LOGITS.flip(0) + 1)
    torch.testing.assert_close(real, -torch.log(torch.sigmoid(LOGITS)).mean(), rtol=1e-12,
                               atol=1e-12)
    expected = -torch.log(1 - torch.sigmoid(LOGITS.flip(0) + 1)).mean()
    torch.testing.assert_close(fake, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", [entry.name for entry in LOSSES])
@pytest.mark.parametrize("logit", [-100.0, 100.0])
def test_finite_with_finite_gradient_at_extreme_logits(name: str, logit: float) -> None:
    logits = torch.full((4,), logit)
    for function in (build(name).generator, lambda x: sum(build(name).discriminator(x, -x))):
        value, gradient = value_and_gradient(function, logits)
        assert value.isfinite()
        assert gradient.isfinite().all()


@pytest.mark.parametrize("name", [entry.name for entry in LOSSES])
def test_signs(name: str) -> None:
    """Descending G's loss raises D(G(z)); descending D's raises D(x) and lowers D(G(z))."""
    loss, logits = build(name), torch.tensor([-1.0, 0.5])
    assert (value_and_gradient(loss.generator, logits)[1] < 0).all()
    assert (value_and_gradient(lambda x: loss.discriminator(x, logits)[0], logits)[1] < 0).all()
    assert (value_and_gradient(lambda x: loss.discriminator(logits, x)[1], logits)[1] > 0).all()


def test_gradients_differ_where_the_losses_are_said_to() -> None:
    """At logit x, |d/dx| is sigmoid(x) for the saturating and sigmoid(-x) for the other."""
    logit = torch.tensor([-6.0], dtype=torch.float64)
    slow = value_and_gradient(build("saturating").generator, logit)[1]
    fast = value_and_gradient(build("non_saturating").generator, logit)[1]
    torch.testing.assert_close(slow, -torch.sigmoid(logit))
    torch.testing.assert_close(fast, -torch.sigmoid(-logit))
