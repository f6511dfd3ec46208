"""What the launcher asks of an engine that starts workers on other machines."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Protocol

DETACHED = "workers on other machines go on; the same command, without --detach, follows them"


class RemoteWorkers(Protocol):
    """Workers of an experiment that a scheduler starts on other machines."""

    @property
    def has_workers(self) -> bool:
        """Whether there are any, as far as the last look says."""

    def refuse_impossible(self) -> None:
        """Raise a UserError if workers cannot be had as they are asked for."""

    def look(self, unfinished: int, progress: Hashable, busy: Mapping[str, int], sweep: int) -> str:
        """Start workers where some are missing; return why it makes no sense to wait, or nothing.

        Args:
            unfinished: The runs that nobody has finished.
            progress: What changes whenever a run gets on.
            busy: How many runs each job of a scheduler holds, by its id.
            sweep: How often all runs have been read: with the same number, `busy` is no news.
        """

    def dismiss(self) -> None:
        """Cancel the workers that have not started, as nothing is left for them."""

    def stop(self) -> None:
        """Let all workers write checkpoints and end."""
