"""Runs that an earlier version made under another id, and how they are taken over.

Until `RECORDED` left the id, it held what is measured and recorded of a run, so several older runs
may be the same run now. The one that got furthest is taken over: its folder is renamed. The mirror
then lets MLflow show the present id.
"""

from __future__ import annotations

from collections.abc import Container, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from gan_bench.config.run_id import id_of
from gan_bench.config.spec import RunSpec
from gan_bench.errors import DamagedError, unwritable
from gan_bench.journal import reading
from gan_bench.journal.layout import LOG, WEIGHTS, run_folders
from gan_bench.journal.schema import Kind, Status
from gan_bench.journal.segments import JOURNAL_FILES
from gan_bench.journal.sharing.claims import ATTEMPT
from gan_bench.journal.spec_file import ReadValues, read_values
from gan_bench.tracking.runs import cursor


@dataclass(frozen=True)
class OlderRun:
    """A run under the id of an earlier version.

    Attributes:
        folder: The run's; its name is the older id.
        id: The present id.
        variant, seed: The run's.
        state: How it ended; RUNNING or KILLED without an end.
        step: The last one.
    """

    folder: Path
    id: str
    variant: str
    seed: int
    state: Status
    step: int

    @property
    def rank(self) -> tuple[bool, int, str]:
        """What is greater for the run that got further."""
        is_trained = self.state.is_result and (self.folder / WEIGHTS).exists()
        return is_trained, self.step, self.folder.name


def older_runs(experiment: Path, but: Container[str] = (), read: ReadValues = read_values,
               ) -> list[OlderRun]:
    """Return the runs in an experiment's folder that have ids of an earlier version.

    Args:
        experiment: The folder.
        but: Ids of runs that are not looked at.
        read: Reads the `spec.json` of a folder.

    Raises:
        UserError: A folder of a run is a link.
    """
    runs = []
    for folder in run_folders(experiment):
        if folder.name in but:
            continue
        try:
            values, last = read(folder), reading.last(folder)
        except DamagedError:  # a command that reads this run reports it
            continue
        if last is not None and id_of(values) != folder.name:
            ended = Status(last["status"]) if last["kind"] == Kind.END else Status.KILLED
            state = Status.RUNNING if reading.is_open(folder) else ended
            runs.append(OlderRun(folder, id_of(values), values["variant"], values["seed"], state,
                                 last["step"]))
    return runs


def to_take_over(runs: Iterable[OlderRun], planned: Iterable[RunSpec], root: Path,
                 ) -> dict[str, OlderRun]:
    """Return which of the older runs stands for which planned run that has not begun, by its id."""
    waiting = {run.id for run in planned if not _has_begun(run.folder(root))}
    chosen: dict[str, OlderRun] = {}
    for run in sorted(runs, key=lambda run: run.rank):
        if run.id in waiting:
            chosen[run.id] = run
    return chosen


def take_over_older_runs(planned: tuple[RunSpec, ...], root: Path) -> int:
    """Give older runs that the experiment plans their present ids; return how many.

    The caller holds the lease of the root's preparations. Each rename is atomic: a killed command
    is resumed.

    Raises:
        UserError: A folder cannot be renamed.
    """
    home = root / "runs" / planned[0].experiment
    runs = older_runs(home, {run.id for run in planned})
    count = 0
    for present, run in to_take_over(runs, planned, root).items():
        try:
            cursor.note_shown_id(run.folder)
            _remove_unbegun(home / present)
            run.folder.rename(home / present)
        except OSError as error:
            raise unwritable(run.folder, error, verb="renamed") from None
        count += 1
    return count


def _has_begun(folder: Path) -> bool:
    try:
        return reading.first(folder) is not None
    except DamagedError:  # a command that reads this run reports it
        return True


def _remove_unbegun(folder: Path) -> None:
    """Remove what a start that was refused has left of a run without a record."""
    for name in ("spec.json", LOG, JOURNAL_FILES, f"{ATTEMPT}.*"):
        for file in folder.glob(name):
            file.unlink(missing_ok=True)
    with suppress(FileNotFoundError):
        folder.rmdir()
