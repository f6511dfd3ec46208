"""Fleets: workers on other machines that an engine starts, and that this launcher follows.

Each worker is a `gan-bench work`, which claims runs of the experiment that was prepared here. So an
engine has to start processes and to report their ends; nothing is lost if it does both badly.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from gan_bench.errors import Say, UserError

if TYPE_CHECKING:
    from gan_bench.launcher.preparation import Study

FRUITLESS = 3  # times that each worker may die without a step of any run


class Fleet(Protocol):
    """Workers of an experiment on other machines."""

    def look(self, unfinished: int, progress: Hashable) -> str:
        """Start workers in the place of those that are missing; take no time.

        Args:
            unfinished: The runs that nobody has finished.
            progress: What changes whenever a run gets on.

        Returns:
            Why no worker works or will work; empty if one does.

        Raises:
            UserError: There are no workers at all.
        """

    def stop(self, patience: float) -> None:
        """Let all workers write checkpoints and end, and wait for it so many seconds."""


# Of a study, its folder, how many runs are trained at once (None: as many as there is room for),
# and what shows a line.
StartFleet = Callable[["Study", Path, int | None, Say], Fleet]


def fleet_on(place: str | None) -> StartFleet | None:
    """Return what starts the workers of `--on PLACE`; None: this machine works itself.

    Raises:
        UserError: There is no such place, or what it needs is not installed.
    """
    if place is None:
        return None
    if place == "ray" or place.startswith("ray://"):
        from gan_bench.launcher.on_ray import ray_fleet

        return ray_fleet(place)
    raise UserError(f"--on {place}: is no engine; write ray, or ray://HOST:PORT")
