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
from helpers.launching import MODULES, console_script, folder_of_modules, gan_bench


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


@pytest.fixture(scope="module")
def working(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working folder with files that are named as modules."""
    folder = tmp_path_factory.mktemp("working")
    return folder_of_modules(folder / "downloaded", *MODULES, "mlflow", "uvicorn")


@pytest.fixture(scope="module")
def page(root: Path, working: Path) -> Iterator[int]:
    with served(root, working) as port:
        yield port


@pytest.mark.process
def test_the_page_runs_no_file_of_the_working_folder(page: int, working: Path) -> None:
    assert answer(page, "/health") == 200
    assert answer(page, "/ajax-api/2.0/mlflow/experiments/search?max_results=5") == 200
    executed = working / "executed"
    assert not executed.exists(), executed.read_text()


@pytest.mark.process
def test_the_page_answers_to_its_names_alone(page: int) -> None:
    """A page of another site can let its name lead here; by default MLflow takes `10.*`."""
    path = "/ajax-api/2.0/mlflow/experiments/search?max_results=5"
    for host in (f"127.0.0.1:{page}", f"localhost:{page}", "localhost"):
        assert answer(page, path, host) == 200, host
    for host in ("10.evil.com", f"10.evil.com:{page}", "192.168.evil.com", "evil.com"):
        assert answer(page, path, host) == 403, host


@pytest.mark.process
def test_a_busy_port_is_one_line(root: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        done = gan_bench("ui", "--root", root, "--port", port)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (f"error: port {port} of 127.0.0.1 cannot be used: Address already in "
                           f"use; give another --port\n")
