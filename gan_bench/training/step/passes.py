"""How latents and examples go through a run's networks in training."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from gan_bench.components.penalties import Penalty
from gan_bench.config.spec import RunSpec
from gan_bench.training.step.augmenting import Augmenting


class Passes:
    """The forward passes of a step: in the run's precision, with its noise and augmentation.

    Args:
        penalties: Those of the run, some of which may add noise.
        draws: The generator of the noise.
    """

    def __init__(self, spec: RunSpec, generator: nn.Module, discriminator: nn.Module,
                 penalties: Sequence[Penalty], augmenting: Augmenting, draws: torch.Generator,
                 is_bfloat16: bool) -> None:
        self._steps = spec.steps
        self._generator, self._discriminator = generator, discriminator
        self._noises = [penalty.noise for penalty in penalties if penalty.noise is not None]
        self._augmenting, self._draws, self._is_bfloat16 = augmenting, draws, is_bfloat16

    def forward_g(self, latents: Tensor) -> Tensor:
        """Return G's samples, float32."""
        with self._autocast():
            samples: Tensor = self._generator(latents)
        return samples.float() if self._is_bfloat16 else samples

    def forward_d(self, examples: Tensor, labels: Tensor | None) -> Tensor:
        """Return D's logits at augmented examples, (N,) or maps (N, 1, H, W), float32."""
        examples = self._augmenting.seen_by_d(examples)
        with self._autocast():
            logits = self._logits(examples, labels)
        return logits.float() if self._is_bfloat16 else logits

    def exact_logits(self, examples: Tensor, labels: Tensor | None) -> Tensor:
        """Return the same with float32 products, as the gradients of penalties need them."""
        return self._logits(self._augmenting.seen_by_d(examples), labels)

    def add_noise(self, examples: Tensor, step: int) -> Tensor:
        """Return the examples with the noise of the penalties, if any; augmentation follows."""
        for noise in self._noises:
            examples = noise(examples, self._draws, (step - 1) / self._steps)
        return examples

    def _logits(self, examples: Tensor, labels: Tensor | None) -> Tensor:
        logits: Tensor = (self._discriminator(examples) if labels is None else
                          self._discriminator(examples, labels))
        return logits

    def _autocast(self) -> torch.autocast:
        # Without autocast's cache: a captured step would read it after it is freed.
        return torch.autocast(self._draws.device.type, torch.bfloat16, self._is_bfloat16,
                              cache_enabled=False)
