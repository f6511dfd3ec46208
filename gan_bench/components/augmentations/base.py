"""What an augmentation is, and how its probability p moves.

A registered factory takes its arguments and returns an `Augmentation`. A run names any number of
them; they act in the order of its list.

Its `AugmentationFacts`: `refuses`, which data it cannot augment, and with which arguments;
`has_p`, whether it has a probability, which is logged.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import Tensor


@dataclass(frozen=True)
class Probability:
    """The probability p with which the transforms of an augmentation act, over the steps.

    Adaptive, it moves every `every` steps, by the rule of Karras et al. 2020, "Training generative
    adversarial networks with limited data", section 3: up by a fixed amount if D's mean sign at the
    real examples since the last move, r_t, is above `target`, and down if it is below.

    Attributes:
        value: p, 0..1: for good, after the ramp, or before the first move. Where it changes by
            points, a scalar tensor.
        ramp: The number of steps in which p grows linearly from 0 to `value`; 0: none.
        target: That of r_t, in -1..1; None: p does not depend on D.
        images: The number of real examples given to D in which p moves by 1.
        every: The number of steps between two moves.
    """

    value: float | Tensor
    ramp: int = 0
    target: float | None = None
    images: float = 500_000
    every: int = 4

    def at(self, step: int) -> float | Tensor:
        """Return p at a step, from 1, as far as it does not depend on D."""
        return self.value * min(1.0, (step - 1) / self.ramp) if self.ramp else self.value

    def moved(self, p: Tensor, mean_sign: Tensor, batch: int) -> Tensor:
        """Return p after a move; it stays from 0 upwards, as published, and may exceed 1.

        Args:
            p, mean_sign: Scalars; D's mean sign at the real examples since the last move.
            batch: The number of real examples that D is given in a step.
        """
        assert self.target is not None, "p is adaptive"
        size = batch * self.every / self.images
        return (p + (mean_sign - self.target).sign() * size).clamp(min=0)


@dataclass(frozen=True)
class Augmentation:
    """The function of an augmentation.

    Attributes:
        apply: (examples, draws, p) → the examples that D sees instead, of the same shape:
            (N, C, H, W) float32 in [-1, 1], which they may leave, each by itself and
            differentiable, twice for gradient penalties. `draws` is the generator of random numbers
            for this step, on the device of the examples; p is a scalar on it, 1 without a
            `probability`. It must not wait for the device.
        of_data: Whether it is of the data: it then changes the real examples alone, before all
            else. Otherwise it changes all that D sees in training, in both networks' updates, and
            gradients pass through it.
        probability: How p moves.
    """

    apply: Callable[[Tensor, torch.Generator, Tensor], Tensor]
    of_data: bool = False
    probability: Probability | None = None
