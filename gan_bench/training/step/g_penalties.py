"""The penalties that are terms of G's loss: their random numbers, and what a checkpoint holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from gan_bench import rng
from gan_bench.components.penalties import Penalty
from gan_bench.config.spec import RunSpec


@dataclass(frozen=True)
class _Active:
    """A penalty of a run's G.

    Attributes:
        draws: Its random numbers; they do not depend on the run's other penalties.
        memory: Float64 scalar on the device, which a captured step reads and writes.
    """

    name: str
    penalty: Penalty
    draws: torch.Generator
    memory: Tensor


class GPenalties:
    """What a run adds to G's loss; nothing if none of its penalties is a term of it.

    Nothing here waits for the device, but for `state` and `load`.

    Args:
        penalties: Those that the specification names, in its order.
    """

    def __init__(self, spec: RunSpec, penalties: Sequence[Penalty], device: str) -> None:
        self._seed = spec.seed
        self._all = [
            _Active(part.name, penalty, torch.Generator(device),
                    torch.zeros((), dtype=torch.float64, device=device))
            for part, penalty in zip(spec.penalties, penalties, strict=True)
            if penalty.of_g]

    @property
    def generators(self) -> list[torch.Generator]:
        """The generators of its random numbers."""
        return [each.draws for each in self._all]

    def begin(self, step: int) -> None:
        """Set the random seeds of a step."""
        for each in self._all:
            each.draws.manual_seed(rng.derive(self._seed, f"g_penalty/{each.name}", step))

    def term(self, step: int, generator: nn.Module, latents: Tensor, fakes: Tensor,
             targets: Tensor) -> Tensor | None:
        """Return the sum of the terms of G's loss that are due at a step; None if none is.

        Each is `every` times as large. Products are float32, as those of D's penalties are.

        Args:
            latents: Those of this update of G.
            fakes: What G makes of them.
            targets: The real examples that have their conditions.
        """
        total = self._sum(step, generator, latents, own=False)
        for each in self._all:
            if each.penalty.pair_term is not None and step % each.penalty.every == 0:
                term = each.penalty.every * each.penalty.pair_term(fakes, targets)
                total = term if total is None else total + term
        return total

    def has_own_step(self, step: int) -> bool:
        """Return whether one is due that takes a step of the optimizer of its own."""
        return any(each.penalty.own_step and step % each.penalty.every == 0 for each in self._all)

    def own_term(self, step: int, generator: nn.Module, latents: Tensor) -> Tensor:
        """Return the sum of those, likewise; one is due."""
        total = self._sum(step, generator, latents, own=True)
        assert total is not None, "one is due"
        return total

    def _sum(self, step: int, generator: nn.Module, latents: Tensor, own: bool) -> Tensor | None:
        terms = [each.penalty.every * each.penalty.g_term(generator, latents, each.draws,
                                                          each.memory)
                 for each in self._all if each.penalty.g_term is not None
                 and each.penalty.own_step == own and step % each.penalty.every == 0]
        return sum(terms[1:], terms[0]) if terms else None

    def state(self) -> dict[str, Any]:
        """Return what later steps depend on besides their number: each memory."""
        state = {each.name: float(each.memory) for each in self._all}
        return {"g_penalties": state} if state else {}

    def load(self, state: Mapping[str, Any]) -> None:
        """Restore what `state` returned.

        Raises:
            KeyError: It belongs to a run with other penalties.
        """
        for each in self._all:
            each.memory.fill_(state["g_penalties"][each.name])
