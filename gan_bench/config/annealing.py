"""Settings because of which a run's first steps depend on the number of all steps. No torch."""

from __future__ import annotations

from gan_bench.config.spec import RunSettings
from gan_bench.registry import PENALTIES, SCHEDULES


def annealed_keys(run: RunSettings) -> list[str]:
    """Return the keys of such settings; a run with more steps begins differently because of them.
    """
    keys = [f"{key}.schedule" for key, part in (("g_optimizer", run.g_optimizer),
                                                ("d_optimizer", run.d_optimizer))
            if SCHEDULES[part.args["schedule"]].whole_run]
    if any(PENALTIES[part.name].facts.whole_run for part in run.penalties):
        keys.append("penalties")
    return keys
