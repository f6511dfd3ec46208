"""The address of the MLflow store, checked without importing MLflow.

The import takes over a second of CPU time. And MLflow may migrate a database of another version in
place when it opens it.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from gan_bench.errors import UserError, one_line
from gan_bench.journal.layout import Workspace
from gan_bench.paths import normal_path
from gan_bench.tracking.store.mounts import network_mount

# A parameter of an address whose value stays hidden.
SECRET = re.compile(r"([?&;](?:[^=&;]*(?:pass|pwd|secret|token|credential|api_?key|access_?key)"
                    r"[^=&;]*|odbc_connect)=)[^&#\s]*", re.IGNORECASE)

# What a server's address has before its @ may be a token, where no password follows.
LONE_TOKEN = re.compile(r"^((?:https?:)?//)[^/:@?#]+(?=@)", re.IGNORECASE)


def mlflow_environment() -> dict[str, str]:
    """Return the variables to set before MLflow is imported.

    By default MLflow sends usage data to its makers, logs each migration, prints a line for each
    ended run and a bar for each downloaded file, retries a dead server for minutes, and waits for
    hours where a server says so. The user's own choice of retries, timeout and waiting stays in
    force.
    """
    retries = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
               "MLFLOW_HTTP_RESPECT_RETRY_AFTER_HEADER": "false"}
    return {
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "true",
        "MLFLOW_CONFIGURE_LOGGING": "false",
        "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
        **{name: os.environ.get(name, value) for name, value in retries.items()},
    }


@contextmanager
def quiet_mlflow() -> Iterator[None]:
    """Set MLflow's environment and mute its log; restore both on leaving."""
    log, variables = logging.getLogger("mlflow"), mlflow_environment()
    level, old_values = log.level, {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    # MLflow also logs each error that it raises; the program reports it once, in one line.
    log.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        log.setLevel(level)
        for name, value in old_values.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def resolve_uri(workspace: Workspace) -> str:
    """Return the store's address: `tracking_uri`, else `MLFLOW_TRACKING_URI`, else the database.

    Raises:
        UserError: It is a folder; since version 3 MLflow's plain file store refuses new data. Or it
            is an SQLite file on a network file system.
    """
    uri = str(workspace.tracking_uri or os.environ.get("MLFLOW_TRACKING_URI")
              or f"sqlite:///{workspace.database}")
    if uri.startswith("sqlite:///"):
        database = normal_path(uri.removeprefix("sqlite:///"))
        refuse_network_file(database)
        return f"sqlite:///{database}"
    if ("://" not in uri and uri != "databricks") or uri.startswith("file:"):
        raise UserError(f"cannot track runs in {without_password(uri)!r}: give --tracking-uri (or "
                        f"MLFLOW_TRACKING_URI) an http(s) address or a database such as "
                        f"sqlite:///mlflow.db")
    return uri.rstrip("/")


def refuse_network_file(database: Path) -> None:
    """Refuse an SQLite file on a network file system; it need not exist.

    Raises:
        UserError: It lies on one.
    """
    mount = network_mount(database)
    if mount is None:
        return
    copied = ("; `gan-bench sync --to ADDRESS` copies the runs there from their journals"
              if database.exists() else "")
    raise UserError(
        f"{without_password(str(database))} is on {mount.place} ({mount.kind}), a network file "
        f"system, where SQLite loses rows: give --tracking-uri (or MLFLOW_TRACKING_URI) the "
        f"address of an MLflow server, or of a file on a local disk such as "
        f"sqlite:////var/tmp/mlflow.db{copied}")


def without_password(uri: str) -> str:
    """Return the address with *** for its secrets, fit for messages and files."""
    password = _locate_password(uri)
    masked = f"{uri[:password.start]}***{uri[password.stop:]}" if password.stop else uri
    masked = LONE_TOKEN.sub(r"\1***", masked)
    return SECRET.sub(r"\1***", masked)


def _locate_password(uri: str) -> slice:
    """Return where the password stands in an address; `slice(0, 0)` if there is no password.

    It ends at the last @ before the query, as users leave / and @ unescaped. In a server's address,
    digits and a / after the colon are a port, and the @ belongs to the path.
    """
    query = re.search(r"\?[\w.-]+=", uri)
    # What looks like a query may be part of the password.
    end = uri.rfind("@", 0, query.start() if query else None)
    end = uri.rfind("@") if end < 0 else end
    port = r"(?!\d+/)" if is_server(uri) else ""
    user = re.match(rf"([\w+.-]+://|(?!\w+:/))[^/:]*:{port}", uri)
    return slice(user.end(), end) if user and user.end() <= end else slice(0, 0)


def reason(error: BaseException, uri: str = "") -> str:
    """Return the operating system's message if it caused the error, else the error's first line.

    Args:
        uri: The store that failed; the error's text may quote its password.
    """
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror
        cause = cause.__cause__ or cause.__context__
    if re.search("[/@?#]", uri[_locate_password(uri)]):  # the text may quote any piece of it
        return (f"{type(error).__name__}; in its password, write / as %2F, @ as %40, ? as %3F and "
                f"# as %23")
    text = one_line(error)
    if uri:
        text = text.replace(uri, without_password(uri))
    return re.sub(r"[\w+.-]+://[^\s'\"]+", lambda match: without_password(match[0]), text)[:200]


def is_server(uri: str) -> bool:
    """Whether the address is a server's, which keeps the artifacts itself."""
    return urlsplit(uri).scheme in ("http", "https", "databricks", "") or uri == "databricks"


def sqlite_path(uri: str) -> Path | None:
    """Return the file of an SQLite store; None for every other store."""
    return Path(uri.removeprefix("sqlite:///")) if uri.startswith("sqlite:///") else None
