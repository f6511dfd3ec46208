"""The sample grids in an MLflow store, read from its artifact folders or from its server."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from gan_bench.tracking.reader import connected
from gan_bench.tracking.store.address import sqlite_path
from gan_bench.tracking.store.relocation import present_place

if TYPE_CHECKING:
    from mlflow import MlflowClient

AT_ONCE = 8  # requests to a server
Listed = tuple[str, str, Callable[[], bytes]]  # MLflow's run id, file name, function for content


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
