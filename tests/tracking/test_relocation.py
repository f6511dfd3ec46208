"""A root that was moved or copied works at the next command, whatever else is in its database."""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from unittest.mock import patch

import pytest
from helpers.journals import new_run, write_journal
from helpers.studies import here

from gan_bench.cli.results.ui import ui_command
from gan_bench.errors import UserError
from gan_bench.journal.layout import Workspace, run_folders
from gan_bench.tracking.runs import cursor
from gan_bench.tracking.runs.cursor import mirrored
from gan_bench.tracking.runs.origin import instance_of
from gan_bench.tracking.store import relocation
from gan_bench.tracking.store.artifacts import pictures_of_database
from gan_bench.tracking.store.client import open_store
from gan_bench.tracking.sync import sync_runs, update_store


@pytest.fixture(autouse=True)
def _no_tracking_uri(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A root of two runs, in its own database."""
    root = tmp_path / "a" / "root"
    for seed in (0, 1):
        write_journal(new_run(root, seed))
    assert sync_runs(Workspace(root), lambda line: None).brought == 2
    return root


def addresses(root: Path) -> list[tuple[str, str]]:
    """Return experiment and artifact address of each run, and of each experiment."""
    with closing(sqlite3.connect(root / "mlflow.db")) as database:
        return database.execute(
            "select e.name, r.artifact_uri from runs r join experiments e on e.experiment_id = "
            "r.experiment_id union all select name, artifact_location from experiments "
            "where experiment_id != 0").fetchall()


def move(old: Path, how: str) -> Path:
    from mlflow.tracking._tracking_service import utils

    utils._artifact_repos_cache.clear()  # of this process; a root moves between two processes
    new = old.parents[1] / "b" / "another name"
    new.parent.mkdir()
    if how == "moved":
        old.rename(new)
    else:
        shutil.copytree(old, new)
        if how == "copied away":
            shutil.rmtree(old)
    return new


def with_old_cursors(root: Path) -> None:
    """Write the cursor files as an earlier version did: by the address of the database."""
    for file in root.glob(f"runs/*/*/{cursor.FILE}"):
        (entry,) = json.loads(file.read_text()).values()
        uri = f"sqlite:///{root / 'mlflow.db'}"
        names = {key: value for key, value in entry.items() if key not in ("run_id", "variant")}
        file.write_text(json.dumps({uri: {**names, "uri": uri}}))


@pytest.mark.parametrize("how", ["moved", "copied", "copied away"])
@pytest.mark.parametrize("cursors", ["present", "of an earlier version"])
def test_a_root_goes_on_at_another_place(old: Path, how: str, cursors: str) -> None:
    if cursors != "present":
        with_old_cursors(old)
    new = move(old, how)
    before = addresses(old) if how == "copied" else []
    workspace = Workspace(new)
    ui_command(workspace, 5000)
    home = (new / "artifacts").as_uri()
    assert len(addresses(new)) == 3
    assert all(location.startswith(f"{home}/{name}") for name, location in addresses(new))
    folders = run_folders(next((new / "runs").iterdir()))
    uri = f"sqlite:///{new / 'mlflow.db'}"
    assert [mirrored(folder, uri) for folder in folders] == [cursors == "present"] * 2
    with closing(sqlite3.connect(new / "mlflow.db")) as database:
        left = relocation.outward_addresses(database, new)
    assert (left.experiments, left.runs, left.strangers) == ([], [], [])
    instance = instance_of(new)  # it claims what it goes on with
    write_journal(folder := new_run(new, 2))
    renamed = folder.parents[1] / folders[0].parent.name / folder.name
    spec = json.loads((folder / "spec.json").read_text())
    folder.rename(renamed)  # into the same study
    (renamed / "spec.json").write_text(json.dumps({**spec, "experiment": renamed.parent.name}))
    folder.parent.rmdir()
    done = sync_runs(workspace, lambda line: None)
    assert (done.runs, done.missing, done.hidden) == (3, [], [])
    assert done.brought == (1 if cursors == "present" else 3)
    store = open_store(workspace)
    runs = store.client.search_runs([e.experiment_id for e in store.client.search_experiments()])
    assert sorted(run.data.tags["seed"] for run in runs) == ["0", "1", "2"]
    for run in runs:
        assert str(run.info.artifact_uri).startswith(home)
        listed = {item.path for item in store.client.list_artifacts(run.info.run_id)}
        assert {"spec.json", "images"} <= listed
    roots = {run.data.tags["gan_bench.root"] for run in runs}
    assert instance in roots
    assert (addresses(old) if how == "copied" else []) == before
    assert old.exists() == (how == "copied")


def test_a_report_follows_a_moved_root_and_reads_a_copy_that_cannot_be_written(
        old: Path, tmp_path: Path) -> None:
    new = move(old, "moved")
    experiment = next((new / "runs").iterdir()).name
    uri = f"sqlite:///{new / 'mlflow.db'}"
    runs = sorted(cursor.named_runs(new / "runs" / experiment, uri))
    before = addresses(new)
    read = {(run, name): content() for run, name, content in pictures_of_database(uri, runs)}
    assert len(read) == 2 * 2 * 2  # runs, steps, and the thumbnail of each
    assert addresses(new) == before  # that only reads
    assert update_store(Workspace(new), experiment) == []
    assert addresses(new) != before
    after = {(run, name): content() for run, name, content in pictures_of_database(uri, runs)}
    assert after == read
    assert {len(content) > 50 for content in read.values()} == {True}


def test_a_kill_in_between_is_gone_on_with(old: Path) -> None:
    with_old_cursors(old)
    new = move(old, "moved")
    take_over = cursor.take_over
    taken: list[Path] = []

    def die(folder: Path, uri: str) -> None:
        if taken:
            raise KeyboardInterrupt
        taken.append(folder)
        take_over(folder, uri)

    before = addresses(new)
    with patch.object(relocation.cursors, "take_over", die), pytest.raises(KeyboardInterrupt):
        relocation.follow_root(new / "mlflow.db")
    assert (addresses(new), len(taken)) == (before, 1)
    done = sync_runs(Workspace(new), lambda line: None)
    assert (done.runs, done.missing, done.hidden) == (2, [], [])
    assert len(addresses(new)) == 3
    assert all(location.startswith((new / "artifacts").as_uri())
               for _, location in addresses(new))


def test_runs_of_another_root_keep_their_addresses(old: Path, tmp_path: Path) -> None:
    """It keeps its runs in this root's database, some with artifacts of its own."""
    other = tmp_path / "other"
    shared = f"sqlite:///{old / 'mlflow.db'}"
    write_journal(new_run(other, 5))
    assert sync_runs(Workspace(other, tracking_uri=shared), lambda line: None).brought == 1
    shutil.copytree(next((other / "runs").iterdir()), old / "runs" / f"study-{other.name}")
    shutil.rmtree(old / "runs" / f"study-{other.name}" / run_folders(
        next((other / "runs").iterdir()))[0].name)
    outside = f"{(other / 'artifacts').as_uri()}/study-{other.name}"
    theirs = [each for each in addresses(old) if each[1].startswith(outside)]
    assert len(theirs) == 2
    with pytest.raises(UserError, match=r"the artifacts of 'study-other' belong to .*/other/artif"):
        open_store(Workspace(old))  # whose experiment it is cannot be known
    shutil.rmtree(old / "runs" / f"study-{other.name}")
    new = move(old, "moved")
    open_store(Workspace(new))
    assert [each for each in addresses(new) if each[1].startswith(outside)] == theirs
    assert len(addresses(new)) == 5
    assert all(each[1].startswith((new / "artifacts").as_uri())
               for each in addresses(new) if each not in theirs)


def test_addresses_of_another_form_are_refused_and_stay(old: Path) -> None:
    with closing(sqlite3.connect(old / "mlflow.db")) as database, database:
        database.execute("update runs set artifact_uri = 'file:///gone/artifacts/x/y/artifacts'")
    before = addresses(old)
    with pytest.raises(UserError, match=r"artifacts of its run \w+ belong to file:///gone/.*; "
                                        r"move mlflow\.db\* away"):
        open_store(Workspace(old))
    assert addresses(old) == before


def test_a_study_goes_on_at_another_place_in_every_command(studies: Path, tmp_path: Path,
                                                           monkeypatch: pytest.MonkeyPatch,
                                                           ) -> None:
    """By its relative path too, from a folder beside it; nothing is trained or doubled."""
    first, root = tmp_path / "first", tmp_path / "copy"
    shutil.copytree(studies, first)
    taken_over = here("report", "losses", "--root", first, "--format", "csv")
    assert taken_over.returncode == 0, taken_over.stderr
    shutil.copytree(first, root)
    journals = {file: file.read_bytes() for file in root.glob("runs/*/*/journal.jsonl")}
    shutil.rmtree(first)
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    report = here("report", "losses", "--root", "../copy", "--format", "html")
    assert report.returncode == 0, report.stderr
    page = (root / "reports" / "losses" / "report.html").read_text()
    assert len(re.findall("data:image/webp", page)) > 2
    ran = here("run", studies.parent / "losses.yaml", "--root", "../copy")
    assert ran.returncode == 0, ran.stderr
    assert "6 of 6 runs are done" in ran.stdout
    synced = here("sync", "--root", "../copy")
    assert synced.returncode == 0
    assert synced.stdout == f"{len(journals)} runs, 0 brought up to date\n"
    assert {file: file.read_bytes() for file in journals} == journals
    with closing(sqlite3.connect(root / "mlflow.db")) as database:
        (count,) = database.execute("select count(*) from runs where lifecycle_stage = 'active' "
                                    "and name != 'study'").fetchone()
    assert count == len(journals)
    assert str(first) not in "".join(location for _, location in addresses(root))
