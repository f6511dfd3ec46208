"""Keeps as many workers queued or running on SLURM as an experiment has work for."""

from __future__ import annotations

import shlex
import time
from collections import Counter
from collections.abc import Hashable, Mapping
from contextlib import suppress
from dataclasses import replace

from gan_bench.errors import Say, UserError, count
from gan_bench.journal.layout import claimed_folders
from gan_bench.journal.sharing.claims import holder_of
from gan_bench.launcher.clusters.slurm import (
    Job,
    SchedulerDown,
    WorkerArray,
    cancel,
    check_array,
    jobs_of,
    log_end,
    max_array_size,
    submit,
    workers_needed,
)

LOOK = 10.0  # seconds between two looks at the queue
IDLE = 6  # looks at which there are too many workers, until some of them are cancelled
OUTAGE = 30.0  # seconds until a scheduler that is down is asked again
FRUITLESS = 3  # arrays that end without a step, or are refused, until the launcher gives up


class SlurmWorkers:
    """The workers of an experiment; the queue and the root alone say which there are.

    Args:
        array: What is sent; its number of workers is the largest.
        say: Receives what happens, a line each.

    Attributes:
        has_workers: Whether any was queued or running at the last look.
    """

    def __init__(self, array: WorkerArray, say: Say) -> None:
        self._array, self._say, self.has_workers = array, say, False
        self._next_look = 0.0
        self._sent = 0  # arrays since the last progress
        self._refused = 0  # arrays since the last that was taken
        self._progress: Hashable = None
        self._was_lacking, self._has_looked = True, False  # the first look sends workers
        self._last_words = ""
        self._most, self._idle_looks = 0, 0  # runs that a worker was seen to hold at two looks
        self._sweep: int | None = None  # of the runs, at the last look
        self._held: Mapping[str, int] = {}  # by job, at the last look
        self._limit: int | None = None

    def refuse_impossible(self) -> None:
        """Ask SLURM whether it would take a worker, before anything is prepared.

        Where there are workers already, it has taken some: after its restart it does not know its
        nodes for a while, and takes nothing.

        Raises:
            UserError: SLURM is missing, does not answer, or would refuse it.
        """
        if not jobs_of(self._array.experiment, self._array.root):
            check_array(replace(self._array, workers=1))

    def look(self, unfinished: int, progress: Hashable, busy: Mapping[str, int], sweep: int) -> str:
        """Send workers in the place of missing ones; do nothing between two looks.

        With `pack: auto` a worker may take many runs: how many, only the node's GPU says. Those for
        which nothing is left are cancelled.

        A scheduler that is down, or refuses workers while others are there, may change its mind.

        Args:
            unfinished: The runs that nobody has finished.
            progress: What changes whenever a run gets on.
            busy, sweep: As for `RemoteWorkers`.

        Returns:
            Why workers are sent no more: they end again and again without a step. Else nothing.

        Raises:
            UserError: SLURM is missing or does not answer at the first look, or refuses workers
                again and again when there are none.
        """
        if progress != self._progress:
            self._progress, self._sent = progress, 0
        if time.monotonic() < self._next_look or not unfinished:
            return ""
        self._next_look = time.monotonic() + LOOK
        try:
            jobs = jobs_of(self._array.experiment, self._array.root)
            is_new, self._sweep = sweep != self._sweep, sweep
            reason = self._top_up([job for job in jobs if job.is_alive], unfinished, busy, is_new)
            self._has_looked = True
            return reason
        except SchedulerDown as error:
            if not self._has_looked:
                raise
            self._next_look = time.monotonic() + OUTAGE
            self._note(f"{error}; training goes on, and the queue is looked at again")
            return ""

    def dismiss(self) -> None:
        """Cancel the workers that have not started; those that have find nothing to do, and end."""
        with suppress(UserError):
            jobs = jobs_of(self._array.experiment, self._array.root)
            cancel([job for job in jobs if job.state == "PENDING"])

    def stop(self) -> None:
        """End all workers; each writes its checkpoints first, and none is requeued."""
        try:
            jobs = jobs_of(self._array.experiment, self._array.root)
            cancel(jobs)
        except UserError as error:
            self._say(f"workers may go on: {error}; cancel them with `scancel "
                      f"--name={self._array.name}`, or `gan-bench stop {self._array.experiment} "
                      f"--root {shlex.quote(str(self._array.root))}`")
            return
        if jobs:
            self._say(f"{count(len(jobs), 'worker')} cancelled")

    def _top_up(self, jobs: list[Job], unfinished: int, busy: Mapping[str, int], is_new: bool,
                ) -> str:
        """Send what is missing beside these workers; return why nothing is sent any more.

        Args:
            is_new: Whether the runs have been read since the last look.
        """
        if self._limit is None:
            self._limit = max_array_size()
        self.has_workers = bool(jobs)
        self._note(_queue_line(jobs))
        if is_new:
            self._learn(busy)
        slots = max(self._array.slots, self._most)
        for_slurm = unfinished - busy.get("", 0)  # other machines hold some
        wanted = workers_needed(self._array.cluster, for_slurm, slots, self._limit)
        is_all_held = sum(busy.values()) >= unfinished
        if is_new:
            self._cancel_idle([job for job in jobs if is_all_held and job.id not in busy],
                              len(jobs) - wanted)
        is_lacking = len(jobs) < wanted
        # A worker that ends just now may have finished the last run: the next look knows.
        was_lacking, self._was_lacking = self._was_lacking, is_lacking
        if not is_lacking or not was_lacking:
            return ""
        if self._sent >= FRUITLESS:
            return "" if jobs else (f"{FRUITLESS} arrays of workers have ended without a step; "
                                    f"{log_end(self._array) or 'their output is empty'}")
        missing = replace(self._array, workers=wanted - len(jobs))
        try:
            job = submit(missing)
        except SchedulerDown:
            raise
        except UserError as error:
            self._refused += 1
            if not jobs and self._refused >= FRUITLESS:
                raise
            self._note(f"{error}; it is asked again")
            return ""
        self._refused, self._sent, self.has_workers = 0, self._sent + 1, True
        self._say(f"{count(missing.workers, 'worker')} sent to SLURM as job {job}; their output is "
                  f"in {self._array.folder}")
        return ""

    def _learn(self, busy: Mapping[str, int]) -> None:
        """Learn how many runs a worker takes, where only its GPU says it.

        A single look does not tell: the claims are read one after another, and a worker that ends a
        run and takes the next one meanwhile seems to hold both.
        """
        if self._array.pack is None and self._array.gpus:
            steady = [held for job, held in busy.items() if job and self._held.get(job) == held]
            self._most = max(self._most, *steady, 0)
            self._held = dict(busy)

    def _cancel_idle(self, idle: list[Job], surplus: int) -> None:
        """Cancel workers that hold no run while others hold all; first those that wait to start.

        One that has just started, or whose runs have just ended, may be about to claim some. What
        the last sweep saw may be old: the claims are read once more.
        """
        self._idle_looks = self._idle_looks + 1 if idle[:max(0, surplus)] else 0
        if self._idle_looks < IDLE:
            return
        self._idle_looks = 0
        home = self._array.root / "runs" / self._array.experiment
        busy = {holder.job for holder in map(holder_of, claimed_folders(home)) if holder}
        idle = sorted((job for job in idle if job.id not in busy),
                      key=lambda job: job.state != "PENDING")[:surplus]
        if idle:
            cancel(idle)
            self._say(f"{count(len(idle), 'worker')} cancelled, as others hold all runs that are "
                      f"left")

    def _note(self, line: str) -> None:
        """Say a line, unless it was the last."""
        if line and line != self._last_words:
            self._last_words = line
            self._say(line)


def _queue_line(jobs: list[Job]) -> str:
    """Return `on SLURM: 2 running, 3 pending (Resources)`; empty without jobs."""
    states = Counter(job.state.lower() for job in jobs)
    reasons = dict.fromkeys(job.where.strip("()") for job in jobs if job.state == "PENDING")
    waits = ", ".join(reason for reason in reasons if reason not in ("", "None"))
    parts = [f"{n} {state}" + f" ({waits})" * bool(waits and state == "pending")
             for state, n in states.items()]
    return f"on SLURM: {', '.join(parts)}" if parts else ""
