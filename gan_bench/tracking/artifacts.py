"""Artifacts of runs: whole uploads to a local folder, and the sample grids in a store."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from gan_bench.tracking.address import sqlite_path
from gan_bench.tracking.reader import connected
from gan_bench.tracking.relocation import local_path, present_place

if TYPE_CHECKING:
    from mlflow import MlflowClient

AT_ONCE = 8  # requests to a server
TORN = ".artifact.uploading.*"  # MLflow (3.17) copies to such a file, then renames it
Listed = tuple[str, str, Callable[[], bytes]]  # MLflow's run id, file name, function for content


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


def pictures_of_database(uri: str, runs: list[str]) -> Iterator[Listed]:
    """Yield the pictures of runs from the artifact folders that the database names."""
    from sqlalchemy import text

    with connected(uri) as connection:
        rows = connection.execute(text("select run_uuid, artifact_uri from runs"))
        locations = {row[0]: row[1] for row in rows}
    for run in runs:
        location = locations.get(run) or ""
        if location.startswith(("file:", "/")):
            folder = present_place(location, sqlite_path(uri)) / "images"
            for file in sorted(folder.glob("samples+*.png")):
                yield run, file.name, file.read_bytes
        elif location:
            yield from pictures_of_server(uri, [run])


def pictures_of_server(uri: str, runs: list[str]) -> Iterator[Listed]:
    """Yield the pictures of runs from a server."""
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=uri)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        listings = pool.map(lambda run: client.list_artifacts(run, "images"), runs)
        for run, files in zip(runs, listings, strict=True):
            for file in files:
                yield run, Path(file.path).name, partial(_download, client, run, file.path)


def _download(client: MlflowClient, run: str, path: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        return Path(client.download_artifacts(run, path, folder)).read_bytes()
