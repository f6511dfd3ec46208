"""MLflow's tables in PostgreSQL, for which the program needs no server of MLflow.

Against a real PostgreSQL; skipped where its programs or a driver are missing.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.journals import new_run, write_journal
from helpers.postgres import Postgres

from gan_bench.errors import UserError
from gan_bench.journal.layout import Workspace
from gan_bench.tracking.background import BackgroundMirror
from gan_bench.tracking.runs.cursor import mirrored
from gan_bench.tracking.store.client import open_store
from gan_bench.tracking.store.database_server import (
    Tables,
    UnreachableError,
    check_connection,
    tables_of,
)
from gan_bench.tracking.sync import sync_runs


@pytest.fixture
def postgres() -> Iterator[Postgres]:
    """A server with an empty database."""
    server = Postgres()
    yield server
    server.remove()


def test_launchers_that_start_at_once_share_an_empty_database(
        postgres: Postgres, tmp_path: Path) -> None:
    assert tables_of(postgres.uri) == Tables.ABSENT
    script = ("import sys, pathlib; from gan_bench.tracking.store.client import open_store; "
              "from gan_bench.journal.layout import Workspace; "
              "open_store(Workspace(pathlib.Path(sys.argv[1]), tracking_uri=sys.argv[2]))")
    processes = [subprocess.Popen(
        [sys.executable, "-c", script, tmp_path / name, postgres.uri],
        stderr=subprocess.PIPE, text=True) for name in ("first", "second", "third")]
    assert [(p.communicate()[1], p.returncode) for p in processes] == [("", 0)] * 3
    assert tables_of(postgres.uri) == Tables.WHOLE
    # What the launchers have made is whole, and two roots share it.
    for name in ("first", "second"):
        folder = new_run(tmp_path / name / "root")
        write_journal(folder)
        workspace = Workspace(tmp_path / name / "root", tracking_uri=postgres.uri)
        done = sync_runs(workspace, lambda line: None)
        assert (done.brought, done.missing, done.hidden) == (1, [], [])
    done = sync_runs(workspace, lambda line: None)
    assert (done.brought, done.missing, done.hidden) == (0, [], [])


def test_a_database_that_is_down_holds_up_no_training(postgres: Postgres, tmp_path: Path) -> None:
    workspace = Workspace(tmp_path, tracking_uri=postgres.uri)
    postgres.stop()
    folder = new_run(tmp_path)
    lines: list[str] = []
    begin = time.monotonic()
    background = BackgroundMirror(workspace, folder.parent, True, lines.append)
    write_journal(folder)
    background.request(folder)
    missing = background.finish()
    assert time.monotonic() - begin < 60
    assert "does not answer" in missing
    assert "Connection refused" in missing
    assert (len(lines), "training continues" in lines[0]) == (1, True)
    with pytest.raises(UserError, match=r"^the database .* does not answer: ") as refused:
        sync_runs(workspace, lambda line: None)
    postgres.start()
    done = sync_runs(workspace, lambda line: None)
    assert (done.brought, done.missing, done.hidden) == (1, [], [])
    assert mirrored(folder, postgres.uri)
    for text in (missing, *lines, str(refused.value), (folder / "mirror.json").read_text()):
        assert "cret" not in text


@pytest.mark.parametrize(("uri", "words"), [
    ("mysql://me:secret@127.0.0.1:9/runs", "needs the Python package mysqlclient: `pip install"),
    ("nonsense://me:secret@127.0.0.1:9/runs", "MLflow cannot use nonsense://me:***@127.0.0.1:9"),
])
def test_a_database_that_can_never_be_used_is_refused_at_once(
        tmp_path: Path, uri: str, words: str) -> None:
    with pytest.raises(UserError) as refused:
        open_store(Workspace(tmp_path, tracking_uri=uri))
    assert words in str(refused.value)
    assert "secret" not in str(refused.value)
    assert not isinstance(refused.value, UnreachableError)
    with pytest.raises(UserError):
        check_connection(uri)
