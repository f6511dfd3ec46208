"""Roots that share a store: each writes to the MLflow runs that it has made, and to no others.

Against a real MLflow server, and its database counted by SQL.
"""

from __future__ import annotations

import itertools
import json
import shutil
import sqlite3
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from importlib.metadata import version
from pathlib import Path

import pytest
from helpers import journals
from helpers.journals import FACTS, write_journal
from helpers.proxy import first_create, proxy
from helpers.runs import write_experiment
from helpers.servers import mlflow_server
from helpers.studies import here
from packaging.version import Version

from gan_bench.config.run_id import older_id
from gan_bench.journal import reading
from gan_bench.journal.layout import Workspace
from gan_bench.journal.spec_file import read_spec
from gan_bench.journal.writing import Journal
from gan_bench.tracking.mirror import Mirror
from gan_bench.tracking.runs import cursor, origin
from gan_bench.tracking.runs.older_ids import take_over_older_runs
from gan_bench.tracking.runs.origin import instance_of
from gan_bench.tracking.store.client import Store, open_store
from gan_bench.tracking.sync import sync_runs

SEEDS = itertools.count(100)  # a run's id tells no experiments apart, and these share a server


def new_run(root: Path, seed: int | None = None) -> Path:
    return journals.new_run(root, next(SEEDS) if seed is None else seed)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """The address of a server, and its database."""
    folder = tmp_path_factory.mktemp("server")
    database = folder / "team.db"
    open_store(Workspace(folder, tracking_uri=f"sqlite:///{database}"))
    with mlflow_server(folder, f"sqlite:///{database}") as address:
        yield address, database


def store_of(root: Path, address: str) -> Store:
    return open_store(Workspace(root, tracking_uri=address))


def runs_in(database: Path, run_id: str) -> dict[str, tuple[str, str]]:
    """Return lifecycle and status of all MLflow runs of a run, deleted ones too."""
    with closing(sqlite3.connect(database)) as db:
        return {run: (stage, status) for run, stage, status in db.execute(
            "select r.run_uuid, r.lifecycle_stage, r.status from runs r join tags t on "
            "t.run_uuid = r.run_uuid where t.key = 'run_id' and t.value = ? order by r.start_time",
            [run_id])}


def rows_of(database: Path, mlflow_run_id: str) -> Counter[tuple[str, int]]:
    """Count the measurements of a run, by metric and step."""
    with closing(sqlite3.connect(database)) as db:
        return Counter(db.execute("select key, step from metrics where run_uuid = ?",
                                  [mlflow_run_id]).fetchall())


def rows_in_journal(folder: Path) -> Counter[tuple[str, int]]:
    return Counter((key, record["step"]) for record in
                   reading.valid(reading.read_records(folder)[0])
                   for key in record.get("values", {}))


def named(folder: Path, address: str) -> str:
    found = cursor.read_cursor(folder, address)
    assert found is not None
    return found.mlflow_run_id


def test_two_roots_delete_nothing_of_each_other(server: tuple[str, Path], tmp_path: Path) -> None:
    address, database = server
    folders = [new_run(tmp_path / owner / "two-roots", 7) for owner in ("first", "second")]
    assert folders[0].name == folders[1].name
    for folder in folders:
        write_journal(folder)
        Mirror(store_of(folder.parents[2], address)).sync(folder)
        time.sleep(0.002)
    first, second = (named(folder, address) for folder in folders)
    finished = ("active", "FINISHED")
    assert runs_in(database, folders[0].name) == {first: finished, second: finished}
    # The second begins anew, and loses its cursor: only its earlier attempt is deleted.
    write_journal(folders[1])
    (folders[1] / cursor.FILE).unlink()
    Mirror(store_of(folders[1].parents[2], address)).sync(folders[1])
    third = named(folders[1], address)
    assert runs_in(database, folders[0].name) == {
        first: finished, second: ("deleted", "FINISHED"), third: finished}
    for run, folder in ((first, folders[0]), (third, folders[1])):
        assert rows_of(database, run) == rows_in_journal(folder)
    # What is there is found again without a cursor.
    (folders[0] / cursor.FILE).unlink()
    assert sync_runs(Workspace(folders[0].parents[2], tracking_uri=address),
                     lambda line: None).missing == []
    assert named(folders[0], address) == first


def test_the_same_file_from_two_roots_into_one_server(server: tuple[str, Path], tmp_path: Path,
                                                      ) -> None:
    address, database = server
    file = write_experiment(tmp_path)
    roots = [tmp_path / "ours", tmp_path / "theirs"]
    for root in (*roots, roots[0]):
        done = here("run", file, "--root", root, "--tracking-uri", address, "--set", "seeds=[0]")
        assert done.returncode == 0, done.stderr
    for root in roots:
        folders = sorted(path.parent for path in root.glob("runs/*/*/journal.jsonl"))
        assert len(folders) == 2
        for folder in folders:
            runs = runs_in(database, folder.name)
            assert list(runs.values()) == [("active", "FINISHED")] * 2
            assert rows_of(database, named(folder, address)) == rows_in_journal(folder)
        synced = here("sync", "--root", root, "--to", address)
        assert (synced.returncode, synced.stdout) == (0, "2 runs, 0 brought up to date\n")


