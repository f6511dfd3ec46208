"""The optimizers of a run's networks: their updates, and their rates at each step."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor, nn

from gan_bench.components.optimizers import build_optimizer, load_optimizer, rate, set_rate
from gan_bench.config.spec import RunSpec
from gan_bench.errors import UserError
from gan_bench.training.step.plateau import plateaus_of


class Optimizing:
    """The optimizer of each network, whose rate `begin` sets.

    Args:
        networks: `generator` and `discriminator`.
    """

    def __init__(self, spec: RunSpec, networks: Mapping[str, nn.Module], device: str) -> None:
        self._spec, self._networks = spec, networks
        generator, discriminator = networks["generator"], networks["discriminator"]
        self._parts = {generator: spec.g_optimizer, discriminator: spec.d_optimizer}
        self.of = {network: build_optimizer(part, network.parameters(), captured=device != "cpu")
                   for network, part in self._parts.items()}
        self._rates: dict[nn.Module, float] = {}  # as set in the optimizers
        self._plateaus = plateaus_of(
            self._parts, {generator: spec.g_steps, discriminator: spec.d_steps}, device)

    def begin(self, step: int) -> None:
        """Set the rates of a step; once in each period of a plateau it waits for the device."""
        for network, part in self._parts.items():
            plateau = self._plateaus.get(network)
            new_rate = rate(part, step, self._spec.steps, plateau.cuts(step) if plateau else 0)
            if self._rates.get(network) != new_rate:
                self._rates[network] = new_rate
                for group in self.of[network].param_groups:
                    set_rate(group, new_rate)

    def update(self, network: nn.Module, losses: Iterable[Tensor]) -> Tensor:
        """Let a network's optimizer take a step down a loss, and return the loss.

        Args:
            losses: Scalars, of which the loss is the sum; each is computed when the one before has
                given its gradients.
        """
        optimizer, total = self.of[network], None
        optimizer.zero_grad(set_to_none=True)
        for loss in losses:
            if loss.dim():
                raise UserError(f"the loss {self._spec.loss} gives a tensor of shape "
                                f"{tuple(loss.shape)}, not a scalar: its terms must be means over "
                                f"the batch")
            loss.backward()  # type: ignore[no-untyped-call]
            total = loss.detach() if total is None else total + loss.detach()
        assert total is not None, "a batch has parts"
        if network in self._plateaus:
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
