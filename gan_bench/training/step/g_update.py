"""The updates of G in a step: its loss, that of the joint phase, and what penalties add to it."""

from __future__ import annotations

from torch import Tensor, nn

from gan_bench.components.losses import Loss
from gan_bench.config.spec import RunSpec
from gan_bench.training.step.g_penalties import GPenalties
from gan_bench.training.step.networks import StepMetrics, frozen, grad_norm
from gan_bench.training.step.optimizing import Optimizing
from gan_bench.training.step.passes import Passes
from gan_bench.training.step.step_batch import StepBatch


class GeneratorUpdates:
    """What happens to G in a step."""

    def __init__(self, spec: RunSpec, generator: nn.Module, discriminator: nn.Module, loss: Loss,
                 penalties: GPenalties, passes: Passes, optimizing: Optimizing) -> None:
        self._spec, self._generator, self._discriminator = spec, generator, discriminator
        self._loss, self._penalties = loss, penalties
        self._passes, self._optimizing = passes, optimizing

    def __call__(self, latents: list[Tensor], fake: Tensor | None, batch: StepBatch, step: int,
                 metrics: StepMetrics, observe: bool) -> tuple[Tensor | None, list[Tensor]]:
        """Update G `g_steps` times; return the fakes of the last update, and all losses.

        Args:
            latents: One batch for each update, then one for each joint phase if there are any.
            fake: G's output for the first batch, if D has seen it.
            metrics: Gets what is logged, if `observe`.
        """
        count, losses = self._spec.g_steps, []
        targets = batch.targets(count)
        for i, (real, labels) in enumerate(batch.of_g(count)):
            second = latents[count + i] if self._spec.joint_weight else None
            is_observed = observe and i == count - 1
            with frozen(self._discriminator):
                if i or fake is None:
                    fake = self._passes.forward_g(latents[i])
                total = self._total(latents[i], fake, targets[i], second, real, labels, step,
                                    metrics, is_observed)
                losses.append(self._optimizing.update(self._generator, [total]))
            if is_observed:
                metrics["train/g_grad_norm"] = grad_norm(self._generator)
        return fake, losses

    def _total(self, latents: Tensor, fake: Tensor, target: Tensor, second: Tensor | None,
               real: Tensor | None, labels: Tensor | None, step: int, metrics: StepMetrics,
               observe: bool) -> Tensor:
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
        penalty = self._penalties.due(step, self._generator, latents, fake, target)
        if penalty is not None:
            total = total + penalty
        if observe:
            metrics["train/g_loss"] = loss.detach()
            if penalty is not None:
                metrics["train/g_penalty"] = penalty.detach()
        return total
