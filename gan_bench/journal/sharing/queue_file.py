"""The queue of an experiment: which runs are to be trained or measured, for workers to claim.

`queue.json` is written by the process that has prepared the experiment, when data, extractors and
folders are in place. Any number of workers on any number of machines read it: they need neither the
YAML nor the plug-in files, and do what was prepared even if those have changed since.

Each worker notes in a file of its own, `over.<host>.<pid>`, which runs it has seen to be over. So a
worker that starts late opens the folders of no finished runs. These files are an index: without
them the journals say the same.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Container, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

from pydantic import ConfigDict, TypeAdapter

from gan_bench.atomic import replacing
from gan_bench.config.spec import RunSpec
from gan_bench.errors import DamagedError, UserError, one_line, unwritable
from gan_bench.journal.layout import Execution, KeepCheckpoints, Workspace, is_trained
from gan_bench.journal.plugin_files import provide_parts, write_plugins
from gan_bench.journal.sharing.claims import is_held, newest_attempt
from gan_bench.journal.spec_file import read_spec, read_values
from gan_bench.journal.status import Progress

FILE = "queue.json"
OVER = "over"
STOP = "stop"  # in an experiment's folder: all workers are to leave


@dataclass(frozen=True)
class Queue:
    """The runs of an experiment that were unfinished when it was prepared.

    Attributes:
        begun: By run id, the number of its newest claim then; those after it are of this study.
        measured: The ids of the runs that are trained and are to be measured.
        shorter_runs: By run id, the folders' names of runs that it can continue from.
        retries: How often a run is resumed after its process was killed.
        together: How many runs share a process on a GPU; 0: each machine's memory says it.
        threads: Of each run.
        data_root: The folder of the data sets.
        checkpoint_every, allow_drift, keep_checkpoints: As in `Execution`.
        select: The ids of all runs of a search's first stage, finished ones too; empty without a
            search. When they have a result, `extend_queue` adds the runs of the second stage.
    """

    begun: Mapping[str, int]
    measured: Sequence[str]
    shorter_runs: Mapping[str, Sequence[str]]
    retries: int
    together: int
    threads: int
    data_root: str
    checkpoint_every: float | None
    allow_drift: bool
    keep_checkpoints: KeepCheckpoints
    select: Sequence[str] = ()
    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid", strict=True)

    def execution(self, root: Path) -> Execution:
        """Return where and how the runs are executed."""
        home = root / "runs"
        return Execution(Workspace(root, Path(self.data_root)), self.checkpoint_every,
                         self.allow_drift, keep_checkpoints=self.keep_checkpoints,
                         shorter_runs={run: tuple(home / name for name in names)
                                       for run, names in self.shorter_runs.items()})


def write_specs(runs: Sequence[Progress], root: Path) -> dict[str, int]:
    """Write the specification and the code of every run; return the newest claim of each, by id.

    Raises:
        UserError: A file cannot be written.
    """
    for run in runs:
        write_plugins(run.spec, run.spec.write(root))
    return {run.spec.id: newest_attempt(run.folder) for run in runs}


def write_queue(home: Path, runs: Sequence[Progress], begun: Mapping[str, int],
                execution: Execution, retries: int, together: int,
                select: Sequence[str] = ()) -> int:
    """Write the queue; return how many runs of an earlier one stay in it.

    They stay as long as anyone works on the earlier queue: its workers may be preempted, and are
    started again without a word about the rest.

    Args:
        begun: As `write_specs` returns it.
        select: As in `Queue`.

    Raises:
        UserError: A file cannot be written.
    """
    shorter = _names(execution.shorter_runs)
    queue = Queue(
        begun=begun,
        measured=[run.spec.id for run in runs if run.is_measuring], shorter_runs=shorter,
        retries=retries, together=together, threads=runs[0].spec.compute.threads if runs else 1,
        data_root=str(execution.workspace.data_root),
        checkpoint_every=execution.checkpoint_every, allow_drift=execution.allow_drift,
        keep_checkpoints=execution.keep_checkpoints, select=[*select])
    kept = _worked_on(home, begun)
    queue = replace(
        queue, begun={**kept.begun, **begun}, measured=[*kept.measured, *queue.measured],
        shorter_runs={**kept.shorter_runs, **shorter}) if kept is not None else queue
    try:
        _write(home, queue)
        for index in home.glob(f"{OVER}.*"):
            index.unlink(missing_ok=True)
        (home / STOP).unlink(missing_ok=True)
    except OSError as error:
        raise unwritable(home / FILE, error) from None
    return len(queue.begun) - len(begun)


def extend_queue(home: Path, runs: Sequence[Progress],
                 shorter_runs: Mapping[str, Sequence[Path]]) -> Queue:
    """Add runs to a queue, as far as they are not in it; return the queue.

    They have the data, extractors and options that the queue was prepared with. Whoever calls it
    holds the lease of the queue (`lock.changing_queue`): so a second process that adds the same
    runs finds them there, and the queue stays as it is.

    Args:
        shorter_runs: As in `Execution`, for these runs.

    Raises:
        UserError: The queue cannot be read, or a file cannot be written.
    """
    queue, root = read_queue(home), home.parents[1]
    new = [run for run in runs if run.spec.id not in queue.begun]
    if not new:
        return queue
    queue = replace(
        queue, begun={**queue.begun, **write_specs(new, root)},
        measured=[*queue.measured, *(run.spec.id for run in new if run.is_measuring)],
        shorter_runs={**queue.shorter_runs, **_names(shorter_runs)})
    try:
        _write(home, queue)
    except OSError as error:
        raise unwritable(home / FILE, error) from None
    return queue


def _names(shorter_runs: Mapping[str, Sequence[Path]]) -> dict[str, Sequence[str]]:
    return {run: [f"{folder.parent.name}/{folder.name}" for folder in folders]
            for run, folders in shorter_runs.items()}


def _write(home: Path, queue: Queue) -> None:
    with replacing(home / FILE) as temporary:
        temporary.write_text(json.dumps(queue.__dict__) + "\n")


def _worked_on(home: Path, new: Container[str]) -> Queue | None:
    """Return the present queue, less what is over or new; None if nobody works on it."""
    try:
        queue = read_queue(home)
    except UserError:  # there is none, or it is damaged
        return None
    waiting = open_runs(queue, home)
    if not any(is_held(home / run) for run in waiting):
        return None
    rest = {run: queue.begun[run] for run in waiting if run not in new}
    return replace(queue, begun=rest,
                   measured=[run for run in queue.measured if run in rest],
                   shorter_runs={run: folders for run, folders in queue.shorter_runs.items()
                                 if run in rest})


def read_queue(home: Path) -> Queue:
    """Read the queue of an experiment.

    Raises:
        UserError: It was not prepared, or its queue is damaged.
    """
    file = home / FILE
    try:
        return TypeAdapter(Queue).validate_json(file.read_bytes())
    except FileNotFoundError:
        raise UserError(f"{home.name} is not prepared in {home.parents[1]}: give its YAML file, or "
                        f"run it there first") from None
    except (OSError, ValueError):
        raise UserError(f"{file}: is damaged; delete it, and repeat `gan-bench run`") from None


class OverIndex:
    """The runs of an experiment that workers have seen to be over.

    Args:
        home: The experiment's folder.
    """

    def __init__(self, home: Path) -> None:
        self._home = home
        self._file = home / f"{OVER}.{socket.gethostname()}.{os.getpid()}"

    def read(self) -> set[str]:
        """Return their ids."""
        texts = []
        for file in self._home.glob(f"{OVER}.*"):
            with suppress(OSError):
                texts.append(file.read_text(errors="replace"))
        return {line for text in texts for line in text.splitlines(keepends=False)}

    def add(self, *ids: str) -> None:
        """Note runs; an index that cannot be written costs time alone."""
        with suppress(OSError), self._file.open("a") as file:
            file.write("".join(f"{run}\n" for run in ids))


def open_runs(queue: Queue, home: Path) -> list[str]:
    """Return the ids of the runs in a queue that are not over, as far as the disk says."""
    index = OverIndex(home)
    over, measured = index.read(), {*queue.measured}
    waiting = [run for run in queue.begun if run not in over]
    done = {run for run in waiting if run not in measured and _is_trained(home / run)}
    if done:
        index.add(*done)
    return [run for run in waiting if run not in done]


def _is_trained(folder: Path) -> bool:
    try:
        return is_trained(folder)
    except DamagedError:  # whoever reads the run says so
        return False


def specs_of(ids: Sequence[str], home: Path) -> list[RunSpec]:
    """Return the specifications of prepared runs.

    Raises:
        UserError: One cannot be read, or the code of a part is nowhere.
    """
    specs = []
    for run in ids:
        try:
            provide_parts(read_values(home / run), home / run)
            specs.append(read_spec(home / run))
        except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
            raise UserError(f"{home / run / 'spec.json'}: cannot be read as a run's specification "
                            f"({one_line(error)}); repeat `gan-bench run`") from None
    return specs
