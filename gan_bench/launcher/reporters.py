"""Showing how a grid of runs goes on: a live table, plain lines, or JSON lines."""

from __future__ import annotations

import json
import math
import time
from collections import Counter
from typing import Any, Protocol

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from gan_bench.journal.names import split_score
from gan_bench.journal.schema import Status
from gan_bench.journal.status import Progress

ROWS = 24  # of the live table: what runs and what ended last; the rest is counted
HEARTBEAT = 30.0  # seconds between two plain lines about the whole
STYLES = {Status.RUNNING: "cyan", Status.FINISHED: "green", Status.DIVERGED: "yellow",
          Status.FAILED: "red", Status.KILLED: "red"}


class Pace:
    """How much of the grid is done, and how long the rest will take at the pace so far."""

    def __init__(self, runs: list[Progress]) -> None:
        self._runs = runs
        self._start = time.monotonic()
        self._before = self._steps()

    def _steps(self) -> int:
        # A run that is over takes no more time, however far it got.
        return sum(r.step if r.state in (Status.WAITING, Status.RUNNING) else r.spec.steps
                   for r in self._runs)

    def left(self) -> float:
        """Seconds until the last run ends, nan before anything is known."""
        done = self._steps() - self._before
        total = sum(r.spec.steps for r in self._runs) - self._before
        elapsed = time.monotonic() - self._start
        return elapsed * (total - done) / done if done else math.nan

    def line(self) -> str:
        """`7 of 20 ended, 2 running, about 3 min left`."""
        count = Counter(r.state for r in self._runs)
        ended = len(self._runs) - count[Status.WAITING] - count[Status.RUNNING]
        bad = [f"{count[s]} {s}" for s in (Status.DIVERGED, Status.FAILED, Status.KILLED)
               if count[s]]
        named = f" ({', '.join(bad)})" if bad else ""
        left = f", {duration(self.left())} left" if count[Status.RUNNING] else ""
        return f"{ended} of {len(self._runs)} ended{named}, {count[Status.RUNNING]} running{left}"


class PlainLines:
    """A line for every start and end, and now and then one about the whole."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._shown: dict[str, str] = {}
        self._last = time.monotonic()
        self._pace = Pace([])

    def say(self, line: str) -> None:
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)

    def begin(self, runs: list[Progress]) -> None:
        self._pace, self._last = Pace(runs), time.monotonic()

    def changed(self, run: Progress) -> None:
        if self._shown.get(run.spec.id) != run.state:
            self._shown[run.spec.id] = run.state
            name = f"{run.spec.variant} seed {run.spec.seed}"
            if run.state == Status.RUNNING:
                self.say(f"{run.spec.id} {name}: started")
            else:
                why = f": {run.why}" if run.why else ""
                self.say(f"{run.spec.id} {name}: {run.state} at step {run.step}{why}"
                         f"{', ' + last_score(run) if run.scores else ''}  [{self._pace.line()}]")
        elif time.monotonic() - self._last > HEARTBEAT:
            self._last = time.monotonic()
            self.say(self._pace.line())

    def close(self) -> None:
        pass


class JsonLines:
    """One JSON object a line, for machines."""

    def say(self, line: str) -> None:
        self._print({"event": "note", "text": line})

    def begin(self, runs: list[Progress]) -> None:
        self._print({"event": "begin", "runs": [progress_json(run) for run in runs]})

    def changed(self, run: Progress) -> None:
        self._print({"event": "run", **progress_json(run)})

    def close(self) -> None:
        pass

    def _print(self, record: dict[str, Any]) -> None:
        print(json.dumps(record), flush=True)


class LiveTable:
    """A table that is redrawn in place."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._runs: list[Progress] = []
        self._pace = Pace([])
        self._live = Live(console=console, refresh_per_second=4, get_renderable=self._table)

    def say(self, line: str) -> None:
        self._console.print(line, markup=False, highlight=False)

    def begin(self, runs: list[Progress]) -> None:
        self._runs, self._pace = runs, Pace(runs)
        self._live.start()

    def changed(self, run: Progress) -> None:
        pass  # the table is drawn from the runs themselves

    def close(self) -> None:
        self._live.stop()

    def _table(self) -> Table:
        table = Table(caption=self._pace.line(), caption_justify="left", box=None, pad_edge=False)
        for heading in ("variant", "seed", "state", "step", "steps/s", "D loss", "G loss",
                        "last score", "left"):
            table.add_column(heading, no_wrap=True,
                             justify="left" if heading in ("variant", "state", "last score")
                             else "right")
        order = {Status.RUNNING: 0, Status.FAILED: 1, Status.KILLED: 1, Status.DIVERGED: 2,
                 Status.FINISHED: 3, Status.WAITING: 4}
        room = min(ROWS, max(4, self._console.height - 4))
        for run in sorted(self._runs, key=lambda r: order[r.state])[:room]:
            values, rate = run.values, run.values.get("system/steps_per_s", math.nan)
            left = (run.spec.steps - run.step) / rate if run.state == Status.RUNNING else math.nan
            table.add_row(
                escape(run.spec.variant), str(run.spec.seed), run.state,
                f"{run.step}/{run.spec.steps}", format_number(rate),
                format_number(values.get("train/d_loss", math.nan)),
                format_number(values.get("train/g_loss", math.nan)), last_score(run),
                duration(left) if run.state == Status.RUNNING else "",
                style=STYLES.get(run.state))
        return table


def progress_json(run: Progress) -> dict[str, Any]:
    """Return a run's progress as JSON-safe data; non-finite numbers become null."""
    def safe(values: dict[str, float]) -> dict[str, float | None]:
        return {k: v if math.isfinite(v) else None for k, v in values.items()}

    return {"id": run.spec.id, "variant": run.spec.variant, "seed": run.spec.seed,
            "state": run.state, "why": run.why, "step": run.step, "steps": run.spec.steps,
            "scores": safe(run.scores),
            "values": safe({k: v for k, v in run.values.items() if split_score(k) is None})}


def last_score(run: Progress) -> str:
    """Return the first of a run's last scores: `fd_classifier 41.2`."""
    return next((f"{name} {format_number(value)}" for name, value in run.scores.items()), "")


def format_number(value: float) -> str:
    """Return four significant digits, or nothing for what is not known."""
    return "" if math.isnan(value) else f"{value:.4g}"


def duration(seconds: float) -> str:
    """Return `about 40 s`, `about 3 min`, `about 2.5 h`; `?` when not known."""
    if not math.isfinite(seconds):
        return "?"
    if seconds < 90:
        return f"about {seconds:.0f} s"
    return f"about {seconds / 60:.0f} min" if seconds < 5400 else f"about {seconds / 3600:.1f} h"


class Reporter(Protocol):
    """What shows the launcher's progress to somebody: gan_bench.launcher.reporters has three."""

    def say(self, line: str) -> None:
        """Tell what goes on before and between the runs."""

    def begin(self, runs: list[Progress]) -> None:
        """All is prepared; these are the runs, finished ones among them."""

    def changed(self, run: Progress) -> None:
        """A run has started, gone on or ended."""

    def close(self) -> None:
        """The last run has ended, or the launcher was told to stop."""
