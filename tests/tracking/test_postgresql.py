"""MLflow on PostgreSQL: behind a server of MLflow, and directly; both restarted in the middle.

Against a real PostgreSQL; skipped where its programs or a driver are missing.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, nullcontext
from pathlib import Path

import pytest
from helpers.journals import FACTS, PROTOCOL, new_run
from helpers.postgres import Postgres
from helpers.servers import free_port, mlflow_server

from gan_bench.journal import reading
from gan_bench.journal.layout import Workspace
from gan_bench.journal.writing import Journal
from gan_bench.tracking import background
from gan_bench.tracking.background import BackgroundMirror
from gan_bench.tracking.client import open_store

STEPS = 2_000


@pytest.fixture
def postgres() -> Iterator[Postgres]:
    """A server with an empty database."""
    server = Postgres()
    yield server
    server.remove()


def journal_rows(folders: list[Path]) -> list[tuple[str, str, int, int, float]]:
    """Return what the journals hold, as `Postgres.metrics` returns it."""
    return sorted((folder.name, name, record["step"], record["t"], value) for folder in folders
                  for record in reading.valid(reading.read_records(folder)[0])
                  for name, value in record.get("values", {}).items())


def write(folder: Path, mirror: BackgroundMirror, stop: threading.Event) -> None:
    """Write a run's journal as slowly as training would, and its end when told to stop."""
    step = 0
    with closing(Journal(folder)) as book:
        book.start(FACTS)
        book.protocol(PROTOCOL)
        while step < STEPS and not stop.wait(0.1):
            step += 1
            book.metrics(step, {"train/d_loss": step / 7, "train/g_loss": step / 3})
            book.system(step, {"system/images_per_s": 1e4})
            mirror.request(folder)
    book = Journal(folder)
    book._step = step
    book.end("FINISHED")
    mirror.request(folder)


def wait_for_rows(postgres: Postgres, before: int) -> int:
    """Return how many rows there are once there are some that were not there before."""
    for _ in range(600):
        if (now := len(postgres.metrics())) > before:
            return now
        time.sleep(0.1)
    raise AssertionError(f"after a minute there are still {before} rows")


@pytest.mark.process
@pytest.mark.parametrize("behind_server", [True, False])
def test_nothing_is_lost_or_doubled_where_it_restarts(
        postgres: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
        behind_server: bool) -> None:
    monkeypatch.setattr(background, "EVERY", 0.3)
    monkeypatch.setattr(background, "SLOWEST", 1.0)
    root, port, said, stop = tmp_path / "root", free_port(), list[str](), threading.Event()
    folders = [new_run(root, seed, STEPS, 1) for seed in range(3)]
    open_store(Workspace(root, tracking_uri=postgres.uri))  # makes the tables

    def serving() -> AbstractContextManager[object]:
        return mlflow_server(root, postgres.uri, port) if behind_server else nullcontext()

    uri = f"http://127.0.0.1:{port}" if behind_server else postgres.uri
    mirror = BackgroundMirror(Workspace(root, tracking_uri=uri), folders[0].parent, True,
                              said.append)
    writers = [threading.Thread(target=write, args=(folder, mirror, stop)) for folder in folders]
    try:
        for writer in writers:
            writer.start()
        with serving():
            first = wait_for_rows(postgres, 0)
        with serving():
            second = wait_for_rows(postgres, first)
            postgres.stop()
            time.sleep(1)
            postgres.start()
            wait_for_rows(postgres, second)
    finally:
        stop.set()
        for writer in writers:
            writer.join()
    with serving():
        assert mirror.finish() == ""
    rows = postgres.metrics()
    assert rows == journal_rows(folders)
    assert len({row[:3] for row in rows}) == len(rows) > second
    assert len(said) == 1
    assert "training continues" in said[0]
