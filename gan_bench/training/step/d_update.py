"""The updates of D in a step: its loss, what penalties add to it, and what constrains it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from gan_bench.components.losses import Loss
from gan_bench.components.penalties import Penalty
from gan_bench.config.spec import RunSpec
from gan_bench.registry import PENALTIES
from gan_bench.training.step.augmenting import Augmenting
from gan_bench.training.step.networks import StepMetrics, grad_norm, log_means, logit_metrics
from gan_bench.training.step.optimizing import Optimizing
from gan_bench.training.step.passes import Passes
from gan_bench.training.step.step_batch import Judged


class DiscriminatorUpdates:
    """What happens to D in a step.

    Args:
        draws: The random numbers of the penalties.
    """

    def __init__(self, spec: RunSpec, discriminator: nn.Module, loss: Loss,
                 penalties: Sequence[Penalty], passes: Passes, augmenting: Augmenting,
                 optimizing: Optimizing, draws: torch.Generator) -> None:
        self._spec, self._discriminator, self._loss = spec, discriminator, loss
        self._penalties = [penalty for penalty in penalties if not penalty.of_g]
        self._at_fakes = [penalty for part, penalty in zip(spec.penalties, penalties, strict=True)
                          if PENALTIES[part.name].facts.judges == "fake"]
        self._draws = draws
        self._passes, self._augmenting, self._optimizing = passes, augmenting, optimizing
        self._divisor = 1  # the number of terms, once the loss has given them, or 1 for a sum

    def update(self, batch: Judged, step: int, metrics: StepMetrics, observe: bool) -> Tensor:
        """Update D once, and return what it has minimised, a scalar.

        Args:
            metrics: Gets what is logged, if `observe`.
        """
        seen: list[StepMetrics] = []
        loss = self._optimizing.update(self._discriminator, self._losses(batch, step, seen))
        self._constrain()
        if observe:
            log_means(metrics, seen)
            metrics["train/d_grad_norm"] = grad_norm(self._discriminator)
        return loss

    def regularise(self, batch: Judged, step: int, metrics: StepMetrics, observe: bool,
                   ) -> list[Tensor]:
        """Take the step of the penalties that have one of their own, if it is due.

        Args:
            batch: That of the last update.
            metrics: `d_penalty` there grows by what is minimised, if `observe`.

        Returns:
            What is minimised, a scalar; nothing if none is due.
        """
        if not any(p.own_step and step % p.every == 0 for p in self._penalties):
            return []
        loss = self._optimizing.update(self._discriminator, self._own_losses(batch, step),
                                       is_own=True)
        self._constrain()
        if observe:
            metrics["train/d_penalty"] = loss + metrics.get("train/d_penalty", 0.0)
        return [loss]

    def _constrain(self) -> None:
        for constraint in self._penalties:
            if constraint.after is not None:
                constraint.after(self._discriminator)

    def _losses(self, batch: Judged, step: int, seen: list[StepMetrics]) -> Iterator[Tensor]:
        """Yield the loss of each part of a batch, and add what is logged of it to `seen`."""
        for part in batch.parts(self._spec.accumulate):
            part = self._noisy(part, step)
            real_logits, fake_logits = self._logits(part)
            self._augmenting.note(real_logits, self._loss.boundary)
            terms = self._loss.discriminator(real_logits, fake_logits)
            # Penalties are divided as the terms are, so that their weights are the published ones.
            self._divisor = 1 if self._spec.d_loss_reduction == "sum" else len(terms)
            loss = sum(terms[1:], terms[0]) / self._divisor
            penalty = self._penalty(part, step, own=False)
            logged = {"train/d_loss": loss.detach()}
            if len(terms) == 2:
                logged["train/d_loss_real"] = terms[0].detach()
                logged["train/d_loss_fake"] = terms[1].detach()
            if penalty is not None:
                logged["train/d_penalty"] = penalty.detach()
            seen.append(logged | logit_metrics(real_logits.detach(), fake_logits.detach(),
                                               self._loss.boundary))
            yield loss if penalty is None else loss + penalty

    def _own_losses(self, batch: Judged, step: int) -> Iterator[Tensor]:
        for part in batch.parts(self._spec.accumulate):
            penalty = self._penalty(self._noisy(part, step), step, own=True)
            assert penalty is not None, "one is due"
            yield penalty

    def _noisy(self, part: Judged, step: int) -> Judged:
        """Return the same with the noise of penalties, if any."""
        return replace(part, real=self._passes.add_noise(part.real, step),
                       fake=self._passes.add_noise(part.fake, step))

    def _logits(self, part: Judged) -> tuple[Tensor, Tensor]:
        """Return D's logits at real and at fake examples."""
        if not self._spec.one_pass:
            return (self._passes.forward_d(part.real, part.labels),
                    self._passes.forward_d(part.fake, part.fake_labels))
        labels = None
        if part.fake_labels is not None and part.labels is not None:
            labels = torch.cat([part.fake_labels, part.labels])
        logits = self._passes.forward_d(torch.cat([part.fake, part.real]), labels)
        fake_logits, real_logits = logits.chunk(2)
        return real_logits, fake_logits

    def _penalty(self, part: Judged, step: int, own: bool) -> Tensor | None:
        """Return the sum of the penalties that are due in this step of the optimizer, or None."""
        def logits_for(penalty: Penalty) -> Callable[[Tensor], Tensor]:
            labels = part.fake_labels if penalty in self._at_fakes else part.labels
            return lambda examples: self._passes.exact_logits(examples, labels)

        chosen = [p for p in self._penalties if p.own_step == own and step % p.every == 0]
        due = [p.every * p.term(logits_for(p), part.real, part.fake, self._draws)
               for p in chosen if p.term is not None]
        due += [p.every * p.weights_term(self._discriminator)
                for p in chosen if p.weights_term is not None]
        return sum(due[1:], due[0]) / self._divisor if due else None