def test_a_root_copied_half_way_doubles_no_row(server: tuple[str, Path], tmp_path: Path) -> None:
    address, database = server
    folder = new_run(tmp_path / "copied")
    book = Journal(folder)
    book.start(FACTS)
    for step in range(10):
        book.metrics(step, {"train/d_loss": step / 7})
    book.close()
    Mirror(store_of(tmp_path / "copied", address)).sync(folder)
    shutil.copytree(tmp_path / "copied", tmp_path / "copy")
    both = folder, tmp_path / "copy" / folder.relative_to(tmp_path / "copied")
    mirrors = [Mirror(store_of(one.parents[2], address)) for one in both]
    books = [Journal(one) for one in both]
    for book in books:
        book.resume(9, "", {}, void=False)
    for step in range(10, 20):
        for one, book, mirror in zip(both, books, mirrors, strict=True):
            time.sleep(0.002)
            book.metrics(step, {"train/d_loss": step / 7})
            mirror.sync(one)
    for one, book, mirror in zip(both, books, mirrors, strict=True):
        book.end("FINISHED")
        mirror.sync(one)
    ids = [named(one, address) for one in both]
    assert runs_in(database, folder.name) == dict.fromkeys(ids, ("active", "FINISHED"))
    for one, run in zip(both, ids, strict=True):
        assert rows_of(database, run) == rows_in_journal(one) == Counter(
            {("train/d_loss", step): 1 for step in range(20)})


def test_a_copy_of_what_is_finished_writes_nothing(server: tuple[str, Path], tmp_path: Path,
                                                   ) -> None:
    address, database = server
    folder = new_run(tmp_path / "finished")
    write_journal(folder)
    Mirror(store_of(tmp_path / "finished", address)).sync(folder)
    shutil.copytree(tmp_path / "finished", tmp_path / "copy")
    done = sync_runs(Workspace(tmp_path / "copy", tracking_uri=address), lambda line: None)
    assert (done.runs, done.brought, done.missing) == (1, 0, [])
    assert list(runs_in(database, folder.name)) == [named(folder, address)]


def test_a_root_on_another_machine_fills_the_server_there(server: tuple[str, Path], tmp_path: Path,
                                                          ) -> None:
    """Its own database came along, and stays whole; the server receives every run once."""
    address, database = server
    folder = new_run(tmp_path / "cluster")
    write_journal(folder)
    assert sync_runs(Workspace(tmp_path / "cluster"), lambda line: None).brought == 1
    (tmp_path / "cluster").rename(tmp_path / "laptop")
    workspace = Workspace(tmp_path / "laptop", tracking_uri=address)
    for brought in (1, 0):
        done = sync_runs(workspace, lambda line: None)
        assert (done.runs, done.brought, done.missing, done.hidden) == (1, brought, [], [])
    assert list(runs_in(database, folder.name).values()) == [("active", "FINISHED")]
    assert sync_runs(Workspace(tmp_path / "laptop"), lambda line: None).brought == 0
    assert len(runs_in(tmp_path / "laptop" / "mlflow.db", folder.name)) == 1


def test_a_run_that_gets_another_id_keeps_its_run_at_the_server(server: tuple[str, Path],
                                                                tmp_path: Path) -> None:
    """An earlier version made it, and wrote its cursor."""
    address, database = server
    folder = new_run(tmp_path / "root")
    run = read_spec(folder)
    folder = folder.rename(folder.with_name(older_id(run.model_dump(mode="json"))))
    write_journal(folder)
    workspace = Workspace(tmp_path / "root", tracking_uri=address)
    assert sync_runs(workspace, lambda line: None).brought == 1
    before = named(folder, address)
    cursors = json.loads((folder / cursor.FILE).read_text())
    for name in "run_id", "variant":
        cursors[address].pop(name)
    (folder / cursor.FILE).write_text(json.dumps(cursors))
    assert take_over_older_runs((run,), tmp_path / "root") == 1
    assert sync_runs(workspace, lambda line: None).brought == 1
    assert named(run.folder(tmp_path / "root"), address) == before
    assert runs_in(database, run.id) == {before: ("active", "FINISHED")}
    assert runs_in(database, folder.name) == {}
    assert sync_runs(workspace, lambda line: None).brought == 0


