"""What a worker does in a job of SLURM when its machine is taken from it.

Preemption and `scancel` send SIGTERM, and SIGKILL later. A job that leaves by itself in between has
ended for SLURM, and is not requeued. So the worker, whose runs have checkpoints and are released,
waits for SIGKILL. The time limit is no preemption: SIGUSR1 comes before it, and the job has to
requeue itself. Tried with 22.05; docs/machines.md has a table.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress

from gan_bench.errors import Say

JOB = "SLURM_JOB_ID"  # of an array's element too, which is requeued alone
REQUEUE_PATIENCE = 30.0  # seconds for a controller that is down for a moment
KILL_PATIENCE = 600.0  # seconds: longer than the grace of a preemption, as sites set it
PAUSE = 1.0


@contextmanager
def noted_signals() -> Iterator[set[int]]:
    """Collect SIGTERM and SIGUSR1 in a job of SLURM, where neither may end a worker that leaves.

    A handler that wrote something could interrupt itself: SIGTERM and SIGCONT come back to back.
    """
    signals: set[int] = set()
    if JOB not in os.environ:
        yield signals
        return

    def note(number: int, frame: object) -> None:
        signals.add(number)

    handlers = {number: signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGUSR1)}
    try:
        yield signals
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def leave_job(signals: Collection[int], has_work: bool, say: Say) -> None:
    """Let SLURM start this worker again elsewhere or later; return at once outside of SLURM.

    The caller's runs have checkpoints and are released.

    Args:
        signals: Which have asked the worker to leave; signals that come later are added to it.
        has_work: Whether runs of the experiment are unfinished, and the user has not stopped it.
        say: Receives what is done.
    """
    job = os.environ.get(JOB)
    if job is None or not has_work:
        return
    if signal.SIGTERM in signals:  # a preemption, or scancel: which of them, SLURM knows
        say(f"job {job}: waits for SLURM to end it; what was preempted is requeued")
        _wait_for_the_end()
    elif signal.SIGUSR1 in signals:
        if reason := _requeue(job, signals):
            say(f"job {job}: its time is over, and it cannot be requeued ({reason}); "
                f"`gan-bench run … --on slurm` sends another worker")
            return
        say(f"job {job}: its time is over; requeued")
        _wait_for_the_end()


def _requeue(job: str, signals: Collection[int]) -> str:
    """Ask SLURM to requeue this job; return why it refuses, or an empty string.

    After SIGTERM it is not asked: a job that `scancel` ends would be requeued, too.
    """
    deadline = time.monotonic() + REQUEUE_PATIENCE
    while signal.SIGTERM not in signals:
        reason = "scontrol has not answered"
        with suppress(subprocess.TimeoutExpired):
            try:
                done = subprocess.run(["scontrol", "requeue", job], capture_output=True, text=True,
                                      check=False, timeout=REQUEUE_PATIENCE)
            except OSError as error:
                return f"scontrol: {error.strerror}"
            if done.returncode == 0:
                return ""
            reason = " ".join(done.stderr.split()) or f"scontrol: status {done.returncode}"
        if time.monotonic() > deadline:
            return reason
        time.sleep(PAUSE)
    return "SLURM ends it"


def _wait_for_the_end() -> None:
    """Wait for SIGKILL; Ctrl-C ends the waiting."""
    deadline = time.monotonic() + KILL_PATIENCE
    while time.monotonic() < deadline:
        time.sleep(PAUSE)
