"""Settings because of which a run's first steps depend on the number of all steps. No torch."""

from __future__ import annotations

from typing import Any

from gan_bench.config.ema_decay import HalfLife
from gan_bench.config.spec import RunSettings
from gan_bench.registry import (
    AUGMENTATIONS,
    OPTIMIZERS,
    PENALTIES,
    SCHEDULES,
    Part,
    Registry,
    Scheduled,
)


def annealed_keys(run: RunSettings) -> list[str]:
    """Return the keys of such settings; a run with more steps begins differently because of them.
    """
    keys = []
    for key, part in (("g_optimizer", run.g_optimizer), ("d_optimizer", run.d_optimizer)):
        if SCHEDULES[part.args["schedule"]].whole_run:
            keys.append(f"{key}.schedule")
        keys += [f"{key}.{argument}" for argument in _over_the_run(OPTIMIZERS, part)]
    if any(PENALTIES[part.name].facts.whole_run or _over_the_run(PENALTIES, part)
           for part in run.penalties):
        keys.append("penalties")
    if any(_over_the_run(AUGMENTATIONS, part) for part in run.augmentation):
        keys.append("augmentation")
    if isinstance(run.ema, HalfLife) and isinstance(number := run.ema.half_life, Scheduled):
        keys += ["ema"] if number.unit == "run" else []
    return keys


def _over_the_run(entries: Registry[Any, Any], part: Part) -> list[str]:
    """Return the arguments whose values are given at shares of the run."""
    return [argument for argument, numbers in entries.scheduled(part).items()
            if any(number.unit == "run" for number in numbers)]
