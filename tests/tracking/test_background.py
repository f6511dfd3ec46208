"""A store that fails, hangs or asks for patience costs the launcher and `sync` little time.

Against a real MLflow server, through a proxy that does to requests what failing servers do.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from helpers.journals import new_run, write_journal
from helpers.limits import within
from helpers.proxy import Answer, Forward, proxy
from helpers.servers import team_server

from gan_bench.errors import UserError
from gan_bench.journal.layout import Workspace, run_folders
from gan_bench.journal.sharing.claims import SupersededError
from gan_bench.journal.sharing.lock import locked
from gan_bench.journal.writing import Journal
from gan_bench.tracking import background, sync
from gan_bench.tracking.background import BackgroundMirror
from gan_bench.tracking.mirror import Mirror
from gan_bench.tracking.runs.cursor import mirrored
from gan_bench.tracking.store.address import mlflow_environment
from gan_bench.tracking.store.client import open_store
from gan_bench.tracking.sync import sync_runs


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server."""
    with team_server(tmp_path_factory.mktemp("server")) as address:
        yield address


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in mlflow_environment():
        monkeypatch.delenv(name, raising=False)


def test_a_server_that_asks_for_an_hour_does_not_get_it(server: str, tmp_path: Path) -> None:
    folder = new_run(tmp_path)
    write_journal(folder)
    busy = threading.Event()

    def fault(path: str, forward: Forward) -> Answer | None:
        return (503, b"busy") if busy.is_set() else forward()

    with proxy(server, fault) as between, within(100):
        workspace = Workspace(tmp_path, tracking_uri=between)
        open_store(workspace)
        busy.set()
        lines: list[str] = []
        mirror = BackgroundMirror(workspace, folder.parent, True, lines.append)
        missing = mirror.finish()
        assert (len(lines), missing.startswith(f"MLflow cannot use {between}: ")) == (1, True)
        with pytest.raises(UserError, match=r"^MLflow cannot use http://127"):
            sync_runs(workspace, lambda line: None)
        busy.clear()
        assert sync_runs(workspace, lambda line: None).brought == 1


