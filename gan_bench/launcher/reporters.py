"""Three ways to show the progress of a grid: a live table, plain lines, or JSON lines."""

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

from gan_bench.config.spec import RunSpec
from gan_bench.errors import printable
from gan_bench.journal.schema import Status
from gan_bench.journal.scores.score_names import split_score
from gan_bench.journal.status import Progress
from gan_bench.text_table import TableColumn, fit_cells, fit_columns

ROWS = 24  # of the live table; its caption counts the other runs
HEARTBEAT = 30.0  # seconds between two plain lines about the whole grid
STYLES = {Status.RUNNING: "cyan", Status.FINISHED: "green", Status.DIVERGED: "yellow",
          Status.FAILED: "red", Status.KILLED: "red"}
BAD_ENDS = (Status.DIVERGED, Status.FAILED, Status.KILLED)
# The order of the live table's rows.
ORDER = {Status.RUNNING: 0, Status.FAILED: 1, Status.KILLED: 1, Status.DIVERGED: 2,
         Status.FINISHED: 3, Status.WAITING: 4}
# Of the live table. Variant, seed and state are always there.
LIVE_COLUMNS = (TableColumn("variant", least=20), TableColumn("seed", right=True),
                TableColumn("state"), TableColumn("step", 1, right=True),
                TableColumn("steps/s", 4, right=True), TableColumn("D loss", 6, right=True),
                TableColumn("G loss", 5, right=True), TableColumn("last score", 2),
                TableColumn("left", 3, right=True))


class Pace:
    """The share of the grid that is done, and the time that the remaining runs take at this pace.

    Args:
        runs: All runs of the grid.
    """

    def __init__(self, runs: list[Progress]) -> None:
        self._runs = runs
        self._start = time.monotonic()
        self._first_steps = self._count_steps()

    def _count_steps(self) -> int:
        """Return how many steps are done; an ended run counts in full, as it takes no more time."""
        steps = 0
        for run in self._runs:
            is_over = run.state not in (Status.WAITING, Status.RUNNING)
            steps += run.spec.steps if is_over else run.step
        return steps

    def seconds_left(self) -> float:
        """Return the seconds until the last run ends; nan before the first step."""
        done = self._count_steps() - self._first_steps
        total = sum(run.spec.steps for run in self._runs) - self._first_steps
        elapsed = time.monotonic() - self._start
        return elapsed * (total - done) / done if done else math.nan

    def line(self) -> str:
        """Return `7 of 20 ended, 2 running, about 3 min left`."""
        count = Counter(run.state for run in self._runs)
        ended = len(self._runs) - count[Status.WAITING] - count[Status.RUNNING]
        bad = [f"{count[status]} {status}" for status in BAD_ENDS if count[status]]
        named = f" ({', '.join(bad)})" if bad else ""
        left = f", {duration(self.seconds_left())} left" if count[Status.RUNNING] else ""
        return f"{ended} of {len(self._runs)} ended{named}, {count[Status.RUNNING]} running{left}"


