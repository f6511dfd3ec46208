"""Which MLflow store a study goes to, and whether it can be used: all of it without MLflow itself.

Importing MLflow takes over a second of CPU time, and letting it open a database of another version
may migrate that database in place; so what can be known beforehand is found out here.
"""

from __future__ import annotations

import logging
import os
import re
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import unquote, urlsplit

from gan_bench.errors import UserError, one_line

# A parameter of an address whose value is not to be shown.
SECRET = re.compile(r"([?&;](?:[^=&;]*(?:pass|pwd|secret|token|credential|api_?key|access_?key)"
                    r"[^=&;]*|odbc_connect)=)[^&#\s]*", re.IGNORECASE)


def environment() -> dict[str, str]:
    """Return the variables to set before MLflow is imported.

    By default MLflow reports to its makers, logs each migration, prints a line per ended run, and
    tries a server that is down for minutes before it says so; the user's own choice of how long to
    try is left as it is.
    """
    patience = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "20"}
    return {
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "true",
        "MLFLOW_CONFIGURE_LOGGING": "false",
        "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
        **{name: os.environ.get(name, value) for name, value in patience.items()},
    }


@contextmanager
def quiet_mlflow() -> Iterator[None]:
    """Set MLflow's environment and mute its log; on leaving, put back what the caller had."""
    log, variables = logging.getLogger("mlflow"), environment()
    level, before = log.level, {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    # It logs each error that it raises as well; ours is one line, said once.
    log.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        log.setLevel(level)
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def resolve_uri(root: Path, uri: str | None = None) -> str:
    """Return the store's address: `uri`, else `MLFLOW_TRACKING_URI`, else `<root>/mlflow.db`.

    Raises:
        UserError: It is a folder; MLflow's plain file store is closed to new data since MLflow 3.
    """
    uri = uri or os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{root / 'mlflow.db'}"
    if uri.startswith("sqlite:///"):
        return f"sqlite:///{Path(uri.removeprefix('sqlite:///')).absolute()}"
    if ("://" not in uri and uri != "databricks") or uri.startswith("file:"):
        raise UserError(f"cannot track runs in {without_password(uri)!r}: give --tracking-uri (or "
                        f"MLFLOW_TRACKING_URI) an http(s) address or a database such as "
                        f"sqlite:///mlflow.db")
    return uri.rstrip("/")


def without_password(uri: str) -> str:
    """Return the address as it may be shown and stored."""
    part = _password(uri)
    shown = f"{uri[:part.start]}***{uri[part.stop:]}" if part.stop else uri
    return SECRET.sub(r"\1***", shown)


def _password(uri: str) -> slice:
    """Return where the password of an address stands; `slice(0, 0)`: it has none.

    It ends at the last @ before the query, for users write / and @ as they are. In the address of a
    server, digits and a / after the colon are a port, and the @ belongs to the path.
    """
    query = re.search(r"\?[\w.-]+=", uri)
    # What looks like a query may be part of the password.
    end = uri.rfind("@", 0, query.start() if query else None)
    end = uri.rfind("@") if end < 0 else end
    port = r"(?!\d+/)" if is_server(uri) else ""
    user = re.match(rf"([\w+.-]+://|(?!\w+:/))[^/:]*:{port}", uri)
    return slice(user.end(), end) if user and user.end() <= end else slice(0, 0)


def reason(error: BaseException, uri: str = "") -> str:
    """Return what the system said, if that is what failed, else the error's first line.

    Args:
        uri: The store that the error is about, whose password its text may quote.
    """
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror
        cause = cause.__cause__ or cause.__context__
    if re.search("[/@?#]", uri[_password(uri)]):  # the text may quote any piece of it
        return (f"{type(error).__name__}; in its password, write / as %2F, @ as %40, ? as %3F and "
                f"# as %23")
    text = one_line(error)
    if uri:
        text = text.replace(uri, without_password(uri))
    return re.sub(r"[\w+.-]+://[^\s'\"]+", lambda part: without_password(part[0]), text)[:200]


def is_server(uri: str) -> bool:
    """Whether the address is that of a server, which keeps the artifacts itself."""
    return urlsplit(uri).scheme in ("http", "https", "databricks", "") or uri == "databricks"


def sqlite_path(uri: str) -> Path | None:
    """Return the file of an SQLite store; None for every other store."""
    return Path(uri.removeprefix("sqlite:///")) if uri.startswith("sqlite:///") else None


def has_run(database: Path, mlflow_run_id: str) -> bool:
    """Whether the SQLite store holds the run, be it deleted in MLflow's page or not."""
    if not database.exists():
        return False
    try:
        with closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True)) as connection:
            query = "select 1 from runs where run_uuid = ?"
            return connection.execute(query, [mlflow_run_id]).fetchone() is not None
    except sqlite3.Error:  # what is wrong with the file, open_store will say
        return False


