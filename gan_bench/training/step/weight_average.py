"""The running average (EMA) of G's weights, which is measured in G's place.

How its decay grows with the steps is in `config.ema_decay`.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from gan_bench import rng
from gan_bench.components.layers.spectral import SpectrallyNormed
from gan_bench.config.spec import RunSpec
from gan_bench.evaluation.evaluator import latents, undisturbed

STATISTICS = "ema/statistics"  # the stream of the latents that statistics are estimated from
BATCHES = 16  # of the run's batch size


class WeightAverage:
    """The average of a run that has one; it begins as a copy of G.

    Averaged weights give other activations than G's, so batch-norm statistics of G (`copied`) or
    their average (`averaged`) do not fit them. `estimated` takes them from the averaged network
    itself: the standing statistics of BigGAN (Brock et al. 2019, "Large scale GAN training for high
    fidelity natural image synthesis", section 4 and appendix). They depend on the weights and the
    seed alone, so it does not matter when, or how often, they are estimated.

    Args:
        spec: The run's specification, which has an `ema`.
        generator: G, on its device.
        conditions: Of the training examples (`conditions_of`), from which a conditional run draws.
    """

    def __init__(self, spec: RunSpec, generator: nn.Module, device: str,
                 conditions: Tensor | None) -> None:
        assert spec.averaging is not None
        self._spec, self._device, self._conditions = spec, device, conditions
        self._averaging = spec.averaging
        self._average = copy.deepcopy(generator).requires_grad_(False)
        norms = {name: layer for name, layer in self._average.named_modules()
                 if isinstance(layer, _BatchNorm) and layer.running_mean is not None}
        self._norms = list(norms.values())
        self._averaged: set[str] = set()
        if spec.ema_statistics == "averaged":
            self._averaged = {f"{name}.{statistic}".lstrip(".") for name in norms
                              for statistic in ("running_mean", "running_var")}
            self._averaged |= {f"{name}.u".lstrip(".") for name, layer
                               in self._average.named_modules()
                               if isinstance(layer, SpectrallyNormed)}
        # On the device, where a CUDA graph reads it.
        self._share_of_g = torch.zeros((), device=device)
        self._copies = False
        self._is_estimated = False

    @property
    def network(self) -> nn.Module:
        """The average as it is measured and saved, with statistics that fit its weights."""
        if self._spec.ema_statistics == "estimated" and not self._is_estimated:
            self._estimate()
        self._is_estimated = True
        return self._average

    def copies_at(self, step: int) -> bool:
        """Return whether the average is a copy of G after a step, as it is before `ema_start`."""
        return self._averaging.decay(step) == 0

    def begin(self, step: int) -> None:
        """Set how far the average moves at a step. Does not wait for the device."""
        self._share_of_g.fill_(1 - self._averaging.decay(step))
        self._copies = self.copies_at(step)
        self._is_estimated = False

    @torch.no_grad()
    def follow(self, generator: nn.Module) -> None:
        """Move what is averaged towards G, or copy it, and copy the other buffers."""
        averages: list[Tensor] = list(self._average.parameters())
        targets: list[Tensor] = list(generator.parameters())
        for (name, kept), buffer in zip(self._average.named_buffers(), generator.buffers(),
                                        strict=True):
            if name in self._averaged:
                averages.append(kept)
                targets.append(buffer)
            else:
                kept.copy_(buffer)
        if self._copies:
            torch._foreach_copy_(averages, targets)
            return
        ways = torch._foreach_sub(targets, averages)
        torch._foreach_mul_(ways, self._share_of_g)
        torch._foreach_add_(averages, ways)

    def load(self, state: dict[str, Any]) -> None:
        """Restore the average of a checkpoint."""
        self._average.load_state_dict(state)
        self._is_estimated = False

    def load_measured(self, state: dict[str, Tensor]) -> None:
        """Load the average as it was measured and saved, with its statistics."""
        self._average.load_state_dict(state)
        self._is_estimated = True

    def _estimate(self) -> None:
        """Set the running statistics to the means of those of a few batches of fixed latents.

        Other layers are in eval mode, as in a measurement; nothing else changes.
        """
        if not self._norms:
            return
        spec = self._spec
        drawn = latents(spec, BATCHES * spec.batch_size, self._conditions, stream=STATISTICS)
        momenta = [norm.momentum for norm in self._norms]
        try:
            with undisturbed(self._average, seed=rng.derive(spec.seed, STATISTICS, 1)):
                for norm in self._norms:
                    norm.reset_running_stats()
                    norm.momentum = None  # the mean of all batches
                    norm.train()
                for batch in torch.split(drawn, spec.batch_size):
                    self._average(batch.to(self._device))
                estimates = [(_of(norm.running_mean).clone(), _of(norm.running_var).clone())
                             for norm in self._norms]
        finally:
            for norm, momentum in zip(self._norms, momenta, strict=True):
                norm.momentum = momentum
        for norm, (mean, variance) in zip(self._norms, estimates, strict=True):
            _of(norm.running_mean).copy_(mean)
            _of(norm.running_var).copy_(variance)


def _of(statistic: Tensor | None) -> Tensor:
    assert statistic is not None, "only norms with statistics are kept"
    return statistic
