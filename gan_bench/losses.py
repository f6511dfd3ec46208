"""Adversarial losses, as functions of logits.

A registered factory takes the loss's own arguments and returns a `Loss`. Everything is written
with softplus, so that it is exact and finite at logits of ±100 and beyond, where log(sigmoid) of
the published formulas is −inf: log σ(x) = −softplus(−x), log(1 − σ(x)) = −softplus(x).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gan_bench.registry import LOSSES

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Loss:
    """What D and G each minimise.

    Attributes:
        discriminator: (real_logits, fake_logits) → (real term, fake term), both scalars; how the
            two are reduced to one loss (mean or sum) is a setting of the run.
        generator: fake_logits → scalar.

    Logits have any shape; terms are means over it.
    """

    discriminator: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
    generator: Callable[[Tensor], Tensor]


@LOSSES.register("saturating")
def saturating() -> Loss:
    """The minimax loss: G minimises log(1 − D(G(z))).

    Goodfellow et al. 2014, "Generative Adversarial Nets", equation 1. Its gradient for G vanishes
    where D is sure that a sample is fake.
    """
    from torch.nn.functional import softplus

    return Loss(_cross_entropy, lambda fake_logits: -softplus(fake_logits).mean())


@LOSSES.register("non_saturating")
def non_saturating() -> Loss:
    """The non-saturating loss: G minimises −log D(G(z)).

    Goodfellow et al. 2014, section 3, after equation 1; the same D loss and the same fixed point.
    """
    from torch.nn.functional import softplus

    return Loss(_cross_entropy, lambda fake_logits: softplus(-fake_logits).mean())


def _cross_entropy(real_logits: Tensor, fake_logits: Tensor) -> tuple[Tensor, Tensor]:
    """D's two terms: −E log D(x) and −E log(1 − D(G(z)))."""
    from torch.nn.functional import softplus

    return softplus(-real_logits).mean(), softplus(fake_logits).mean()
