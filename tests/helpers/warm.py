"""A warm process that forks commands: each costs no import, and can be killed at any moment."""

from __future__ import annotations

import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partialmethod
from importlib import import_module
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any
from unittest.mock import patch

import psutil
from helpers.forked import forking

from gan_bench.launcher import worker

# Beside torch, which the fork server has imported: what the commands need.
MODULES = ("mlflow", "mlflow.store.tracking.sqlalchemy_store", "mlflow.store.tracking.rest_store",
           "alembic.command",
           "gan_bench.cli.app", "gan_bench.cli.results.report", "gan_bench.cli.running.run",
           "gan_bench.cli.running.evaluate", "gan_bench.report.write", "torchvision.datasets")
OUTPUT, STARTED = "output.txt", "started.txt"
PATIENCE = 300.0


@dataclass(frozen=True)
class Job:
    """What a forked process does.

    Attributes:
        target: A function of a module.
        arguments: What it is called with.
        place: The working folder. What the process prints is appended to `output.txt` there, and
            the ids of the processes that it starts to `started.txt`.
    """

    target: Callable[..., object]
    arguments: tuple[Any, ...]
    place: Path


class Warm:
    """The warm process.

    It and what it forks are grandchildren of this process: they use the fork server of
    `helpers.forked`.
    """

    def __init__(self) -> None:
        context = forking()
        self._connection, theirs = context.Pipe()
        server = forkserver._forkserver  # type: ignore[attr-defined]
        known = {name: value for name, value in vars(server).items()
                 if name in ("_forkserver_address", "_forkserver_authkey")}
        self._process = context.Process(target=_serve, args=(theirs, known))
        self._process.start()
        theirs.close()
        self._receive()

    def start(self, job: Job) -> int:
        """Fork a process for the job; return its id, which stays its own until `wait`."""
        self._connection.send(job)
        return int(self._receive())

    def wait(self, pid: int) -> int:
        """Wait for the end of a forked process; return its exit status, negative for a signal."""
        self._connection.send(pid)
        return int(self._receive())

    def has_ended(self, pid: int) -> bool:
        """Whether a forked process has ended; nothing is waited for."""
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE

    def close(self) -> None:
        """End the warm process."""
        self._connection.close()
        self._process.join(10)

    def _receive(self) -> Any:
        assert self._connection.poll(PATIENCE), "the warm process does not answer"
        return self._connection.recv()


def kill_started(place: Path) -> bool:
    """Kill the processes that a forked process has started; return whether one of them lived."""
    file, lived = place / STARTED, False
    for victim in map(int, file.read_text().split() if file.exists() else []):
        with suppress(ProcessLookupError):
            os.kill(victim, signal.SIGKILL)
            lived = True
    return lived


def kill(pid: int, place: Path) -> None:
    """Kill a forked process and those that it has started; wait until the latter are gone."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + PATIENCE
    while kill_started(place):
        assert time.monotonic() < deadline
        time.sleep(0.005)


def command(*arguments: object) -> None:
    """Run the command line."""
    from gan_bench.cli.app import main

    with patch.object(sys, "argv", ["gan-bench", *map(str, arguments)]):
        main()


def _serve(connection: Connection, known: dict[str, Any]) -> None:
    for name in MODULES:
        import_module(name)
    server = forkserver._forkserver  # type: ignore[attr-defined]
    vars(server).update(known)
    # It runs, and another would import torch again.
    server.ensure_running = forkserver.ensure_running = lambda: None
    connection.send("ready")
    while True:
        try:
            request = connection.recv()
        except EOFError:
            return
        if not isinstance(request, Job):
            connection.send(os.waitstatus_to_exitcode(os.waitpid(request, 0)[1]))
        elif pid := os.fork():
            connection.send(pid)
        else:
            connection.close()
            _do(request)


def _do(job: Job) -> None:
    """Do a job, and end this process."""
    status = 1
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, worker.STOP_SIGNALS)
        os.chdir(job.place)
        output = os.open(OUTPUT, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        for stream in (1, 2):
            os.dup2(output, stream)
        for name in [name for name in os.environ if name.startswith(("MLFLOW_TRACK", "GAN_B"))]:
            del os.environ[name]
        setattr(ForkServerProcess, "start",  # noqa: B010  which it inherits
                partialmethod(_start, Path(STARTED).absolute()))
        job.target(*job.arguments)
        status = 0
    except SystemExit as end:
        status = int(end.code or 0)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _start(process: BaseProcess, started: Path) -> None:
    BaseProcess.start(process)
    with started.open("a") as file:
        file.write(f"{process.pid}\n")