@pytest.mark.parametrize("fault", ["reset", "500", "double"])
def test_a_lost_answer_leaves_no_twin(server: tuple[str, Path], tmp_path: Path, fault: str,
                                      monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether MLflow's client repeats the request by itself, or the next `sync` does."""
    address, database = server
    for retries in ("0", "1"):
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", retries)
        folder = new_run(tmp_path / f"{fault}-{retries}")
        write_journal(folder)
        with proxy(address, first_create(fault)) as between:
            workspace = Workspace(folder.parents[2], tracking_uri=between)
            for _ in range(2):
                done = sync_runs(workspace, lambda line: None)
            assert done.missing == []
            run = named(folder, between)
        held = runs_in(database, folder.name)
        assert [one for one, (stage, _) in held.items() if stage == "active"] == [run]
        assert held[run] == ("active", "FINISHED")
        assert rows_of(database, run) == rows_in_journal(folder)
        # MLflow's client before 3.18 repeats the request by itself, which makes a second run.
        repeats = retries == "1" and Version(version("mlflow")) < Version("3.18")
        assert len(held) == 1 + (fault == "double" or repeats)


def test_a_run_of_an_earlier_version_is_adopted_by_the_cursor_alone(
        server: tuple[str, Path], tmp_path: Path) -> None:
    address, database = server
    folder = new_run(tmp_path / "untagged")
    write_journal(folder)
    records = (folder / reading.FILE).read_bytes()
    (folder / reading.FILE).write_bytes(b"".join(records.splitlines(keepends=True)[:4]))
    store = store_of(tmp_path / "untagged", address)
    Mirror(store).sync(folder)
    run = named(folder, address)
    for tag in ("gan_bench.root", "gan_bench.attempt"):
        store.client.delete_tag(run, tag)
    shutil.copytree(tmp_path / "untagged", tmp_path / "lost")
    lost = tmp_path / "lost" / folder.relative_to(tmp_path / "untagged")
    (lost / cursor.FILE).unlink()
    Mirror(store).sync(lost)
    assert named(lost, address) != run
    (folder / reading.FILE).write_bytes(records)
    Mirror(store).sync(folder)
    assert named(folder, address) == run
    assert runs_in(database, folder.name) == {run: ("active", "FINISHED"),
                                              named(lost, address): ("active", "RUNNING")}
    assert rows_of(database, run) == rows_in_journal(folder)
    # From now on it is this root's.
    assert "gan_bench.root" in store.client.get_run(run).data.tags


def test_a_clone_that_shares_the_identity_keeps_the_attempts_of_the_other(
        server: tuple[str, Path], tmp_path: Path) -> None:
    """As the clone of a machine's disk may: neither journal voids what the other has begun."""
    address, database = server
    first = new_run(tmp_path / "cloned")
    write_journal(first)
    root, clone = first.parents[2], tmp_path / "clone"
    Mirror(store_of(root, address)).sync(first)
    before = named(first, address)
    shutil.copytree(root, clone)
    second = clone / first.relative_to(root)
    shared = json.loads((root / origin.FILE).read_text())["id"]
    ids = []
    for folder in (first, second, first):
        time.sleep(0.002)
        write_journal(folder)
        instance_of(clone)
        content = json.loads((clone / origin.FILE).read_text())
        (clone / origin.FILE).write_text(json.dumps({**content, "id": shared}))
        assert instance_of(folder.parents[2]) == shared
        Mirror(store_of(folder.parents[2], address)).sync(folder)
        ids.append(named(folder, address))
    finished = ("active", "FINISHED")
    assert runs_in(database, first.name) == {
        before: ("deleted", "FINISHED"), ids[0]: ("deleted", "FINISHED"), ids[1]: finished,
        ids[2]: finished}


@pytest.mark.parametrize("tags", [{}, {"run_id": "0123456789ab"}])
@pytest.mark.parametrize("again", [False, True])
def test_a_cursor_that_names_a_run_of_others_leaves_it_alone(
        server: tuple[str, Path], tmp_path: Path, tags: dict[str, str], again: bool) -> None:
    address, _ = server
    folder = new_run(tmp_path / f"stranger-{len(tags)}-{again}")
    write_journal(folder)
    store = store_of(folder.parents[2], address)
    Mirror(store).sync(folder)
    mine = named(folder, address)
    experiment = Mirror(store).open_experiment(folder.parent)
    theirs = store.client.create_run(experiment, tags=tags).info.run_id
    text = (folder / cursor.FILE).read_text()
    (folder / cursor.FILE).write_text(text.replace(mine, theirs))
    if again:
        time.sleep(0.002)
        write_journal(folder)
    else:
        with (folder / reading.FILE).open("a") as file:
            file.write((folder / reading.FILE).read_text().splitlines()[2] + "\n")
    Mirror(store).sync(folder)
    held = store.client.get_run(theirs)
    assert (held.info.lifecycle_stage, held.data.metrics) == ("active", {})
    assert held.data.tags.keys() - tags.keys() <= {"mlflow.runName"}
    assert named(folder, address) != theirs
