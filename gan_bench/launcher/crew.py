"""The work loop: slots of this machine claim runs of a grid, train them, and take the next."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import wait
from multiprocessing.context import ForkServerContext
from pathlib import Path

from gan_bench.errors import Stopped, UserError, count
from gan_bench.hardware import usable_cores
from gan_bench.journal.layout import Execution
from gan_bench.launcher.grid import Grid
from gan_bench.launcher.processes import GRACE, WorkerProcess, delayed_signals, run_label
from gan_bench.launcher.reporters import Reporter

POLL = 0.5  # seconds between two looks at the journals
SWEEP = 1.0  # seconds between two looks at the runs of other processes
SWEEP_SHARE = 30  # times the duration of a look, if that is longer


@dataclass(frozen=True)
class Slots:
    """What this machine trains at once.

    Attributes:
        number: Of processes; 0: this process trains nothing, and follows what others do.
        gpus: Of the machine, which the slots use in turn; 0: they use the CPU.
        together: How many runs fit on a GPU at once.
    """

    number: int
    gpus: int
    together: int


def usual_slots(asked: int | None, gpus: int, threads: int) -> int:
    """Return how many processes run at once: the number asked for, or one per GPU or core."""
    return asked if asked is not None else gpus or max(1, usable_cores() // threads)


class Crew:
    """The processes of this machine that work on a grid.

    Args:
        request: Is told the folder of a run that has recorded something.
        leave: Returns why all work is to be left, e.g. as the time is over; empty: it goes on.
        is_over: Whether nobody will work on the open runs; it is asked if this process cannot.
        follows: Whether what other processes record is of interest while all slots are busy.
    """

    def __init__(self, grid: Grid, execution: Execution, slots: Slots, context: ForkServerContext,
                 reporter: Reporter, request: Callable[[Path], None],
                 leave: Callable[[], str] = str, is_over: Callable[[], bool] = lambda: True,
                 follows: bool = True) -> None:
        self._grid, self._execution, self._slots = grid, execution, slots
        self._context, self._reporter, self._request = context, reporter, request
        self._leave, self._nobody_works = leave, is_over
        self._together = runs_per_process(slots.together, slots.number, slots.gpus)
        self._running: dict[int, WorkerProcess] = {}
        self._next_sweep, self._trouble, self._follows = 0.0, "", follows
        self._told: set[str] = set()  # why runs cannot be claimed

    def work(self) -> str:
        """Keep the slots busy until every run is over; return why it was left, or nothing.

        Raises:
            Stopped: The user stopped it. Every run has written a checkpoint, unless that took too
                long or the user stopped it a second time.
        """
        try:
            while True:
                self._fill()
                if not self._running and self._is_over():
                    return self._trouble
                sentinels = [worker.process.sentinel for worker in self._running.values()]
                if sentinels:
                    wait(sentinels, timeout=POLL)
                else:
                    time.sleep(POLL)
                self._collect()
                if why := self._leave():
                    self._end_all(math.inf)
                    return why
        except Stopped:
            self._reporter.say("stopping: each run writes a checkpoint; repeat the signal to stop "
                               "at once")
            self._end_all(GRACE)
            raise
        finally:
            self._abandon()

    def _fill(self) -> None:
        """Start a process on each free slot, as far as there are runs to claim."""
        free = [slot for slot in range(self._slots.number) if slot not in self._running]
        if time.monotonic() < self._next_sweep and (not free or not self._is_whole()):
            return
        begin = time.monotonic()
        try:
            if free:
                self._start(free)
            if len(self._running) < self._slots.number or (self._follows and not free):
                self._grid.follow()
            self._tell_blocked()
            self._trouble = ""
        except UserError as error:  # a full disk may have room again
            if str(error) != self._trouble:
                self._reporter.say(f"{error}; tried again while runs are going on")
            self._trouble = str(error)
        pause = max(SWEEP, SWEEP_SHARE * (time.monotonic() - begin))
        self._next_sweep = time.monotonic() + pause

    def _start(self, free: list[int]) -> None:
        """Claim runs for the free slots, and start their processes.

        Raises:
            UserError: A claim cannot be written, or no process starts; no claim is left behind.
        """
        with delayed_signals():  # every claim is that of a process in `_running`, or released
            rest = self._grid.claim(len(free) * self._together)
            rest.reverse()
            parts = shares(len(rest), len(free), self._together)
            try:
                for slot, share in zip(free, parts, strict=False):
                    gpu = slot % self._slots.gpus if self._slots.gpus else None
                    claimed = rest[-share:][::-1]
                    self._running[slot] = WorkerProcess(self._context, claimed, self._execution,
                                                        gpu)
                    del rest[-share:]
            except BaseException:
                for run, claim in rest:
                    claim.release()
                    self._grid.give_back(run)
                raise
        for slot in free:
            for run in self._running[slot].runs if slot in self._running else ():
                self._reporter.changed(run)
                self._request(run.folder)

    def _tell_blocked(self) -> None:
        """Say of which runs the claims cannot be read, once for each."""
        for line in self._grid.blocked.values():
            if line not in self._told:
                self._told.add(line)
                self._reporter.say(f"{line}; other runs go on")

    def _is_whole(self) -> bool:
        """Whether the last try to fill the slots met no obstacle."""
        grid = self._grid
        return not self._trouble and not grid.open.keys() <= (
            grid.elsewhere.keys() | grid.unfit.keys() | grid.blocked.keys())

    def _is_over(self) -> bool:
        """Whether nothing is left that this process could do or wait for."""
        if not self._grid.open:
            return True
        if self._grid.elsewhere:
            return False
        is_unfit = self._grid.open.keys() <= self._grid.unfit.keys() | self._grid.blocked.keys()
        is_stuck = self._slots.number == 0 or is_unfit or bool(self._trouble)
        return is_stuck and self._nobody_works()

    def _collect(self) -> None:
        """Read what the runs have recorded; give back those whose processes were killed."""
        for slot, worker in list(self._running.items()):
            if not worker.follow(self._reporter, self._request):
                continue
            del self._running[slot]
            self._next_sweep = 0.0
            for run in worker.runs:
                if run.spec.id in worker.taken_over:
                    self._grid.give_back(run)
                    self._reporter.say(f"{run_label(run)}: another process has taken it over")
                elif run.spec.id in worker.killed and not self._grid.is_exhausted(run):
                    self._reporter.say(f"{run_label(run)}: {run.why or run.unmeasured}; resumed "
                                       f"({self._grid.kills(run)} of {self._grid.retries})")
                    self._grid.give_back(run)
                else:
                    self._grid.note_end(run)
                    self._reporter.changed(run)

    def _end_all(self, patience: float) -> None:
        """Let every run write a checkpoint and end."""
        for worker in self._running.values():
            worker.process.terminate()
        deadline = time.monotonic() + patience
        for worker in self._running.values():
            left = max(0.0, deadline - time.monotonic())
            worker.process.join(None if math.isinf(left) else left)

    def _abandon(self) -> None:
        for worker in self._running.values():
            worker.is_abandoned = True
            worker.process.kill()
        for worker in self._running.values():
            worker.process.join()
            worker.follow(self._reporter, self._request)
            for run in worker.runs:
                self._reporter.changed(run)


def waiting_line(grid: Grid) -> str:
    """Return what runs wait for, and how many; empty if none waits."""
    kinds: dict[str, int] = {}
    for kind in grid.unfit.values():
        kinds[kind] = kinds.get(kind, 0) + 1
    lines = [f"for a machine with {kind}: {count(number, 'run')}"
             for kind, number in sorted(kinds.items())]
    return "; ".join([*lines, *grid.blocked.values()])


def runs_per_process(together: int, slots: int, gpus: int) -> int:
    """Return how many runs one process trains.

    `together` runs fit on one GPU at once; the processes on a GPU share them. With 3 slots on 2
    GPUs, one GPU has two processes.
    """
    if not gpus:
        return together
    return max(1, together // math.ceil(slots / gpus))


def shares(waiting: int, free: int, together: int) -> list[int]:
    """Return how many of the waiting runs each free slot starts, in shares as equal as possible.

    Several runs in one process take hardly longer than one run. Unequal shares would cause a second
    round for the runs that found no room. The list leaves out slots that start no run.

    Args:
        together: The largest number of runs that one process trains.
    """
    if not free:
        return []
    share, over = divmod(min(waiting, free * together), free)
    return [count for count in [share + 1] * over + [share] * (free - over) if count]
