"""Keeps as many workers queued or running on SLURM as an experiment has work for."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Hashable
from dataclasses import replace

from gan_bench.errors import Say, UserError, count
from gan_bench.launcher.slurm import (
    Job,
    SchedulerDown,
    WorkerArray,
    cancel,
    jobs_of,
    log_end,
    max_array_size,
    submit,
    workers_needed,
)

LOOK = 10.0  # seconds between two looks at the queue
FRUITLESS = 3  # arrays that end without a step until the launcher gives up


class SlurmWorkers:
    """The workers of an experiment; the queue and the root alone say which there are.

    Args:
        array: What is sent; its number of workers is the largest.
        say: Receives what happens, a line each.
    """

    def __init__(self, array: WorkerArray, say: Say) -> None:
        self._array, self._say = array, say
        self._next_look = 0.0
        self._sent = 0  # arrays since the last progress
        self._progress: Hashable = None
        self._was_lacking = True  # so that the first look sends
        self._last_words = ""
        self._limit: int | None = None

    def look(self, unfinished: int, progress: Hashable) -> None:
        """Send workers in the place of those that are missing; do nothing between two looks.

        Args:
            unfinished: The runs that nobody has finished.
            progress: What changes whenever a run gets on.

        Raises:
            UserError: SLURM refuses workers, or they end again and again without a step.
        """
        if progress != self._progress:
            self._progress, self._sent = progress, 0
        if time.monotonic() < self._next_look or not unfinished:
            return
        self._next_look = time.monotonic() + LOOK
        try:
            self._top_up(unfinished)
        except SchedulerDown as error:
            if self._sent == 0 and self._progress is None:
                raise  # before anything was sent
            self._note(f"{error.args[0]}; what runs goes on, and the queue is looked at again")

    def stop(self) -> None:
        """End all workers; each writes its checkpoints first, and none is requeued."""
        try:
            jobs = jobs_of(self._array.experiment, self._array.root)
            cancel(jobs)
        except UserError as error:
            self._say(f"workers may go on: {error}; cancel them with scancel "
                      f"--name={self._array.name}, or `gan-bench stop {self._array.experiment}`")
            return
        if jobs:
            self._say(f"{count(len(jobs), 'worker')} cancelled")

    def _top_up(self, unfinished: int) -> None:
        jobs = jobs_of(self._array.experiment, self._array.root)
        if self._limit is None:
            self._limit = max_array_size()
        wanted = workers_needed(self._array.cluster, unfinished, self._array.slots, self._limit)
        alive = [job for job in jobs if not job.is_ending]
        self._note(_queue_line(alive))
        # A worker that ends just now may have finished the last run: the next look knows.
        is_lacking, self._was_lacking = len(alive) < wanted, self._was_lacking
        if is_lacking and self._was_lacking:
            if self._sent >= FRUITLESS:
                raise UserError(f"{FRUITLESS} arrays of workers have ended without a step. "
                                f"{log_end(self._array) or 'Their output is empty'}")
            missing = replace(self._array, workers=wanted - len(alive))
            job = submit(missing)
            self._sent += 1
            self._say(f"{count(missing.workers, 'worker')} sent to SLURM as job {job}; their "
                      f"output is in {self._array.folder}")
        self._was_lacking = is_lacking

    def _note(self, line: str) -> None:
        """Say a line, unless it was the last."""
        if line and line != self._last_words:
            self._last_words = line
            self._say(line)


def _queue_line(jobs: list[Job]) -> str:
    """Return `on SLURM: 2 running, 3 pending (Resources)`; empty without jobs."""
    states = Counter(job.state.lower() for job in jobs)
    reasons = dict.fromkeys(job.where.strip("()") for job in jobs if job.state == "PENDING")
    waits = ", ".join(filter(None, reasons))
    parts = [f"{n} {state}" + f" ({waits})" * bool(waits and state == "pending")
             for state, n in states.items()]
    return f"on SLURM: {', '.join(parts)}" if parts else ""
