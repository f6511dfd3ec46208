"""The optimizers of a run's networks: their updates, and their rates at each step."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from gan_bench.components.optimizers import (
    betas,
    build_optimizer,
    load_optimizer,
    rate,
    set_rate,
    with_numbers,
)
from gan_bench.components.penalties import Penalty
from gan_bench.config.spec import RunSpec
from gan_bench.errors import UserError
from gan_bench.training.step.plateau import plateaus_of


class Optimizing:
    """The optimizer of each network, whose rate `begin` sets.

    Args:
        networks: `generator` and `discriminator`.
        penalties: Those of the run. Where one has a step of its own each k steps, the rate of its
            network is multiplied by k / (k + 1), and each beta is raised to that power (Karras et
            al. 2020, "Analyzing and improving the image quality of StyleGAN", appendix B).
    """

    def __init__(self, spec: RunSpec, networks: Mapping[str, nn.Module],
                 penalties: Sequence[Penalty], device: str) -> None:
        self._spec, self._networks = spec, networks
        generator, discriminator = networks["generator"], networks["discriminator"]
        self._parts = {generator: with_numbers(spec.g_optimizer),
                       discriminator: with_numbers(spec.d_optimizer)}
        self._shares = dict.fromkeys(self._parts, 1.0)
        for penalty in penalties:
            if penalty.own_step:
                network = generator if penalty.of_g else discriminator
                self._shares[network] = penalty.every / (penalty.every + 1)
        self.of = {network: build_optimizer(part, network.parameters(), captured=device != "cpu")
                   for network, part in self._parts.items()}
        self._rates: dict[nn.Module, float] = {}  # as set in the optimizers
        self._plateaus = plateaus_of(
            self._parts, {generator: spec.g_steps, discriminator: spec.d_steps}, device)

    def begin(self, step: int) -> None:
        """Set the rates of a step; once in each period of a plateau it waits for the device."""
        for network, part in self._parts.items():
            plateau = self._plateaus.get(network)
            new_rate = rate(part, step, self._spec.steps, plateau.cuts(step) if plateau else 0,
                            self._spec.images_per_step) * self._shares[network]
            if self._rates.get(network) != new_rate:
                self._rates[network] = new_rate
                for group in self.of[network].param_groups:
                    set_rate(group, new_rate)
            if new_betas := self._betas(network, step):
                for group in self.of[network].param_groups:
                    group["betas"] = new_betas

    def graph_key(self, step: int) -> tuple[float, ...] | None:
        """Return what a captured step holds fast of its optimizers; None while that changes.

        Rates lie on the device, where `begin` writes them. Betas do not.
        """
        now, then = ([value for network in self._parts for value in self._betas(network, at)]
                     for at in (step, step + 1))
        return tuple(now) if now == then else None

    def _betas(self, network: nn.Module, step: int) -> tuple[float, ...]:
        """Return the betas of a step; empty if they are always as the optimizer is built."""
        share, part = self._shares[network], self._parts[network]
        values = betas(part, step, self._spec.steps, self._spec.images_per_step)
        if share == 1:
            return values
        return tuple(value ** share for value in values or part.args["betas"])

    def update(self, network: nn.Module, losses: Iterable[Tensor], is_own: bool = False) -> Tensor:
        """Let a network's optimizer take a step down a loss, and return the loss.

        Args:
            losses: `accumulate` scalars, of which the loss is the mean; each is computed when the
                one before has given its gradients.
            is_own: Whether it is a step of a penalty's own. It counts for all of the network's
                parameters then, and for no plateau.
        """
        optimizer, total, count = self.of[network], None, self._spec.accumulate
        optimizer.zero_grad(set_to_none=True)
        for loss in losses:
            if loss.dim():
                raise UserError(f"the loss {self._spec.loss} gives a tensor of shape "
                                f"{tuple(loss.shape)}, not a scalar: its terms must be means over "
                                f"the batch")
            loss = loss / count if count > 1 else loss
            loss.backward()  # type: ignore[no-untyped-call]
            total = loss.detach() if total is None else total + loss.detach()
        assert total is not None, "a batch has parts"
        if is_own:
            for parameter in network.parameters():
                if parameter.grad is None and parameter.requires_grad:
                    parameter.grad = torch.zeros_like(parameter)
        elif network in self._plateaus:
            self._plateaus[network].add(total)
        optimizer.step()
        return total

    def state(self) -> dict[str, Any]:
        """Return what later steps depend on besides their number."""
        return {**{f"{name}_optimizer": self.of[network].state_dict()
                   for name, network in self._networks.items()},
                **{f"{name}_plateau": self._plateaus[network].state()
                   for name, network in self._networks.items() if network in self._plateaus}}

    def load(self, state: Mapping[str, Any]) -> None:
        """Restore what `state` returned.

        Raises:
            KeyError, ValueError: It belongs to other optimizers.
        """
        for name, network in self._networks.items():
            load_optimizer(self.of[network], state[f"{name}_optimizer"])
            if network in self._plateaus:
                self._plateaus[network].load(state[f"{name}_plateau"])
        self._rates.clear()
