"""The augmentations of a run: their random numbers, their p, and what of it a checkpoint holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from gan_bench import rng
from gan_bench.components.augmentations.base import Augmentation, Probability
from gan_bench.config.spec import RunSpec
from gan_bench.registry import AUGMENTATIONS
from gan_bench.training.step.changing import ChangingNumbers
from gan_bench.training.step.step_batch import StepBatch


@dataclass(frozen=True)
class _Active:
    """An augmentation of a run.

    Attributes:
        draws: Its random numbers; they do not depend on the run's other augmentations.
        p: Float64 scalar on the device, where a captured step reads and moves it.
        signs: Float64 scalar: the sum of D's signs at real examples since p moved.
    """

    name: str
    part: Augmentation
    draws: torch.Generator
    p: Tensor
    signs: Tensor

    @property
    def adaptive(self) -> Probability | None:
        """How p moves if it depends on D."""
        probability = self.part.probability
        return probability if probability is not None and probability.target is not None else None


class Augmenting:
    """What a run does to examples before D sees them; nothing if it names no augmentation.

    Nothing here waits for the device, but for `state` and `load`.
    """

    def __init__(self, spec: RunSpec, device: str, changing: ChangingNumbers) -> None:
        self._seed, self._batch = spec.seed, spec.images_per_step
        self._all: list[_Active] = []
        for named in spec.augmentation:
            part: Augmentation = AUGMENTATIONS.build(named, follow=changing.follow)
            p, signs = (torch.zeros((), dtype=torch.float64, device=device) for _ in range(2))
            p.fill_(part.probability.at(1) if part.probability is not None else 1.0)
            self._all.append(_Active(named.name, part, torch.Generator(device), p, signs))

    @property
    def generators(self) -> list[torch.Generator]:
        """The generators of its random numbers."""
        return [each.draws for each in self._all]

    def begin(self, step: int) -> None:
        """Set the random seeds of a step, and each p that does not depend on D."""
        for each in self._all:
            each.draws.manual_seed(rng.derive(self._seed, f"augmentation/{each.name}", step))
            if each.part.probability is not None and each.adaptive is None:
                each.p.fill_(each.part.probability.at(step))

    def of_data(self, batch: StepBatch) -> StepBatch:
        """Return the batch with the real examples as augmentations of the data change them."""
        for each in self._all:
            if each.part.of_data:
                g_real = batch.g_real
                batch = replace(batch, real=[self._applied(each, real) for real in batch.real])
                if g_real is not None:
                    batch = replace(batch, g_real=self._applied(each, g_real))
        return batch

    def seen_by_d(self, examples: Tensor) -> Tensor:
        """Return the examples as D sees them in training."""
        for each in self._all:
            if not each.part.of_data:
                examples = self._applied(each, examples)
        return examples

    def note(self, real_logits: Tensor, boundary: float) -> None:
        """Add the signs of D's logits at real examples, relative to the loss's boundary.

        An example whose logits are a map, (N, 1, H, W), counts with the mean of its signs.
        """
        of_each = real_logits.numel() / len(real_logits)
        for each in self._all:
            if each.adaptive is not None:
                each.signs.add_((real_logits.detach() - boundary).sign().sum() / of_each)

    def end_step(self, step: Tensor) -> None:
        """Move each adaptive p if it is due after this step, a scalar on the device."""
        for each in self._all:
            if (adaptive := each.adaptive) is not None:
                due = step % adaptive.every == 0
                mean_sign = each.signs / (self._batch * adaptive.every)
                moved = adaptive.moved(each.p, mean_sign, self._batch)
                each.p.copy_(torch.where(due, moved, each.p))
                each.signs.mul_(~due)

    def metrics(self) -> dict[str, Tensor]:
        """Return the p of this step, before `end_step` moves it; empty if there is none."""
        logged = [each.p.float() for each in self._all if each.part.probability is not None]
        return {"train/augment_p": logged[0]} if logged else {}

    def state(self) -> dict[str, Any]:
        """Return what later steps depend on besides their number: each adaptive p, and its sum."""
        state = {each.name: {"p": float(each.p), "signs": float(each.signs)}
                 for each in self._all if each.adaptive is not None}
        return {"augmentation": state} if state else {}

    def load(self, state: Mapping[str, Any]) -> None:
        """Restore what `state` returned.

        Raises:
            KeyError: It belongs to a run with other augmentations.
        """
        for each in self._all:
            if each.adaptive is not None:
                saved = state["augmentation"][each.name]
                each.p.fill_(saved["p"])
                each.signs.fill_(saved["signs"])

    def _applied(self, each: _Active, examples: Tensor) -> Tensor:
        return each.part.apply(examples, each.draws, each.p)
