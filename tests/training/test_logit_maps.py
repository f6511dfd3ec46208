"""Logits of any shape: what a map for each example counts as, wherever logits are reduced."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from gan_bench.components.losses import Loss
from gan_bench.components.penalties import Penalty
from gan_bench.config.spec import RunSpec
from gan_bench.evaluation.views import DiscriminatorView
from gan_bench.registry import LOSSES, PENALTIES
from gan_bench.training.contract.base import run_spec
from gan_bench.training.step.augmenting import Augmenting
from gan_bench.training.step.changing import ChangingNumbers
from gan_bench.training.step.networks import logit_metrics


def maps(seed: int = 0) -> Tensor:
    return torch.randn(4, 1, 3, 2, generator=torch.Generator().manual_seed(seed)).double()


@pytest.mark.parametrize("name", LOSSES.names())
def test_a_loss_of_maps_is_that_of_all_their_logits(name: str) -> None:
    loss: Loss = LOSSES.build(LOSSES.parse(name))
    real, fake = maps(), maps(1)
    pairs = zip((*loss.discriminator(real, fake), loss.generator(fake, real)),
                (*loss.discriminator(real.flatten(), fake.flatten()),
                 loss.generator(fake.flatten(), real.flatten())), strict=True)
    for of_maps, of_logits in pairs:
        assert of_maps.shape == ()
        assert of_maps.item() == pytest.approx(of_logits.item(), rel=1e-12)
    if name != "batch_jeffreys":  # a sum, whose softmax is over all
        one = torch.tensor([0.3, -0.7, 1.1, 0.2], dtype=torch.float64)
        large = one[:, None, None, None].expand(4, 1, 3, 2)
        for of_maps, of_logits in zip(loss.discriminator(large, -large),
                                      loss.discriminator(one, -one), strict=True):
            assert of_maps.item() == pytest.approx(of_logits.item(), rel=1e-12)


def test_accuracies_count_patches() -> None:
    real = torch.tensor([[1.0, -1.0], [1.0, 1.0]]).reshape(2, 1, 1, 2)
    seen = logit_metrics(real, -3 * real, boundary=0.0)
    assert seen["train/d_accuracy_real"].item() == 0.75
    assert seen["train/d_accuracy_fake"].item() == 0.75
    assert seen["train/d_real"].item() == pytest.approx(real.sigmoid().mean().item(), rel=1e-6)


@pytest.mark.parametrize(("name", "expected"), [
    ("r1", lambda squared: 10 / 2 * squared), ("r2", lambda squared: 10 / 2 * squared),
    ("gradient_penalty", lambda squared: 10 * (squared**0.5 - 1) ** 2)])
def test_a_gradient_is_that_of_the_sum_of_a_map(name: str, expected: Any) -> None:
    """With D(x) = (k · w·x)ₖ for k = 1..6: the gradient of the sum is 21 w."""
    w = torch.randn(3, dtype=torch.float64, generator=torch.Generator().manual_seed(2))

    def d(x: Tensor) -> Tensor:
        return ((x @ w)[:, None] * torch.arange(1.0, 7, dtype=torch.float64)).reshape(-1, 1, 3, 2)

    penalty: Penalty = PENALTIES.build(PENALTIES.parse(name))
    assert penalty.term is not None
    x = torch.randn(4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    found = penalty.term(d, x, x + 1, torch.Generator().manual_seed(0)).item()
    assert found == pytest.approx(expected(21**2 * float(w @ w)), rel=1e-9)


def test_an_adaptive_p_counts_an_example_with_the_mean_of_its_signs() -> None:
    spec: RunSpec = run_spec(augmentation=[{"name": "ada", "target": 0.6}])
    changing = ChangingNumbers(spec, "cpu")
    of_maps, of_logits, half = (Augmenting(spec, "cpu", changing) for _ in range(3))
    signs = torch.tensor([1.0, 1, -1, 1])
    of_maps.note(signs.repeat_interleave(4).reshape(4, 1, 2, 2), 0.0)
    of_logits.note(signs, 0.0)
    assert of_maps.state() == of_logits.state()
    assert of_logits.state()["augmentation"]["ada"]["signs"] == 2
    half.note(torch.tensor([1.0, 1, 1, -1]).reshape(1, 1, 2, 2), 0.0)
    assert half.state()["augmentation"]["ada"]["signs"] == 0.5


def test_a_measured_logit_is_the_mean_of_its_map() -> None:
    view = DiscriminatorView(SimpleNamespace(few={}), [])  # type: ignore[arg-type]
    images = torch.randint(256, (4, 1, 2, 3), dtype=torch.uint8,
                           generator=torch.Generator().manual_seed(0))
    values = view.see(images, lambda x: x).values
    assert values.shape == (4, 1)
    expected = (images.double() / 127.5 - 1).mean((1, 2, 3))
    assert values[:, 0] == pytest.approx(expected.numpy(), abs=1e-6)