def test_a_server_that_hangs_gets_no_more_runs(server: str, tmp_path: Path,
                                               monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setattr(sync, "PATIENCE", 1.5)
    for seed in range(6):
        write_journal(new_run(tmp_path, seed))
    hang, free = threading.Event(), threading.Event()
    hang.set()

    def fault(path: str, forward: Forward) -> Answer | None:
        if path.endswith("/runs/create") and hang.is_set():
            free.wait(60)
            return None
        return forward()

    with proxy(server, fault) as between, within(50):
        workspace = Workspace(tmp_path, tracking_uri=between)
        done = sync_runs(workspace, lambda line: None)
        assert done.brought == 0
        assert 2 <= len(done.missing) <= 3
        assert done.missing[-1].startswith("MLflow has failed for ")
        assert done.missing[-1].endswith(" s: the other runs were not tried; repeat the command "
                                         "once it answers")
        hang.clear()
        free.set()
        done = sync_runs(workspace, lambda line: None)
        assert (done.brought, done.missing, done.hidden) == (6, [], [])


def test_a_server_that_never_comes_to_an_end_does_not_hold_the_launcher(
        server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even with the timeout of an hour that a user has chosen."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "3600")
    monkeypatch.setattr(background, "STALLED", 3.0)
    folder = new_run(tmp_path)
    write_journal(folder)
    free = threading.Event()

    def fault(path: str, forward: Forward) -> Answer | None:
        if path.endswith("/runs/create"):
            free.wait(60)
        return forward()

    with proxy(server, fault) as between, within(40):
        workspace = Workspace(tmp_path, tracking_uri=between)
        mirror = BackgroundMirror(workspace, folder.parent, False, lambda line: None)
        assert mirror.finish() == f"MLflow at {between} has taken no run for 3 s"
        free.set()
        monkeypatch.setattr(background, "STALLED", 30.0)
        assert mirror.finish() == ""
    assert len(run_folders(folder.parent)) == 1


def test_what_fails_once_at_the_end_is_tried_again(server: str, tmp_path: Path) -> None:
    """There is no later round, and the fault may have passed."""
    folder = new_run(tmp_path)
    refused: list[str] = []

    def fault(path: str, forward: Forward) -> Answer | None:
        if path.endswith("/runs/create") and not refused:
            refused.append(path)
            return 400, b'{"error_code": "INVALID_STATE", "message": "not now"}'
        return forward()

    with proxy(server, fault) as between, within(50):
        workspace = Workspace(tmp_path, tracking_uri=between)
        mirror = BackgroundMirror(workspace, folder.parent, True, lambda line: None)
        write_journal(folder)
        mirror.request(folder)
        assert mirror.finish() == ""
        assert len(refused) == 1
        assert mirrored(folder, between)


def test_beside_another_that_mirrors_only_what_has_ended_is_waited_for(tmp_path: Path) -> None:
    """The runs that others train go on, perhaps for days, and are copied by whoever mirrors."""
    ended, trained = new_run(tmp_path, 1), new_run(tmp_path, 2)
    write_journal(ended)
    workspace = Workspace(tmp_path, tracking_uri=f"sqlite:///{tmp_path}/mlflow.db")
    with locked(ended.parent), closing(Journal(trained)) as book, within(60):
        book.metrics(1, {"a": 1.0})
        waits = BackgroundMirror(workspace, ended.parent, True, pytest.fail)
        assert waits.finish(2.0) == f"process {os.getpid()} is copying the runs"
        Mirror(open_store(workspace)).sync(ended)
        assert waits.finish(30.0) == ""
        assert mirrored(ended, str(workspace.tracking_uri))
        assert not mirrored(trained, str(workspace.tracking_uri))


def test_roots_that_start_the_same_study_at_once_leave_no_run_behind(tmp_path: Path) -> None:
    """MLflow records the data set once for an experiment, and each of the roots records it."""
    uri = f"sqlite:///{tmp_path / 'shared.db'}"
    for attempt in range(4):
        folders = [new_run(tmp_path / str(root) / f"study-{attempt}") for root in range(6)]
        for folder in folders:
            write_journal(folder)
        mirrors = [Mirror(open_store(Workspace(folder.parents[2], tracking_uri=uri)))
                   for folder in folders]
        start = threading.Barrier(len(folders))

        def copy(pair: tuple[Mirror, Path], start: threading.Barrier = start) -> None:
            start.wait()
            pair[0].sync(pair[1])

        with ThreadPoolExecutor(len(folders)) as pool, within(100):
            list(pool.map(copy, zip(mirrors, folders, strict=True)))
        assert all(mirrored(folder, uri) for folder in folders)
    with closing(sqlite3.connect(tmp_path / "shared.db")) as database:
        assert database.execute("select count(*) from datasets").fetchone() == (4,)
        assert database.execute("select status, count(*) from runs group by status").fetchall() \
            == [("FINISHED", 24)]


def test_a_mirror_that_was_frozen_in_a_round_leaves_the_rest(tmp_path: Path) -> None:
    """Another process has taken over: two that write would make two runs of one attempt."""
    folders = [new_run(tmp_path, seed) for seed in range(3)]
    for folder in folders:
        write_journal(folder)
    workspace = Workspace(tmp_path, tracking_uri=f"sqlite:///{tmp_path}/mlflow.db")
    uri = str(workspace.tracking_uri)
    with locked(folders[0].parent) as lease, within(60):
        mirror = Mirror(open_store(workspace), lease.refuse_superseded)
        mirror.sync(folders[0])
        successor = lease.folder / f"{lease.name}.{lease.attempt + 1}"
        successor.touch()
        with pytest.raises(SupersededError):
            mirror.sync(folders[1])
        successor.unlink()
        mirror.open_experiment(folders[1].parent)
        calls: list[bool] = []

        def frozen() -> None:  # between the look for the run and its creation
            calls.append(True)
            if len(calls) == 2:
                successor.touch()
            lease.refuse_superseded()

        with pytest.raises(SupersededError):
            Mirror(open_store(workspace), frozen).sync(folders[1])
        assert len(calls) == 2
        successor.unlink()
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as database:
        assert database.execute("select count(*) from runs").fetchone() == (1,)
    assert [mirrored(folder, uri) for folder in folders] == [True, False, False]


def test_a_superseded_round_is_taken_up_once_the_lease_is_free(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "EVERY", 0.2)
    folder = new_run(tmp_path)
    write_journal(folder)
    workspace = Workspace(tmp_path, tracking_uri=f"sqlite:///{tmp_path}/mlflow.db")
    with within(60):
        mirror = BackgroundMirror(workspace, folder.parent, True, pytest.fail)
        while mirror._lease is None:
            time.sleep(0.01)
        other = folder.parent / f"mirror.{mirror._lease.attempt + 1}"
        other.touch()  # unsound, and so free at once
        assert mirror.finish() == ""
    assert mirrored(folder, str(workspace.tracking_uri))
