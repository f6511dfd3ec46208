"""A real MLflow server for tests."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gan_bench.cli.results.ui import ui_command
from gan_bench.journal.layout import Workspace
from gan_bench.tracking.store.client import open_store


def free_port() -> int:
    """Return a port of the loopback device that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def mlflow_server(root: Path, uri: str, port: int = 0) -> Iterator[str]:
    """Run the server that `gan-bench ui` starts for a database, and yield its address.

    Args:
        port: That of a server which ended, to start it again; 0: any that is free.
    """
    port = port or free_port()
    command, environment = ui_command(Workspace(root, tracking_uri=uri), port)
    process = subprocess.Popen(command, env={**os.environ, **environment}, cwd=root,
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(600):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            assert process.poll() is None, "the server died"
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(timeout=20)


@contextmanager
def team_server(folder: Path) -> Iterator[str]:
    """Run a server on a database of its own in an existing folder, and yield its address."""
    database = f"sqlite:///{folder / 'team.db'}"
    open_store(Workspace(folder, tracking_uri=database))
    with mlflow_server(folder, database) as address:
        yield address
