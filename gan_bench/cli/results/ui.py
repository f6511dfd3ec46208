"""What `gan-bench ui` does."""

from __future__ import annotations

import os
import socket
import sys
import time
from contextlib import suppress
from ipaddress import ip_address
from typing import NoReturn
from urllib.error import HTTPError
from urllib.request import ProxyHandler, build_opener

from gan_bench.errors import UserError, printable
from gan_bench.journal.layout import Workspace
from gan_bench.tracking.pages.experiment_page import Page, page_path, pages_of
from gan_bench.tracking.store.address import (
    is_server,
    mlflow_environment,
    quiet_mlflow,
    resolve_uri,
    sqlite_path,
    without_password,
)
from gan_bench.tracking.store.database import check_sqlite
from gan_bench.tracking.store.relocation import check_addresses

HOST = "127.0.0.1"
STARTS = 120.0  # seconds that the server may take until it answers
LISTED = 5  # experiments whose addresses are printed


def serve(workspace: Workspace, port: int, host: str = HOST) -> NoReturn:
    """Become the process that serves MLflow's page; print the addresses once it answers.

    Raises:
        UserError: See `ui_command`, or there is no such host.
        SystemExit: Another program has the port, which a line on stderr says; the status is 1.
    """
    argv, variables = ui_command(workspace, port, host)
    _refuse_busy(host, port)
    if not is_loopback(host):
        print(f"warning: MLflow has no authentication: whoever reaches port {port} of {host} can "
              f"read, change and delete all runs; on 127.0.0.1, `ssh -L {port}:127.0.0.1:{port}` "
              f"from the other machine reaches it alone", file=sys.stderr, flush=True)
    lines = _address_lines(workspace, address_of(host, port))
    # MLflow's server takes the place of this process, with its signals and its terminal. Its child
    # prints the addresses and ends.
    server = os.getpid()
    if os.fork() == 0:
        _announce(address_of(host, port), lines, server)
    os.execvpe(argv[0], argv, {**os.environ, **variables})


def is_loopback(host: str) -> bool:
    """Whether a host is this machine alone."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def address_of(host: str, port: int) -> str:
    """Return the address of a server on a host; on every interface, that of this machine."""
    try:
        address = ip_address(host)
    except ValueError:
        return f"http://{host}:{port}"
    if address.is_unspecified:
        return f"http://{HOST if address.version == 4 else '[::1]'}:{port}"
    return f"http://{host if address.version == 4 else f'[{host}]'}:{port}"


def _announce(address: str, lines: list[str], server: int) -> NoReturn:
    """Print the lines once the server answers; end without a word if it has ended."""
    deadline = time.monotonic() + STARTS
    try:
        while (os.getppid() == server and time.monotonic() < deadline
               and not _answers(f"{address}/health")):
            time.sleep(0.2)
        if os.getppid() == server:
            print("\n".join(lines), flush=True)
    finally:
        os._exit(0)


def _answers(url: str) -> bool:
    direct = build_opener(ProxyHandler({}))  # a proxy would answer in the server's place
    try:
        with direct.open(url, timeout=5):
            return True
    except HTTPError:
        return True
    except OSError:
        return False


def _address_lines(workspace: Workspace, address: str) -> list[str]:
    """Return the addresses of the latest experiments' pages, each with its prepared view.

    Where the database cannot be read, MLflow's list of experiments remains.
    """
    try:
        with quiet_mlflow():
            pages = pages_of(resolve_uri(workspace))
    except Exception:  # from any database driver
        pages = []
    lines = [line for page in pages[:LISTED] for line in _lines_of(page, address)]
    if len(pages) != 1:
        lines.append(f"all experiments: {address}/#/experiments?workflowType=machine_learning")
    return [*map(printable, lines), "Ctrl-C ends it"]


def _lines_of(page: Page, address: str) -> list[str]:
    table = page_path(page.experiment_id, is_prepared=page.is_prepared)
    charts = page_path(page.experiment_id, is_prepared=page.is_prepared, as_charts=True)
    return [f"{page.experiment}: {address}{table}", f"  as charts: {address}{charts}"]


def _refuse_busy(host: str, port: int) -> None:
    """Refuse a port that cannot be listened on; MLflow would end with status 0.

    Raises:
        UserError: There is no such host.
    """
    try:
        family, kind, _, _, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError) as error:
        raise UserError(f"--host {host}: is no address of this machine ({error}); give 127.0.0.1, "
                        f"or 0.0.0.0 for all its addresses") from None
    try:
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(place)
    except OSError as error:
        print(f"error: port {port} of {host} cannot be used: {error.strerror}; give another "
              f"--port", file=sys.stderr)
        raise SystemExit(1) from None


def ui_command(workspace: Workspace, port: int, host: str = HOST,
               ) -> tuple[list[str], dict[str, str]]:
    """Return the command that serves MLflow's page, and what its environment needs.

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
    names = _names_of(host)
    hosts = [*dict.fromkeys(name + end for name in names for end in ("", f":{port}"))]
    origins = [f"http://{name}:{port}" for name in names]  # else its page could not ask for runs
    # Both MLflow and uvicorn would import modules of the working folder in place of Python's.
    options = f"--log-level warning --app-dir {os.devnull}"
    command = [sys.executable, "-m", "mlflow", "server", "--host", host, "--port", str(port),
               "--workers", "1", "--uvicorn-opts", options, "--allowed-hosts", ",".join(hosts),
               "--cors-allowed-origins", ",".join(origins), "--no-serve-artifacts",
               "--default-artifact-root", workspace.artifacts.as_uri()]
    # The address is passed in the environment, because it may contain a password. Warnings of
    # MLflow's own code are no news to its user.
    return command, {**mlflow_environment(), "MLFLOW_BACKEND_STORE_URI": uri,
                     "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "PYTHONSAFEPATH": "1",
                     "PYTHONWARNINGS": os.environ.get("PYTHONWARNINGS", "ignore")}


def _names_of(host: str) -> list[str]:
    """Return the names by which a browser may ask for the page: of this machine, if it is not
    served on a loopback address alone."""
    names = [HOST, "localhost"]
    if host not in (HOST, "localhost"):
        names += ["[::1]", f"[{host}]"] if ":" in host else [host]
    if is_loopback(host):
        return names
    here = socket.gethostname()
    names += [here, socket.getfqdn()]
    with suppress(OSError):  # the machine's name leads nowhere
        names += [str(place[0]) for *_, place in socket.getaddrinfo(here, None, socket.AF_INET)]
    allowed = os.environ.get("MLFLOW_SERVER_ALLOWED_HOSTS", "").split(",")
    return [*dict.fromkeys([*names, *filter(None, map(str.strip, allowed))])]
