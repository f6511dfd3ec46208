"""The updates of G in a step: its loss, that of the joint phase, and what penalties add to it."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor, nn

from gan_bench.components.losses import Loss
from gan_bench.config.spec import RunSpec
from gan_bench.training.step.g_penalties import GPenalties
from gan_bench.training.step.networks import StepMetrics, frozen, grad_norm, log_means
from gan_bench.training.step.optimizing import Optimizing
from gan_bench.training.step.passes import Passes
from gan_bench.training.step.step_batch import StepBatch, in_parts


class GeneratorUpdates:
    """What happens to G in a step."""

    def __init__(self, spec: RunSpec, generator: nn.Module, discriminator: nn.Module, loss: Loss,
                 penalties: GPenalties, passes: Passes, optimizing: Optimizing) -> None:
        self._spec, self._generator, self._discriminator = spec, generator, discriminator
        self._loss, self._penalties = loss, penalties
        self._passes, self._optimizing = passes, optimizing

    def update(self, latents: list[Tensor], fake: Tensor | None, batch: StepBatch, step: int,
               metrics: StepMetrics, observe: bool) -> tuple[Tensor | None, list[Tensor]]:
        """Update G `g_steps` times; return the fakes of the last update, and all losses.

        Args:
            latents: One batch for each update, then one for each joint phase if there are any.
            fake: G's output for the first batch, if D has seen it.
            metrics: Gets what is logged, if `observe`.

        Returns:
            The fakes are None unless D shares them.
        """
        count, losses = self._spec.g_steps, []
        targets = batch.targets(count)
        for i, (real, labels) in enumerate(batch.of_g(count)):
            seen: list[StepMetrics] = []
            with frozen(self._discriminator):
                if self._spec.share_fakes and (i or fake is None):
                    fake = self._passes.forward_g(latents[i])
                second = latents[count + i] if self._spec.joint_weight else None
                losses.append(self._optimizing.update(self._generator, self._losses(
                    latents[i], fake, second, real, targets[i], labels, step, seen)))
            if observe and i == count - 1:
                log_means(metrics, seen)
                metrics["train/g_grad_norm"] = grad_norm(self._generator)
        return fake, losses

    def regularise(self, latents: Tensor, step: int, metrics: StepMetrics, observe: bool,
                   ) -> Tensor:
        """Take the step of the penalties that have one of their own; return what is minimised.

        Args:
            latents: (N, latent_dim), followed by the conditions.
            metrics: `g_penalty` there grows by what is minimised, if `observe`.
        """
        loss = self._optimizing.update(self._generator, (
            self._penalties.own_term(step, self._generator, part)
            for part in latents.chunk(self._spec.accumulate)), is_own=True)
        if observe:
            metrics["train/g_penalty"] = loss + metrics.get("train/g_penalty", 0.0)
        return loss

    def _losses(self, latents: Tensor, shared: Tensor | None, second: Tensor | None,
                real: Tensor | None, target: Tensor, labels: Tensor | None, step: int,
                seen: list[StepMetrics]) -> Iterator[Tensor]:
        """Yield the loss of each part of a batch, and add what is logged of it to `seen`."""
        parts = (in_parts(each, self._spec.accumulate)
                 for each in (latents, second, real, target, labels))
        for some, others, some_real, some_target, some_labels in zip(*parts, strict=True):
            assert some is not None, "there are latents"
            assert some_target is not None, "and real examples"
            fake = self._passes.forward_g(some) if shared is None else shared
            adversarial = self._loss_of(fake, others, some_real, some_labels, step, seen)
            penalty = self._penalties.term(step, self._generator, some, fake, some_target)
            if penalty is None:
                yield adversarial
            else:
                seen[-1]["train/g_penalty"] = penalty.detach()
                yield adversarial + penalty

    def _loss_of(self, fake: Tensor, second: Tensor | None, real: Tensor | None,
                 labels: Tensor | None, step: int, seen: list[StepMetrics]) -> Tensor:
        passes = self._passes
        fake_logits = passes.forward_d(passes.add_noise(fake, step), labels)
        real_logits = None
        if real is not None:
            real_logits = passes.forward_d(passes.add_noise(real, step), labels)
        total = loss = self._loss.generator(fake_logits, real_logits)
        if second is not None:
            more_fakes = passes.add_noise(passes.forward_g(second), step)
            joint = self._loss.generator(passes.forward_d(more_fakes, labels), real_logits)
            total = loss + self._spec.joint_weight * joint
        seen.append({"train/g_loss": loss.detach()})
        return total