class PlainLines:
    """A line for every start and end of a run, and one about the whole grid every 30 seconds."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._states: dict[str, str] = {}  # that the last line of each run shows
        self._last = time.monotonic()
        self._pace = Pace([])

    def say(self, line: str) -> None:
        self._console.print(printable(line), markup=False, highlight=False, soft_wrap=True)

    def begin(self, runs: list[Progress]) -> None:
        self._pace, self._last = Pace(runs), time.monotonic()

    def changed(self, run: Progress) -> None:
        if self._states.get(run.spec.id) != run.state:
            self._states[run.spec.id] = run.state
            name = run.spec.label
            if run.state == Status.RUNNING:
                self.say(f"{run.spec.id} {name}: {'measuring' if run.is_measuring else 'started'}")
            elif run.state == Status.WAITING:  # it was killed, and goes on soon
                pass
            elif run.unmeasured:
                self.say(f"{run.spec.id} {name}: not measured: {run.unmeasured}")
            else:
                why = f": {run.why}" if run.why else ""
                score = f", {last_score(run)}" if run.scores else ""
                self.say(f"{run.spec.id} {name}: {run.state} at step {run.step}{why}{score}  "
                         f"[{self._pace.line()}]")
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
        self._console.print(printable(line), markup=False, highlight=False)

    def begin(self, runs: list[Progress]) -> None:
        self._runs, self._pace = runs, Pace(runs)
        self._live.start()

    def changed(self, run: Progress) -> None:
        pass  # the table reads the runs each time it is drawn

    def close(self) -> None:
        self._live.stop()

    def _table(self) -> Table:
        table = Table(caption=self._pace.line(), caption_justify="left", box=None, pad_edge=False)
        height = min(ROWS, max(4, self._console.height - 4))
        shown = sorted(self._runs, key=lambda run: ORDER[run.state])[:height]
        rows = [_live_cells(run) for run in shown]
        kept = fit_columns(LIVE_COLUMNS, rows, self._console.width)
        for i, width in kept:
            column = LIVE_COLUMNS[i]
            table.add_column(column.heading, no_wrap=True, min_width=width,
                             justify="right" if column.right else "left")
        for run, cells in zip(shown, fit_cells(LIVE_COLUMNS, rows, kept), strict=True):
            table.add_row(*map(escape, cells), style=STYLES.get(run.state))
        return table


def _live_cells(run: Progress) -> list[str]:
    """Return what the live table says of a run, in the order of `LIVE_COLUMNS`."""
    values, rate = run.values, run.values.get("system/steps_per_s", math.nan)
    is_running = run.state == Status.RUNNING
    return [run.spec.place, str(run.spec.seed), _state_text(run),
            f"{run.step}/{run.spec.steps}", format_number(rate),
            format_number(values.get("train/d_loss", math.nan)),
            format_number(values.get("train/g_loss", math.nan)), last_score(run),
            duration((run.spec.steps - run.step) / rate) if is_running else ""]


def _state_text(run: Progress) -> str:
    return "measuring" if run.is_measuring and run.state == Status.RUNNING else run.state.value


def progress_json(run: Progress) -> dict[str, Any]:
    """Return a run's progress as JSON-safe data; non-finite numbers become null."""
    def safe(values: dict[str, float]) -> dict[str, float | None]:
        not_finite = {name: None for name, value in values.items() if not math.isfinite(value)}
        return {**values, **not_finite}

    return {"id": run.spec.id, "variant": run.spec.variant, **search_fields(run.spec),
            "seed": run.spec.seed,
            "state": run.state, "why": run.why, "step": run.step, "steps": run.spec.steps,
            "scores": safe(run.scores),
            "values": safe({k: v for k, v in run.values.items() if split_score(k) is None})}


def search_fields(run: RunSpec) -> dict[str, Any]:
    """Return `draw` and `stage` of a run of a search; nothing of another run."""
    return {} if run.draw is None else {"draw": run.draw, "stage": run.stage}


def last_score(run: Progress) -> str:
    """Return the first score of a run's last measurement: `fd_classifier 41.2`."""
    for name, value in run.scores.items():
        return f"{name} {format_number(value)}"
    return ""


def format_number(value: float) -> str:
    """Return four significant digits; empty for nan."""
    return "" if math.isnan(value) else f"{value:.4g}"


def duration(seconds: float) -> str:
    """Return `about 40 s`, `about 3 min`, `about 2.5 h`; `?` if not finite."""
    if not math.isfinite(seconds):
        return "?"
    if seconds < 90:
        return f"about {seconds:.0f} s"
    return f"about {seconds / 60:.0f} min" if seconds < 5400 else f"about {seconds / 3600:.1f} h"


class Reporter(Protocol):
    """Receives the launcher's progress events and shows them; this module has three of them."""

    def say(self, line: str) -> None:
        """Show a line that belongs to no state of a run."""

    def begin(self, runs: list[Progress]) -> None:
        """The preparations are done; `runs` are all runs, finished ones included."""

    def changed(self, run: Progress) -> None:
        """A run has started, recorded something or ended."""

    def close(self) -> None:
        """The last run has ended, or the user stopped the launcher."""
