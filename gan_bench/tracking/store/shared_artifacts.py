"""The folders of artifacts that several processes, or several roots, write to.

MLflow keeps the artifacts of roots that share a database in the root that came first.
"""

from __future__ import annotations

import fcntl
import os
import shlex
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from gan_bench.errors import DamagedError, count
from gan_bench.journal import reading
from gan_bench.journal.layout import Workspace
from gan_bench.journal.schema import Kind
from gan_bench.tracking.runs.cursor import read_cursor
from gan_bench.tracking.runs.hidden import listed, rows_of
from gan_bench.tracking.store.address import is_server, sqlite_path
from gan_bench.tracking.store.relocation import local_path, present_place

TORN = ".artifact.uploading.*"  # MLflow (3.17) copies to such a file, then renames it


@contextmanager
def uploads(location: str) -> Iterator[None]:
    """Upload to a run's artifact folder; remove first what killed uploads have left there.

    Several processes may upload at once: `run`, `sync` and `evaluate --log`. Each shares a lock on
    the folder, so only the files of a process that is gone are removed.

    Args:
        location: MLflow's address of the artifacts; nothing is done unless it is a local folder.
    """
    if not location.startswith(("file:", "/")):
        yield
        return
    folder = local_path(location)
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with suppress(OSError):  # another process uploads, or the file system has no locks
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            for file in folder.glob(TORN):
                file.unlink()
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_SH)
        yield
    finally:
        with suppress(OSError):  # at once: a forked child has a copy of the descriptor
            fcntl.flock(descriptor, fcntl.LOCK_UN)
        os.close(descriptor)


def is_within(place: Path, folder: Path) -> bool:
    """Whether a path lies in a folder, whichever links lead there."""
    return place.resolve().is_relative_to(folder.resolve())


def elsewhere_line(experiment: str, location: str) -> str:
    """Return what to say of an experiment whose artifacts MLflow keeps in another root."""
    return (f"MLflow keeps the pictures and files of the experiment {experiment!r} in {location}, "
            f"as another root made the experiment: who removes that folder removes them")


def lost_artifacts(folders: Iterable[Path], workspace: Workspace, uri: str) -> list[str]:
    """Return what to say of runs whose artifacts lay in another root and are gone, a line a place.

    MLflow gives all runs of an experiment the place that the first root named.
    """
    if is_server(uri):
        return []
    names = {}
    for folder in folders:
        with suppress(DamagedError):
            cursor, last = read_cursor(folder, uri), reading.last(folder)
            # An ended run has artifacts.
            if cursor is not None and last is not None and last["kind"] == Kind.END:
                names[cursor.mlflow_run_id] = folder
    if not names:
        return []
    lost: dict[Path, list[Path]] = {}
    for run, location in rows_of(uri, "select run_uuid, artifact_uri from runs where "
                                      "lifecycle_stage = 'active'"):
        if run not in names or not str(location).startswith(("file:", "/")):
            continue
        place = present_place(location, sqlite_path(uri))
        if not is_within(place, workspace.artifacts) and not place.exists():
            lost.setdefault(place.parent.parent, []).append(names[run])
    own = f"sqlite:///{workspace.database}"
    command = shlex.join(["gan-bench", "sync", "--root", str(workspace.root), "--to", own])
    return [f"the pictures and files of {count(len(runs), 'run')} are gone from {place}, which "
            f"another root made ({listed(sorted(runs))}); `{command}` copies the runs into the "
            f"root's own store" for place, runs in lost.items()]
