"""`gan-bench logs`: what a run's process has printed, and prints while it trains. No torch."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path

from gan_bench.cli.options import to_stderr
from gan_bench.config.initial_weights import find_run
from gan_bench.errors import UserError, printable
from gan_bench.journal.layout import LOG
from gan_bench.journal.schema import Status
from gan_bench.journal.segments import segments
from gan_bench.journal.sharing.lock import is_worked_on
from gan_bench.journal.status import state_in

POLL = 0.5  # seconds between two looks at the log


def print_log(root: Path, run: str, follow: bool) -> None:
    """Print a run's log; if it is followed, what is added too, and at last how the run ended.

    Raises:
        UserError: As `find_log`.
    """
    folder = find_log(root, run, follow)
    for text in read_log(folder, follow):
        sys.stdout.write(text)
        sys.stdout.flush()
    state, last = state_in(folder)
    if follow and last is not None:
        why = f": {last['why']}" if last.get("why") else ""
        to_stderr(f"{folder.name} {state} at step {last['step']}{why}")


def find_log(root: Path, run: str, follow: bool) -> Path:
    """Return the folder of a run that has a log, or may get one if it is followed.

    Raises:
        UserError: There is no such run, or it has no log.
    """
    given = Path(run)
    folder = given if segments(given) else find_run(root, run)
    if not (folder / LOG).is_file() and not (follow and is_worked_on(folder.parent)):
        raise UserError(f"{folder}: has no {LOG}, which only `gan-bench run` writes, once the run "
                        f"begins; the journal beside it holds every loss")
    return folder


def read_log(folder: Path, follow: bool) -> Iterator[str]:
    """Yield what the log holds, and if it is followed what is added until the run ends."""
    position = 0
    while True:
        is_over = not follow or _is_over(folder)  # before the last look, which so sees all
        text, position = _read_from(folder / LOG, position, is_over)
        if text:
            yield text
        if is_over:
            return
        time.sleep(POLL)


def _is_over(folder: Path) -> bool:
    """Whether nothing is added to the log any more: a killed run may be resumed by its launcher."""
    state, _ = state_in(folder)
    if state == Status.RUNNING:
        return False
    waits = state in (Status.WAITING, Status.KILLED)
    return not (waits and is_worked_on(folder.parent))


def _read_from(log: Path, position: int, is_over: bool) -> tuple[str, int]:
    """Return the lines after a position, printable, and the position after them.

    A new attempt begins with an empty log, which is then read from its start.

    Args:
        is_over: Whether a last line without an end is one too.
    """
    try:
        with log.open("rb") as file:
            if log.stat().st_size < position:
                position = 0
            file.seek(position)
            data = file.read()
    except FileNotFoundError:
        return "", 0
    if not is_over:
        data = data[: data.rfind(b"\n") + 1]
    lines = data.decode(errors="replace").splitlines()
    return "".join(f"{printable(line.expandtabs())}\n" for line in lines), position + len(data)
