"""The sample grids that MLflow holds, whether in folders or on a server."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from gan_bench.tracking.reader import connected

if TYPE_CHECKING:
    from mlflow import MlflowClient



PICTURE = re.compile(r"samples\+step\+(\d{1,18})\+timestamp\+(\d{1,18})\+[0-9a-f-]+\.png")


AT_ONCE = 8  # requests to a server


Listed = tuple[str, str, Callable[[], bytes]]  # MLflow's run, the file's name, and its content


def pictures_of_database(uri: str, runs: list[str]) -> Iterator[Listed]:
    """Yield the pictures of runs whose artifacts lie in folders, where the database says."""
    from sqlalchemy import text

    with connected(uri) as connection:
        found = connection.execute(text("select run_uuid, artifact_uri from runs"))
        homes = {row[0]: row[1] for row in found}
    for run in runs:
        home = homes.get(run) or ""
        if home.startswith(("file:", "/")):
            folder = Path(unquote(urlsplit(home).path), "images")
            for file in sorted(folder.glob("samples+*.png")):
                yield run, file.name, file.read_bytes
        elif home:
            yield from pictures_of_server(uri, [run])


def pictures_of_server(uri: str, runs: list[str]) -> Iterator[Listed]:
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=uri)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for run, found in zip(runs, pool.map(lambda run: client.list_artifacts(run, "images"),
                                             runs), strict=True):
            for item in found:
                yield run, Path(item.path).name, partial(_download, client, run, item.path)


def _download(client: MlflowClient, run: str, path: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        return Path(client.download_artifacts(run, path, folder)).read_bytes()
