"""Commands in processes that a warm one forks: each saves the import of torch and of MLflow."""

from __future__ import annotations

import atexit
import os
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from unittest.mock import patch

from helpers.databases import copied
from helpers.launching import clean_environment
from helpers.warm import Job, Warm, command, kill

from gan_bench.tracking.store import client


def migrated() -> Path:
    """Return a new database of MLflow's, of which commands make copies; conftest.py has it."""
    raise NotImplementedError


class Forked:
    """A command in a process of its own, with the methods of `subprocess.Popen` that tests use.

    It finds the variables and the working folder of this process. Its runs are trained by processes
    of the one fork server that all commands share; that server has no variable of `env`. A new
    root gets a copy of a migrated database.
    """

    def __init__(self, *arguments: object, env: Mapping[str, str] | None = None) -> None:
        self._place = tempfile.TemporaryDirectory(prefix="forked-")
        self.folder = Path(self._place.name)
        self.arguments = [str(argument) for argument in arguments]
        given = {**clean_environment(), **(env or {})}
        job = Job(_answer, (self.arguments, given, os.getcwd(), migrated()), self.folder)
        self.pid = _warm().start(job)
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """Return the exit status, negative for a signal; None while it lives."""
        if self.returncode is None and _warm().has_ended(self.pid):
            self.returncode = _warm().wait(self.pid)
        return self.returncode

    def wait(self, timeout: float = 240) -> int:
        """Return the exit status.

        Raises:
            TimeoutExpired: It did not end; it is killed.
        """
        deadline = time.monotonic() + timeout
        while self.poll() is None:
            if time.monotonic() > deadline:
                kill(self.pid, self.folder)
                raise subprocess.TimeoutExpired(self.arguments, timeout, *self.read())
            time.sleep(0.01)
        assert self.returncode is not None
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send it a signal, if it still lives."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Send SIGKILL."""
        self.send_signal(signal.SIGKILL)

    def read(self) -> tuple[str, str]:
        """Return what it has printed so far, to stdout and to stderr."""
        out, err = (file.read_text() if file.exists() else ""
                    for file in (self.folder / "out", self.folder / "err"))
        return out, err


def forked(*arguments: object, env: Mapping[str, str] | None = None, timeout: float = 240,
           ) -> subprocess.CompletedProcess[str]:
    """Run the command line as `gan_bench` does, in a forked process."""
    process = Forked(*arguments, env=env)
    status = process.wait(timeout)
    return subprocess.CompletedProcess(process.arguments, status, *process.read())


@cache
def _warm() -> Warm:
    process = Warm()
    atexit.register(process.close)  # before multiprocessing waits for it
    return process


def _answer(arguments: list[str], given: dict[str, str], folder: str, database: Path) -> None:
    for stream, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644), stream)
    os.chdir(folder)
    imported = {name: value for name, value in os.environ.items() if name.startswith("MLFLOW_")}
    os.environ.clear()
    os.environ.update(imported)  # what the imports have set
    os.environ.update(given)
    paths = [path for path in given.get("PYTHONPATH", "").split(os.pathsep) if path]
    sys.path[:] = [*paths, *(path for path in sys.path if path not in paths)]
    warnings.simplefilter("error", RuntimeWarning)
    with patch.object(client, "_create_sqlite", copied(lambda: database)):
        command(*arguments)
