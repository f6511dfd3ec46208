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

from gan_bench.cli.results.ui import (
    _address_lines,
    _lines_of,
    address_of,
    is_loopback,
    ui_command,
)
from gan_bench.journal.layout import Workspace
from gan_bench.tracking.pages.experiment_page import VIEW, Page
from gan_bench.tracking.runs.tags import ABOUT
from gan_bench.tracking.store.client import open_store


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
    """A root with a database that holds an experiment without runs."""
    folder = tmp_path_factory.mktemp("served")
    shutil.copy(database, folder)
    store = open_store(Workspace(folder))
    number = store.client.create_experiment("study", f"file://{folder}/artifacts/study")
    for key in (ABOUT, VIEW):
        store.client.set_experiment_tag(number, key, "{}")
    return folder


@contextmanager
def served(root: Path, cwd: Path, *options: str) -> Iterator[int]:
    """Run `gan-bench ui` as pip installs it, in a folder; yield its port once it answers."""
    port = free_port()
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW_", "GAN_B"))}
    with (cwd / "ui.log").open("a+") as log:
        process = subprocess.Popen(
            [*console_script(cwd.parent), "ui", "--root", str(root), "--port", str(port),
             *options],
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
def test_the_addresses_are_printed_once_the_server_answers(page: int, working: Path) -> None:
    deadline = time.monotonic() + 30
    while "Ctrl-C" not in (shown := (working / "ui.log").read_text()):
        assert time.monotonic() < deadline, shown
        time.sleep(0.1)
    home = f"http://127.0.0.1:{page}/#/experiments"
    assert "Warning" not in shown
    assert "\n".join([
        f"study: {home}/1/runs?workflowType=machine_learning&viewStateShareKey=gan-bench",
        f"  as charts: {home}/1/runs?workflowType=machine_learning&viewStateShareKey=gan-bench"
        f"&compareRunsMode=CHART",
        "Ctrl-C ends it", ""]) in shown  # MLflow has lines of its own


def test_every_experiment_has_its_address_the_latest_first(root: Path) -> None:
    pages = [Page("new", "7", is_prepared=True), Page("old", "3", is_prepared=False)]
    assert [line for page in pages for line in _lines_of(page, "http://h:1")] == [
        "new: http://h:1/#/experiments/7/runs?workflowType=machine_learning&"
        "viewStateShareKey=gan-bench",
        "  as charts: http://h:1/#/experiments/7/runs?workflowType=machine_learning&"
        "viewStateShareKey=gan-bench&compareRunsMode=CHART",
        "old: http://h:1/#/experiments/3/runs?workflowType=machine_learning",
        "  as charts: http://h:1/#/experiments/3/runs?workflowType=machine_learning&"
        "compareRunsMode=CHART"]
    lines = _address_lines(Workspace(root, tracking_uri="sqlite:////no/such.db"), "http://h:1")
    assert lines == ["all experiments: http://h:1/#/experiments?workflowType=machine_learning",
                     "Ctrl-C ends it"]


@pytest.mark.parametrize(("host", "loopback", "address"), [
    ("127.0.0.1", True, "http://127.0.0.1:9"), ("localhost", True, "http://localhost:9"),
    ("::1", True, "http://[::1]:9"), ("0.0.0.0", False, "http://127.0.0.1:9"),
    ("::", False, "http://[::1]:9"), ("10.1.2.3", False, "http://10.1.2.3:9"),
    ("lab.example", False, "http://lab.example:9")])
def test_hosts(root: Path, host: str, loopback: bool, address: str) -> None:
    assert (is_loopback(host), address_of(host, 9)) == (loopback, address)
    command, _ = ui_command(Workspace(root), 9, host)
    hosts = command[command.index("--allowed-hosts") + 1].split(",")
    assert (socket.gethostname() in hosts) == (not loopback)
    assert address.removeprefix("http://") in hosts
    assert address in command[command.index("--cors-allowed-origins") + 1].split(",")
    assert "*" not in "".join(hosts)


@pytest.mark.process
def test_another_host_is_warned_of_and_a_wrong_one_refused(root: Path, tmp_path: Path) -> None:
    with served(root, tmp_path, "--host", "0.0.0.0") as port:
        assert answer(port, "/ajax-api/2.0/mlflow/experiments/search?max_results=5",
                      f"{socket.gethostname()}:{port}") == 200
        (warning,) = [line for line in (tmp_path / "ui.log").read_text().splitlines()
                      if line.startswith("warning: MLflow")]
        assert f"no authentication: whoever reaches port {port} of 0.0.0.0 can" in warning
        assert f"`ssh -L {port}:127.0.0.1:{port}`" in warning
    done = gan_bench("ui", "--root", root, "--port", free_port(), "--host", "no.such.host.invalid")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert "--host no.such.host.invalid: is no address of this machine" in done.stderr


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
