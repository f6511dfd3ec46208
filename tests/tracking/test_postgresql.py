"""MLflow on PostgreSQL: behind a server of MLflow, and directly; both restarted in the middle.

Against a real PostgreSQL; skipped where its programs or a driver are missing.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, nullcontext
from pathlib import Path

import pytest
from helpers.journals import FACTS, PROTOCOL, new_run
from helpers.postgres import Postgres, journal_rows
from helpers.runs import write_experiment
from helpers.servers import free_port, mlflow_server

from gan_bench.journal.layout import Workspace
from gan_bench.journal.writing import Journal
from gan_bench.tracking import background
from gan_bench.tracking.background import BackgroundMirror
from gan_bench.tracking.store.client import open_store

STEPS = 2_000


@pytest.fixture
def postgres() -> Iterator[Postgres]:
    """A server with an empty database."""
    server = Postgres()
    yield server
    server.remove()


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
@pytest.mark.parametrize("behind_server", [pytest.param(True, marks=pytest.mark.long), False])
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


GRID = """\
name: tiny
dataset: {name: digits, image_size: 16}
seeds: [0, 1, 2]
base: {model: {name: mlp, width: 16}, batch_size: 32, steps: 400, log_every: 2, sample_every: 200}
variants:
  plain:
  saturating: {loss: saturating}
evaluate: {every: 200, samples: 50, metrics: [d_accuracy, nearest_train_mse]}
compute: {device: cpu}
"""


def command(folder: Path, *words: str) -> subprocess.Popen[str]:
    """Start a command of the program; its output goes to a file of the folder, for a failure."""
    words = (*words, "--root", str(folder / "root"))
    with (folder / "output").open("a") as output:
        return subprocess.Popen([sys.executable, "-m", "gan_bench", *words], stdout=output,
                                stderr=output, text=True, env=without_store())


def without_store() -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if key != "MLFLOW_TRACKING_URI"}


def claimants(folder: Path) -> int:
    """Return the number of the process that has claimed a run last."""
    last = max(folder.glob("attempt.*"), key=lambda file: int(file.suffix[1:]))
    return int(json.loads(last.read_text().splitlines()[0])["pid"])


@pytest.mark.long
@pytest.mark.process
def test_workers_and_one_mirror_leave_a_whole_history(postgres: Postgres, tmp_path: Path) -> None:
    file, port = write_experiment(tmp_path, GRID), free_port()
    home, uri = tmp_path / "root" / "runs" / "tiny", f"http://127.0.0.1:{port}"
    processes = []
    try:
        with mlflow_server(tmp_path, postgres.uri, port):
            processes = [command(tmp_path, "work", str(file), "--slots", "1") for _ in range(3)]
            processes.append(command(tmp_path, "run", str(file), "--slots", "1",
                                     "--tracking-uri", uri))
            first = wait_for_rows(postgres, 0)
        postgres.stop()
        time.sleep(2)
        postgres.start()
        with mlflow_server(tmp_path, postgres.uri, port):
            *statuses, mirrored = [process.wait(300) for process in processes]
            copied = command(tmp_path, "sync", "--to", uri).wait(60)
    finally:
        for process in processes:
            process.kill()
    # The mirror waits half a minute for a server that starts again; `sync` copies what is left.
    assert (statuses, copied, mirrored in (0, 3)) == ([0] * 3, 0, True), (
        (tmp_path / "output").read_text())
    folders = sorted(file.parent for file in home.glob("*/attempt.1"))
    rows = postgres.metrics()
    assert len(folders) == 6
    assert rows == journal_rows(folders)
    assert len({row[:3] for row in rows}) == len(rows) > first
    assert len({claimants(folder) for folder in folders}) > 1
    assert not (tmp_path / "root" / "mlflow.db").exists()  # workers open no store
