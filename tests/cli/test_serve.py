"""What `gan-bench ui` starts, seen without a browser."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path

import pytest
from helpers.launching import MODULES, console_script, folder_of_modules


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def answer(port: int, path: str, host: str | None = None) -> int:
    """Return the status of an answer to a request for `host`."""
    connection = HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request("GET", path, headers={"Host": host or f"127.0.0.1:{port}"})
        return connection.getresponse().status
    finally:
        connection.close()


@pytest.fixture(scope="module")
def root(database: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root with an empty database."""
    folder = tmp_path_factory.mktemp("served")
    shutil.copy(database, folder)
    return folder


@contextmanager
def served(root: Path, cwd: Path) -> Iterator[int]:
    """Run `gan-bench ui` as pip installs it, in a folder; yield its port once it answers."""
    port = free_port()
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW_", "GAN_B"))}
    with (cwd / "ui.log").open("w+") as log:
        process = subprocess.Popen(
            [*console_script(cwd.parent), "ui", "--root", str(root), "--port", str(port)],
            cwd=cwd, stdout=log, stderr=log, env=clean, start_new_session=True)
        try:
            deadline = time.monotonic() + 120
            while True:
                try:
                    answer(port, "/health")
                    break
                except OSError:
                    log.seek(0)
                    assert process.poll() is None, log.read()
                    assert time.monotonic() < deadline, log.read()
                    time.sleep(0.3)
            yield port
        finally:
            process.terminate()
            process.wait(timeout=30)


@pytest.mark.process
def test_the_page_runs_no_file_of_the_working_folder(root: Path, tmp_path: Path) -> None:
    working = folder_of_modules(tmp_path / "downloaded", *MODULES, "mlflow", "uvicorn")
    with served(root, working) as port:
        assert answer(port, "/health") == 200
        assert answer(port, "/ajax-api/2.0/mlflow/experiments/search?max_results=5") == 200
    assert not (working / "executed").exists(), (working / "executed").read_text()