def check_sqlite(database: Path, root: Path) -> None:
    """Check that this MLflow can write to the database, and switch it to write-ahead logging.

    Raises:
        UserError: It is read-only, locked, no MLflow database, from a newer or an older MLflow, or
            its artifacts are elsewhere because `root` was moved.
    """
    try:
        with closing(sqlite3.connect(database)) as connection:
            connection.execute("begin immediate")  # fails on a file that cannot be written
            (version,) = connection.execute("select version_num from alembic_version").fetchone()
            experiments = connection.execute(
                "select name, artifact_location from experiments where experiment_id != 0"
            ).fetchall()
            runs = connection.execute("select run_uuid, artifact_uri from runs").fetchall()
            connection.rollback()
            check_version(f"sqlite:///{database}", version)
            connection.execute("pragma journal_mode = wal")
    except (sqlite3.Error, TypeError) as error:  # TypeError: no row, a migration was interrupted
        raise UserError(f"cannot use {database} as MLflow's database ({error}); move the file "
                        f"away, or name another with --tracking-uri") from error
    if database.parent == root.absolute():
        _check_artifacts(database, dict(experiments))
        _check_runs(database, runs)


def check_version(uri: str, found: str) -> None:
    """Check that a database is of this MLflow, without importing it.

    Args:
        uri: The database.
        found: Its schema's version, from the table `alembic_version`.

    Raises:
        UserError: It is from a newer or an older one.
    """
    head, older = _schemas()
    if found == head:
        return
    shown = without_password(uri)
    database = sqlite_path(uri) or shown
    if found in older:
        raise UserError(f"{database} is from an older MLflow (schema {found}, here {head}): back "
                        f"it up, then run `mlflow db upgrade {shown}`")
    raise UserError(f"{database} is from a newer MLflow (schema {found}, here {head}): upgrade "
                    f"with `pip install --upgrade mlflow`, or choose another --root")


@cache
def _schemas() -> tuple[str, set[str]]:
    """Return the schema of the installed MLflow, and those before it, as its migrations name them.

    Alembic would import the migrations, and they import all of MLflow.
    """
    mlflow = find_spec("mlflow")
    if mlflow is None or mlflow.origin is None:
        raise UserError("MLflow is not installed: `pip install mlflow`")
    known: set[str] = set()
    older: set[str] = set()
    for file in Path(mlflow.origin).parent.glob("store/db_migrations/versions/*.py"):
        for line in re.findall(r"^(?:down_)?revision\b.*=.*$", file.read_text(), re.MULTILINE):
            names = re.findall(r"[\"']([0-9a-z]+)[\"']", line)
            (older if line.startswith("down") else known).update(names)
    (head,) = known - older
    return head, older


def _check_artifacts(database: Path, locations: dict[str, str]) -> None:
    """MLflow stores absolute addresses: after a move it would write to the old place."""
    home = (database.parent / "artifacts").resolve()
    for name, location in locations.items():
        if location.startswith("file:") and home not in Path(
                unquote(urlsplit(location).path)).resolve().parents:
            raise UserError(f"{database.parent} was moved: the artifacts of {name!r} belong to "
                            f"{location}; move it back, or delete {database.name} and run the "
                            f"experiment again, which fills a new one from the runs' journals")


def _check_runs(database: Path, runs: list[tuple[str, str | None]]) -> None:
    """Artifacts are written where the database says: it must not lead out of the root."""
    home = (database.parent / "artifacts").resolve()
    within: dict[Path, bool] = {}
    for run, location in runs:
        if not (location or "").startswith(("file:", "/")):
            continue
        path = Path(unquote(urlsplit(str(location)).path))
        folder = path.parent.parent  # of the experiment: <folder>/<run>/artifacts
        if folder not in within:
            within[folder] = folder.resolve().is_relative_to(home)
        if ".." in path.parts or not within[folder]:
            raise UserError(f"{database}: the artifacts of its run {run} belong to {location}, out "
                            f"of {home}; delete {database.name} and run the experiment again, "
                            f"which fills a new one from the runs' journals")


def ui_command(root: Path, uri: str | None, port: int) -> tuple[list[str], dict[str, str]]:
    """Return the command that serves MLflow's page on 127.0.0.1, and what its environment needs.

    With one worker and without MLflow's job runner it is 2 processes and 0.4 GB (15 and 2.3 GB by
    default, MLflow 3.17). It has no authentication, hence the loopback address.

    Raises:
        UserError: There is no database yet, or it cannot be used, or the store is a server, which
            has a page of its own.
    """
    uri = resolve_uri(root, uri)
    if is_server(uri):
        raise UserError(f"the store is a server with its own page: open {without_password(uri)}")
    database = sqlite_path(uri)
    if database:
        if not database.exists():
            raise UserError(f"there is no {database} yet: run an experiment first, or give --root")
        check_sqlite(database, root)
    artifacts = (root.absolute() / "artifacts").as_uri()
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port),
               "--workers", "1", "--uvicorn-opts", "--log-level warning",
               "--no-serve-artifacts", "--default-artifact-root", artifacts]
    # The address goes by the environment, for it may hold a password.
    return command, {**environment(), "MLFLOW_BACKEND_STORE_URI": uri,
                     "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}


def page(port: int) -> str:
    """Return the address of the page that `ui_command` serves, in MLflow's view for training runs.
    """
    return f"http://127.0.0.1:{port}/#/experiments?workflowType=machine_learning"
