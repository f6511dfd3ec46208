"""Leases: what one process at a time may do, on any machine that shares the root.

The lease of an experiment is that of its copy in MLflow: one process mirrors, another takes over
when it has ended. That of a root is for preparations: ids are taken over, data are decoded, and
extractors are trained once. That of an experiment's queue is for those who change what is in it,
for a moment: workers do not wait for the preparations of other experiments. All are claims, as
`journal/sharing/claims.py` describes them.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from gan_bench.errors import DamagedError, Say
from gan_bench.journal import reading, writing
from gan_bench.journal.layout import claimed_folders, run_folders
from gan_bench.journal.schema import Status
from gan_bench.journal.sharing.claims import (
    Claim,
    ClaimedError,
    UnreadableClaimError,
    Watch,
    holder_of,
    is_held,
    lease,
    newest_claim,
    take,
)

MIRROR, PREPARATION, QUEUE = "mirror", "preparation", "queue-change"  # names of claims
PATIENCE = 1.0  # seconds: a process that reads holds the lease for a moment
POLL = 0.05  # seconds between two looks at another process's lease


@contextmanager
def locked(experiment: Path, say: Say = lambda line: None) -> Iterator[Claim]:
    """Hold an experiment's lease, and record the end of the runs whose process is dead.

    Args:
        say: As for `take_lease`.

    Yields:
        The lease, which another process may take over if this one is frozen for too long.

    Raises:
        UserError: Another process holds it, or the folder cannot be used.
    """
    claim = take_lease(experiment, say)
    try:
        settle_dead_runs(experiment)
        yield claim
    finally:
        claim.release()


def take_lease(experiment: Path, say: Say = lambda line: None) -> Claim:
    """Take an experiment's lease.

    A holder on another machine is watched until it shows a sign of life or is lost.

    Args:
        say: Receives a line if that takes long.

    Raises:
        ClaimedError: Another process holds it.
        UserError: The folder cannot be used.
    """
    watch, deadline, first = Watch(), time.monotonic() + PATIENCE, newest_claim(experiment, MIRROR)
    is_said = False
    while True:
        try:
            claim = take(experiment, MIRROR, watch)
        except ClaimedError as error:
            state = newest_claim(experiment, MIRROR)
            is_alive = state != first or error.holder.is_here
            if is_alive and time.monotonic() > deadline:
                raise ClaimedError(f"{experiment.name} is already being run by {error.holder}; "
                                   f"wait for it or stop it", error.holder) from None
            if not is_said and time.monotonic() > deadline:
                say(f"waiting for a sign of life of {error.holder}, which copies {experiment.name} "
                    f"into MLflow; it is lost after {lease():g} s without any")
                is_said = True
            time.sleep(POLL)
            continue
        claim.forget_earlier()
        return claim


def is_locked(experiment: Path) -> bool:
    """Whether a process holds the lease of an experiment. Nothing is written."""
    return is_held(experiment, MIRROR)


def is_worked_on(experiment: Path) -> bool:
    """Whether a process holds the lease of an experiment, or any of its runs. Nothing is written.
    """
    return is_locked(experiment) or any(map(reading.is_open, claimed_folders(experiment)))


@contextmanager
def preparing(root: Path, say: Say) -> Iterator[Claim]:
    """Hold the lease of a root's preparations; wait for those of another process.

    Yields:
        The lease, as `locked` does.

    Args:
        say: Receives a line if there is one.

    Raises:
        UserError: The root cannot be written.
    """
    with _held(root, PREPARATION, say, f"prepares an experiment in {root}") as claim:
        yield claim


@contextmanager
def changing_queue(experiment: Path, say: Say) -> Iterator[Claim]:
    """Hold the lease of an experiment's queue, and wait for it, as `preparing` does.

    Args:
        experiment: Its folder, which exists.

    Raises:
        UserError: The folder cannot be written.
    """
    with _held(experiment, QUEUE, say, f"changes the queue of {experiment.name}") as claim:
        yield claim


@contextmanager
def _held(folder: Path, name: str, say: Say, what: str) -> Iterator[Claim]:
    """Hold a lease; wait for that of another process, and say what that one does."""
    watch, told = Watch(), time.monotonic() + PATIENCE
    while True:
        try:
            claim = take(folder, name, watch)
            break
        except ClaimedError as error:
            if told and time.monotonic() > told:
                say(f"waiting for {error.holder}, which {what}")
                told = 0.0
            time.sleep(POLL)
    try:
        claim.forget_earlier()
        yield claim
    finally:
        claim.release()


def settle_dead_runs(experiment: Path) -> None:
    """Record the end of the runs of an experiment whose process died without recording it."""
    for folder in run_folders(experiment):
        # A command that reads a damaged run reports it; one that is claimed now is alive.
        # What cannot be read is named by whoever wants to claim the run.
        with suppress(DamagedError, ClaimedError, UnreadableClaimError):
            if not reading.is_open(folder):
                writing.settle_run(folder, Status.KILLED, "its process died without a word")


def holder_line(experiment: Path) -> str:
    """Return which process holds an experiment's lease; empty if none does."""
    holder = holder_of(experiment, MIRROR)
    return "" if holder is None else str(holder)


