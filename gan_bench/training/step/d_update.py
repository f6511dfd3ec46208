"""An update of D: its loss, what penalties add to it, and what constrains it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from gan_bench.components.losses import Loss
from gan_bench.components.penalties import Penalty
from gan_bench.config.spec import RunSpec
from gan_bench.training.step.augmenting import Augmenting
from gan_bench.training.step.networks import StepMetrics, grad_norm, logit_metrics
from gan_bench.training.step.optimizing import Optimizing
from gan_bench.training.step.passes import Passes


class DiscriminatorUpdate:
    """What happens to D in each of its updates.

    Args:
        draws: The random numbers of the penalties.
    """

    def __init__(self, spec: RunSpec, discriminator: nn.Module, loss: Loss,
                 penalties: Sequence[Penalty], passes: Passes, augmenting: Augmenting,
                 optimizing: Optimizing, draws: torch.Generator) -> None:
        self._spec, self._discriminator, self._loss = spec, discriminator, loss
        self._penalties, self._draws = penalties, draws
        self._passes, self._augmenting, self._optimizing = passes, augmenting, optimizing

    def __call__(self, real: Tensor, fake: Tensor, labels: Tensor | None, step: int,
                 metrics: StepMetrics, observe: bool) -> Tensor:
        """Update D once, and return what it has minimised, a scalar.

        Args:
            metrics: Gets what is logged, if `observe`.
        """
        total = self._total(real, fake, labels, step, metrics, observe)
        loss = self._optimizing.update(self._discriminator, [total])
        for constraint in self._penalties:
            if constraint.after is not None:
                constraint.after(self._discriminator)
        if observe:
            metrics["train/d_grad_norm"] = grad_norm(self._discriminator)
        return loss

    def _total(self, real: Tensor, fake: Tensor, labels: Tensor | None, step: int,
               metrics: StepMetrics, observe: bool) -> Tensor:
        passes = self._passes
        real, fake = passes.add_noise(real, step), passes.add_noise(fake, step)
        real_logits, fake_logits = passes.forward_d(real, labels), passes.forward_d(fake, labels)
        self._augmenting.note(real_logits, self._loss.boundary)
        terms = self._loss.discriminator(real_logits, fake_logits)
        # Penalties are divided as the terms are, so that their weights are the published ones.
        divisor = len(terms) if self._spec.d_loss_reduction == "mean" else 1
        loss = sum(terms[1:], terms[0]) / divisor
        due = self._penalties_due(real, fake, labels, step)
        penalty = sum(due[1:], due[0]) / divisor if due else None
        if observe:
            metrics["train/d_loss"] = loss.detach()
            if len(terms) == 2:
                metrics["train/d_loss_real"] = terms[0].detach()
                metrics["train/d_loss_fake"] = terms[1].detach()
            if penalty is not None:
                metrics["train/d_penalty"] = penalty.detach()
            metrics |= logit_metrics(real_logits.detach(), fake_logits.detach(),
                                     self._loss.boundary)
        return loss if penalty is None else loss + penalty

    def _penalties_due(self, real: Tensor, fake: Tensor, labels: Tensor | None, step: int,
                       ) -> list[Tensor]:
        def d_logits(examples: Tensor) -> Tensor:
            return self._passes.exact_logits(examples, labels)

        due = [p.every * p.term(d_logits, real, fake, self._draws)
               for p in self._penalties if p.term is not None and step % p.every == 0]
        return due + [p.every * p.weights_term(self._discriminator) for p in self._penalties
                      if p.weights_term is not None and step % p.every == 0]
