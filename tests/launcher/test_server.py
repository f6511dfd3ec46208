"""An MLflow server that dies, is away for a while, or is not there yet: training goes on."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from helpers.launching import GAN_BENCH
from helpers.runs import write_experiment
from helpers.studies import here

from gan_bench.journal import reading


class Server:
    """A real MLflow server, which can be killed and started again.

    Args:
        folder: For its files.
        database: A new database of MLflow's, in whose copy it keeps what it is sent.
    """

    def __init__(self, folder: Path, database: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.uri, self.folder = f"http://127.0.0.1:{self.port}", folder
        shutil.copy(database, folder / "server.db")

    def start(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "mlflow", "server", "--port", str(self.port), "--workers", "1",
             "--backend-store-uri", f"sqlite:///{self.folder}/server.db",
             "--artifacts-destination", str(self.folder / "served")],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
            env={**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"})
        deadline = time.monotonic() + 180
        while socket.socket().connect_ex(("127.0.0.1", self.port)):
            assert time.monotonic() < deadline
            time.sleep(0.2)

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def holds(self) -> tuple[list[tuple[str, int]], int]:
        """Return the number of runs by status, and of rows of one metric."""
        with sqlite3.connect(self.folder / "server.db") as db:
            counts = db.execute("select status, count(*) from runs where lifecycle_stage = "
                                "'active' and name != 'study' group by status").fetchall()
            (rows,) = db.execute("select count(*) from metrics where key = 'train/d_loss'"
                                 ).fetchone()
        return counts, rows


@pytest.fixture
def server(tmp_path: Path, database: Path) -> Iterator[Server]:
    """A server that has been started."""
    server = Server(tmp_path, database)
    server.start()
    yield server
    server.kill()


def begun(tmp_path: Path, *more: str) -> subprocess.Popen[str]:
    """Start an experiment; return its process once a run is under way."""
    process = subprocess.Popen([*GAN_BENCH, "run", write_experiment(tmp_path), "--root",
                                tmp_path / "root", *more], stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if "RUNNING" in line or "started" in line:
            break
    return process


@contextlib.contextmanager
def standing(process: subprocess.Popen[str]) -> Iterator[None]:
    """Let both runs of a launcher stand still, so that they do not end before the server is back.
    """
    workers = training(process)
    assert len(workers) == 2
    for worker in workers:
        worker.suspend()
    try:
        yield
    finally:
        for worker in workers:
            worker.resume()


def training(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """The processes of a launcher that have a journal open, its own reading aside."""
    return [child for child in psutil.Process(process.pid).children(recursive=True)
            if any(file.path.endswith(reading.FILE) for file in child.open_files())]


def journals(folder: Path) -> list[Path]:
    return sorted(folder.glob("root/runs/tiny/*/journal.jsonl"))


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 180
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def read_until(process: subprocess.Popen[str], words: str) -> str:
    """Return what the process prints until it has said that."""
    said = ""
    assert process.stdout is not None
    for line in process.stdout:
        said += line
        if words in line:
            break
    return said


@pytest.mark.long
def test_a_server_that_dies_loses_nothing(tmp_path: Path, server: Server) -> None:
    """Training goes on, the status is 3, and `sync` completes MLflow's record."""
    more = ["--tracking-uri", server.uri, "--set", "seeds=[0]", "--set", "base.steps=400"]
    process = begun(tmp_path, *more, "--json")
    server.kill()
    out, err = process.communicate(timeout=120)
    assert process.returncode == 3, err
    assert f"gan-bench sync --root {tmp_path / 'root'} --to {server.uri}" in err
    end = json.loads(out.splitlines()[-1])
    assert [r["state"] for r in end["runs"]] == ["FINISHED"] * 2
    assert server.uri in end["not_in_mlflow"]
    early = here("sync", "--root", tmp_path / "root", "--to", server.uri)
    assert (early.returncode, early.stderr.count("Traceback")) == (2, 0)
    server.start()
    assert here("sync", "--root", tmp_path / "root", "--to", server.uri).returncode == 0
    assert server.holds() == ([("FINISHED", 2)], 2 * 200)


@pytest.mark.long
def test_a_server_that_is_away_for_a_while_is_waited_for(tmp_path: Path, server: Server) -> None:
    """Training goes on, and what the server has missed it gets once it is back."""
    process = begun(tmp_path, "--tracking-uri", server.uri, "--set", "seeds=[0]", "--set",
                    "base.steps=2000", "--set", "base.log_every=10", "--set",
                    "evaluate.every=1000", "--set", "base.sample_every=1000", "--slots", "2")
    wait_for(lambda: [len(reading.read_records(file.parent)[0]) > 3
                      for file in journals(tmp_path)] == [True, True])
    with standing(process):
        wait_for(lambda: server.holds()[1] > 0)
        server.kill()
        before = [file.stat().st_size for file in journals(tmp_path)]
    wait_for(lambda: all(file.stat().st_size > size
                         for file, size in zip(journals(tmp_path), before, strict=True)))
    with standing(process):
        said = read_until(process, "MLflow refuses records")
        server.start()
    out, err = process.communicate(timeout=240)
    assert process.returncode == 0, said + out + err
    assert (said + out).count("MLflow refuses records") == 1
    assert server.holds() == ([("FINISHED", 2)], 2 * 200)


def test_a_server_that_is_not_there_yet_stops_no_training(tmp_path: Path, database: Path) -> None:
    server = Server(tmp_path, database)
    done = here("run", write_experiment(tmp_path), "--root", tmp_path / "root", "--tracking-uri",
                server.uri, "--set", "seeds=[0]")
    assert done.returncode == 3, done.stdout + done.stderr
    assert done.stdout.count("training continues") == 1  # tried again at the end, and said once
    assert "2 of 2 runs are done" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


def test_hints_name_the_servers_page_and_no_password(tmp_path: Path, server: Server) -> None:
    """An address from the environment is there for the next command too, and is not repeated."""
    root, address = tmp_path / "root", f"me:secret@127.0.0.1:{server.port}"
    call = ("run", write_experiment(tmp_path), "--root", root, "--set", "seeds=[0]", "--set",
            "evaluate.metrics=[d_accuracy]")
    shown = address.replace("secret", "***")
    variable = {"MLFLOW_TRACKING_URI": f"http://{address}"}
    inherited = here(*call, env=variable)
    assert inherited.returncode == 0, inherited.stderr
    assert inherited.stdout.splitlines()[-2:] == [
        f"2 of 2 runs are done. Look at them: http://{shown}",
        f"Compare them: gan-bench report tiny --open --root {root}"]
    named = here(*call, "--tracking-uri", f"http://{address}")
    assert named.stdout.splitlines()[-2:] == [
        f"2 of 2 runs are done. Look at them: http://{shown}",
        f"Compare them: gan-bench report tiny --open --root {root} "
        f"--tracking-uri 'http://{shown}'"]
    server.kill()
    for file in journals(tmp_path):
        (file.parent / "mirror.json").unlink()
    missed = here(*call, env={**variable, "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"})
    assert missed.returncode == 3
    assert f"MLflow cannot use http://{shown}: " in missed.stderr
    assert f"gan-bench sync --root {root} copies" in missed.stderr
    assert all("secret" not in done.stdout + done.stderr for done in (inherited, named, missed))
