"""What `gan-bench ui` does."""

from __future__ import annotations

import os
import socket
import sys
from typing import NoReturn

from gan_bench.errors import UserError
from gan_bench.journal.layout import Workspace
from gan_bench.tracking.address import (
    is_server,
    mlflow_environment,
    resolve_uri,
    sqlite_path,
    without_password,
)
from gan_bench.tracking.database import check_sqlite
from gan_bench.tracking.relocation import check_addresses

HOST = "127.0.0.1"


def serve(workspace: Workspace, port: int) -> NoReturn:
    """Print the address of MLflow's page, and become the process that serves it.

    Raises:
        UserError: See `ui_command`.
        SystemExit: Another program has the port, which a line on stderr says; the status is 1.
    """
    argv, variables = ui_command(workspace, port)
    _refuse_busy(port)
    # MLflow's view for training runs.
    address = f"http://{HOST}:{port}/#/experiments?workflowType=machine_learning"
    print(f"{address} (Ctrl-C ends it)", flush=True)
    os.execvpe(argv[0], argv, {**os.environ, **variables})


def _refuse_busy(port: int) -> None:
    """Refuse a port that cannot be listened on; MLflow would end with status 0."""
    try:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((HOST, port))
    except OSError as error:
        print(f"error: port {port} of {HOST} cannot be used: {error.strerror}; give another "
              f"--port", file=sys.stderr)
        raise SystemExit(1) from None


def ui_command(workspace: Workspace, port: int) -> tuple[list[str], dict[str, str]]:
    """Return the command that serves MLflow's page on 127.0.0.1, and what its environment needs.

    With one worker and without MLflow's job runner it uses 2 processes and 0.4 GB, not 15 and
    2.3 GB (MLflow 3.17). It has no authentication, hence the loopback address.

    Raises:
        UserError: There is no database yet, or it cannot be used, or the store is a server, which
            has a page of its own.
    """
    uri = resolve_uri(workspace)
    if is_server(uri):
        raise UserError(f"the store is a server with its own page: open {without_password(uri)}")
    database = sqlite_path(uri)
    if database:
        if not database.exists():
            raise UserError(f"there is no {database} yet: run an experiment first, or give --root")
        check_sqlite(database)
        if database == workspace.database:
            check_addresses(database)
    # By default MLflow takes any name that begins like a private address, such as 10.evil.com.
    hosts = [host + end for host in (HOST, "localhost") for end in ("", f":{port}")]
    # Both MLflow and uvicorn would import modules of the working folder in place of Python's.
    options = f"--log-level warning --app-dir {os.devnull}"
    command = [sys.executable, "-m", "mlflow", "server", "--host", HOST, "--port", str(port),
               "--workers", "1", "--uvicorn-opts", options, "--allowed-hosts", ",".join(hosts),
               "--no-serve-artifacts", "--default-artifact-root", workspace.artifacts.as_uri()]
    # The address is passed in the environment, because it may contain a password.
    return command, {**mlflow_environment(), "MLFLOW_BACKEND_STORE_URI": uri,
                     "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "PYTHONSAFEPATH": "1"}
