"""Ending a launcher from outside: a signal, two, SIGKILL; and one that works beside another."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from helpers.commands import forked
from helpers.launching import GAN_BENCH, new_root
from helpers.runs import write_experiment
from helpers.studies import here

from gan_bench.journal import reading
from gan_bench.journal.sharing.claims import holder_of


def launched(tmp_path: Path) -> subprocess.Popen[str]:
    """Start a long experiment, in a group of processes of its own."""
    return subprocess.Popen(
        [*GAN_BENCH, "run", write_experiment(tmp_path), "--root", new_root(tmp_path), "--set",
         "base.steps=1000000", "--slots", "2"], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, start_new_session=True,
        # A test suite in the background of a shell runs with Ctrl-C ignored, and hands that on.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler))


def started(tmp_path: Path) -> tuple[subprocess.Popen[str], Sequence[psutil.Process]]:
    """Start a long experiment; return it and its processes once two runs are under way."""
    process = launched(tmp_path)
    deadline = time.monotonic() + 180
    while sum(len(reading.read_records(p.parent)[0]) > 3
              for p in tmp_path.glob("root/runs/tiny/*/journal.jsonl")) < 2:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return process, psutil.Process(process.pid).children(recursive=True)


def trainers(workers: Sequence[psutil.Process]) -> list[psutil.Process]:
    """The two of them that train: each has its journal open."""
    training = [w for w in workers if any(f.path.endswith(reading.FILE) for f in w.open_files())]
    assert len(training) == 2
    return training


def gone(workers: Sequence[psutil.Process]) -> None:
    assert len(workers) >= 3
    _, alive = psutil.wait_procs(workers, timeout=60)
    assert [p for p in alive if p.status() != psutil.STATUS_ZOMBIE] == []


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_stopping_writes_checkpoints_ends_the_workers_and_says_so(
        tmp_path: Path, number: int, status: int) -> None:
    process, workers = started(tmp_path)
    os.killpg(process.pid, number)  # as a terminal does, and `timeout`
    out, err = process.communicate(timeout=60)
    assert process.returncode == status, out + err
    assert "the same command resumes" in err
    assert "0 of 4 runs are done" in out
    assert out.count("stopped by the user") == 4  # a line when it happens, and under the table
    gone(workers)
    for file in tmp_path.glob("root/runs/tiny/*/journal.jsonl"):
        assert (file.parent / "checkpoint.pt").exists()
    with sqlite3.connect(tmp_path / "root" / "mlflow.db") as db:
        assert db.execute("select status, count(*) from runs group by status").fetchall() == [
            ("KILLED", 2)]


def test_stopping_while_it_starts_is_a_line(tmp_path: Path) -> None:
    """The server that forks the workers is importing torch, and is sent the signal too."""
    process = launched(tmp_path)
    while not (servers := [p for p in psutil.Process(process.pid).children()
                           if "forkserver" in " ".join(p.cmdline())]):
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    time.sleep(0.5)
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, out + err
    assert err == "stopped; the same command resumes the unfinished runs\n"
    _, alive = psutil.wait_procs(servers, timeout=60)
    assert [p for p in alive if p.status() != psutil.STATUS_ZOMBIE] == []


def test_stopping_twice_stops_at_once(tmp_path: Path) -> None:
    process, workers = started(tmp_path)
    training = trainers(workers)
    for worker in training:
        worker.suspend()  # so that it cannot write its checkpoint
    process.send_signal(signal.SIGINT)
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("stopping"):
            break
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 143, out + err
    assert out.count("stopped by the user, before it could write a checkpoint") == 4
    gone(workers)


@dataclass(frozen=True)
class Dead:
    """A launcher that was killed: its folder and processes, and what another said before that.

    Attributes:
        went_on: The ids of the runs that it trained before and after the other launcher.
    """

    folder: Path
    workers: Sequence[psutil.Process]
    second: subprocess.CompletedProcess[str]
    went_on: list[set[str]]


@pytest.fixture(scope="module")
def dead(tmp_path_factory: pytest.TempPathFactory) -> Dead:
    """A launcher that another has worked beside, on other runs, and that was killed after that."""
    folder = tmp_path_factory.mktemp("dead")
    process, workers = started(folder)
    before = held(folder)
    training = trainers(workers)
    for worker in training:  # so that they leave the cores to the second launcher
        worker.suspend()
    second = forked("run", write_experiment(folder), "--root", folder / "root")
    for worker in training:
        worker.resume()
    went_on = [before, held(folder)]
    process.kill()
    process.communicate()
    return Dead(folder, workers, second, went_on)


def held(folder: Path) -> set[str]:
    """The ids of the runs that some process trains."""
    return {home.name for home in folder.glob("root/runs/tiny/*/") if holder_of(home) is not None}


def test_a_second_launcher_of_other_runs_works_beside_the_first(dead: Dead) -> None:
    """The first one mirrors what the second one trains."""
    assert (dead.second.returncode, dead.second.stderr) == (0, "")
    assert "4 of 4 runs are done" in dead.second.stdout
    assert len(dead.went_on[0]) == 2
    assert dead.went_on[1] == dead.went_on[0]


def test_workers_die_with_the_launcher(dead: Dead) -> None:
    gone(dead.workers)
    assert held(dead.folder) == set()


def test_sync_says_killed_of_what_a_dead_launcher_left(dead: Dead) -> None:
    gone(dead.workers)
    assert here("sync", "--root", dead.folder / "root").returncode == 0
    with sqlite3.connect(dead.folder / "root" / "mlflow.db") as db:
        assert db.execute("select status, count(*) from runs group by status").fetchall() == [
            ("FINISHED", 5), ("KILLED", 2)]  # four of the other launcher, and its study's
    plan = here("plan", dead.folder / "tiny.yaml", "--root", dead.folder / "root", "--set",
                "base.steps=1000000", "--json")
    assert [json.loads(line)["state"] for line in plan.stdout.splitlines()].count("KILLED") == 2


@pytest.mark.long
def test_runs_outlive_the_server_that_forks_them(tmp_path: Path) -> None:
    """The kernel kills it when memory runs out: the runs go on from their checkpoints."""
    settings = ["base.steps=2000", "base.log_every=100", "base.sample_every=2000",
                "evaluate.every=2000", "seeds=[0]"]
    process = subprocess.Popen(
        [*GAN_BENCH, "run", write_experiment(tmp_path), "--root", tmp_path / "root", "--slots",
         "2", "--checkpoint-every", "1", *(word for s in settings for word in ("--set", s))],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    workers: set[psutil.Process] = set()
    while len(workers) < 2:  # each stands still from its checkpoint on: on a busy machine one would
        assert process.poll() is None, process.communicate()  # end before the other has begun
        time.sleep(0.05)
        servers = [child for child in psutil.Process(process.pid).children()
                   if "forkserver" in " ".join(child.cmdline())]
        for worker in [child for server in servers for child in server.children()]:
            with suppress(psutil.NoSuchProcess):
                for file in worker.open_files():
                    if Path(file.path).with_name("checkpoint.pt").exists():
                        worker.suspend()
                        workers.add(worker)
    [server] = servers
    server.kill()
    out, err = process.communicate(timeout=240)
    assert process.returncode == 0, out + err
    assert (err, "Traceback" in out) == ("", False)
    assert "2 of 2 runs are done" in out
    assert "FAILED" not in out
    assert out.count("the server that forked its process was killed; resumed (1 of 2)") == 2, out
    assert out.count("resumes after step") == 2, out
    _, alive = psutil.wait_procs(workers, timeout=30)
    assert alive == []
