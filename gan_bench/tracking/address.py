"""Which MLflow store a study goes to, and whether it can be used: all of it without MLflow itself.

Importing MLflow takes over a second of CPU time, and letting it open a database of another version
may migrate that database in place; so what can be known beforehand is found out here.
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

# A parameter of an address whose value is not to be shown.
SECRET = re.compile(r"([?&;](?:[^=&;]*(?:pass|pwd|secret|token|credential|api_?key|access_?key)"
                    r"[^=&;]*|odbc_connect)=)[^&#\s]*", re.IGNORECASE)


def mlflow_environment() -> dict[str, str]:
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
    log, variables = logging.getLogger("mlflow"), mlflow_environment()
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


