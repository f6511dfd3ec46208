"""Runs under ids of an earlier version are taken over, whole and once, by the next command."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from unittest.mock import patch

import pytest
from helpers import journals
from helpers.journals import FACTS, write_journal
from helpers.studies import copy_of, here

from gan_bench.config.declared import Declared
from gan_bench.config.run_id import older_id, settings_digest, settings_under
from gan_bench.config.spec import RunSpec
from gan_bench.errors import DamagedError, UserError
from gan_bench.journal.about import write_about
from gan_bench.journal.layout import Workspace, run_folders
from gan_bench.journal.spec_file import read_spec, read_values
from gan_bench.journal.writing import Journal
from gan_bench.tracking.reader import StoredRun, read_experiment
from gan_bench.tracking.runs import cursor
from gan_bench.tracking.runs.older_ids import older_runs, take_over_older_runs, to_take_over
from gan_bench.tracking.sync import sync_runs


@pytest.fixture(autouse=True)
def _no_tracking_uri(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def under_older_id(folder: Path, **recorded: object) -> Path:
    """Give a run the id of an earlier version, as if it had been recorded otherwise."""
    values = {**json.loads((folder / "spec.json").read_text()), **recorded}
    (folder / "spec.json").write_text(json.dumps(values))
    return folder.rename(folder.with_name(older_id(values)))


def an_older_run(root: Path, seed: int = 3, **recorded: object) -> tuple[Path, RunSpec]:
    """Return the folder of an older run without a journal, and the run that it is now."""
    folder = under_older_id(journals.new_run(root, seed), **recorded)
    run = read_spec(folder)
    assert run.id != folder.name
    return folder, run


def stored(root: Path) -> list[StoredRun]:
    return read_experiment(f"sqlite:///{root / 'mlflow.db'}", f"study-{root.name}").runs


def test_a_run_is_taken_over_with_its_run_in_mlflow(tmp_path: Path) -> None:
    root = tmp_path / "root"
    folder, run = an_older_run(root)
    write_journal(folder)
    assert sync_runs(Workspace(root), lambda line: None).brought == 1
    (before,) = stored(root)
    values = read_values(folder)
    assert before.tags["run_id"] == folder.name
    assert before.tags["settings"] == settings_under(folder.name, values) != settings_digest(values)
    files = {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()}
    assert take_over_older_runs((run,), root) == 1
    assert [each.name for each in run_folders(folder.parent)] == [run.id]
    present = run.folder(root)
    assert {name: (present / name).read_bytes() for name in files if name != cursor.FILE} == {
        name: content for name, content in files.items() if name != cursor.FILE}
    assert take_over_older_runs((run,), root) == 0
    done = sync_runs(Workspace(root), lambda line: None)
    assert (done.runs, done.brought, done.missing, done.hidden) == (1, 1, [], [])
    (after,) = stored(root)
    assert (after.id, after.tags["run_id"], after.tags["settings"]) == (
        before.id, run.id, settings_digest(values))
    assert [*after.values] == [*before.values]
    assert sync_runs(Workspace(root), lambda line: None).brought == 0


def test_a_report_knows_older_runs_until_they_are_taken_over(tmp_path: Path) -> None:
    """An experiment's declaration of then holds their settings of then."""
    root = tmp_path / "root"
    folder, _ = an_older_run(root)
    write_journal(folder)
    settings = settings_under(folder.name, read_values(folder))
    write_about(folder.parent, Declared(baseline="narrow", variants=("narrow",),
                                        settings={"narrow": settings}))
    sync_runs(Workspace(root), lambda line: None)
    with_old_cursor = json.loads((folder / cursor.FILE).read_text())
    with_old_cursor["mlflow.db"].pop("run_id")
    (folder / cursor.FILE).write_text(json.dumps(with_old_cursor))
    done = here("report", folder.parent.name, "--root", root, "--format", "csv")
    assert done.returncode == 0, done.stderr
    assert "left out" not in done.stdout + done.stderr


@pytest.mark.parametrize("fault", ["before the rename", "after it"])
def test_a_kill_in_between_loses_and_doubles_nothing(tmp_path: Path, fault: str) -> None:
    root = tmp_path / "root"
    folder, run = an_older_run(root)
    write_journal(folder)
    sync_runs(Workspace(root), lambda line: None)
    (before,) = stored(root)
    with_old_cursor = json.loads((folder / cursor.FILE).read_text())
    for name in "run_id", "variant":
        with_old_cursor["mlflow.db"].pop(name)
    (folder / cursor.FILE).write_text(json.dumps(with_old_cursor))
    if fault == "before the rename":
        with patch.object(Path, "rename", side_effect=KeyboardInterrupt), pytest.raises(
                KeyboardInterrupt):
            take_over_older_runs((run,), root)
        assert folder.exists()
    assert take_over_older_runs((run,), root) == 1
    done = sync_runs(Workspace(root), lambda line: None)
    assert (done.runs, done.missing, done.hidden) == (1, [], [])
    assert [(each.id, each.tags["run_id"]) for each in stored(root)] == [(before.id, run.id)]


def test_of_several_the_one_that_got_furthest_is_taken_over(tmp_path: Path) -> None:
    root = tmp_path / "root"
    far, run = an_older_run(root, log_every=7)
    near, same = an_older_run(root, log_every=8)
    done, last = an_older_run(root, log_every=9)
    other, _ = an_older_run(root, seed=4)  # whose seed is not planned
    assert run.id == same.id == last.id
    for folder, steps in ((far, 19), (near, 5), (other, 3)):
        book = Journal(folder)
        book.start(FACTS)
        book.metrics(steps, {"train/d_loss": 1.0})
        book.end("KILLED", "stopped")
    home = far.parent
    runs = older_runs(home)
    assert {each.folder for each in runs} == {far, near, other}
    assert to_take_over(runs, [run], root)[run.id].folder == far
    write_journal(done)  # a finished one counts before all others
    assert to_take_over(older_runs(home), [run], root)[run.id].folder == done
    assert take_over_older_runs((run,), root) == 1
    assert {each.name for each in run_folders(home)} == {run.id, far.name, near.name, other.name}
    assert (run.folder(root) / "final.safetensors").exists()
    assert take_over_older_runs((run,), root) == 0
    assert to_take_over(older_runs(home), [run], root) == {}


def test_what_has_begun_under_the_present_id_stays(tmp_path: Path) -> None:
    root = tmp_path / "root"
    folder, run = an_older_run(root)
    write_journal(folder)
    run.write(root)
    book = Journal(run.folder(root))
    book.start(FACTS)
    book.close()
    before = (run.folder(root) / "journal.jsonl").read_bytes()
    assert take_over_older_runs((run,), root) == 0
    assert (run.folder(root) / "journal.jsonl").read_bytes() == before
    assert folder.exists()


@pytest.mark.parametrize("extra", [None, "mine.txt"])
def test_an_unbegun_folder_makes_way_unless_the_user_has_files_there(tmp_path: Path,
                                                                     extra: str | None) -> None:
    root = tmp_path / "root"
    folder, run = an_older_run(root)
    write_journal(folder)
    run.write(root)
    (run.folder(root) / "log.txt").write_text("a start that was refused")
    if extra is None:
        assert take_over_older_runs((run,), root) == 1
        assert not folder.exists()
        return
    (run.folder(root) / extra).write_text("mine")
    with pytest.raises(UserError, match=r"cannot be renamed: Directory not empty; move it away"):
        take_over_older_runs((run,), root)
    assert (run.folder(root) / extra).read_text() == "mine"
    assert (folder / "journal.jsonl").exists()


def test_a_spec_that_was_edited_is_no_older_run(tmp_path: Path) -> None:
    """It would be taken for a run with the edited settings."""
    root = tmp_path / "root"
    folder, run = an_older_run(root)
    write_journal(folder)
    values = json.loads((folder / "spec.json").read_text())
    (folder / "spec.json").write_text(json.dumps({**values, "batch_size": 8}))
    with pytest.raises(DamagedError, match="and not to this folder"):
        read_values(folder)
    assert older_runs(folder.parent) == []
    assert take_over_older_runs((run, read_spec(folder)), root) == 0


def test_a_study_of_an_earlier_version_goes_on(studies: Path, tmp_path: Path) -> None:
    """Plan names the runs, the report of the file says what to do, and `run` trains nothing."""
    root, file = copy_of(studies, tmp_path / "root"), studies.parent / "losses.yaml"
    home = root / "runs" / "losses"
    older = {folder.name: under_older_id(folder).name for folder in run_folders(home)}
    with closing(sqlite3.connect(root / "mlflow.db")) as database, database:
        for present, name in older.items():
            values = read_values(home / name)
            for key, value in ("settings", settings_under(name, values)), ("run_id", name):
                database.execute(
                    "update tags set value = ? where key = ? and run_uuid in (select run_uuid from "
                    "tags where key = 'run_id' and value = ?)", [value, key, present])
    for cursors in home.glob("*/mirror.json"):
        (entry,) = json.loads(cursors.read_text()).values()
        entry = {k: v for k, v in entry.items() if k not in ("run_id", "variant")}
        cursors.write_text(json.dumps({f"sqlite:///{root / 'mlflow.db'}": entry}))
    journal = {name: (home / name / "journal.jsonl").read_bytes() for name in older.values()}
    copy = Path(shutil.copytree(home / older[min(older)], home / "copy"))
    (copy / "mirror.json").unlink()
    (copy / "final.safetensors").unlink()
    same = under_older_id(copy, log_every=9)  # the same run, and less of it
    plan = here("plan", file, "--root", root).stdout
    assert plan.count("FINISHED") == 13
    assert "1 run under ids of an earlier version, which stay: they are the same runs" in plan
    assert same.name in plan
    assert "6 runs under ids of an earlier version, which `gan-bench run` takes over" in plan
    assert all(name in plan for pair in older.items() for name in pair)
    assert "other run" not in plan
    refused = here("report", file, "--root", root, "--format", "csv")
    assert refused.returncode == 2
    assert refused.stderr.endswith(f"left out: 6 runs under ids of an earlier version; `gan-bench "
                                   f"run {file} --root {root}` takes them over\n")
    ran = here("run", file, "--root", root)
    assert ran.returncode == 0, ran.stderr
    assert "6 runs under ids of an earlier version taken over" in ran.stdout
    assert "6 of 6 runs are done" in ran.stdout
    assert {folder.name for folder in run_folders(home)} == {*older, same.name}
    assert "left out" not in ran.stdout
    assert {name: (home / present / "journal.jsonl").read_bytes()
            for present, name in older.items()} == journal
    runs = read_experiment(f"sqlite:///{root / 'mlflow.db'}", "losses").runs
    assert {run.tags["run_id"] for run in runs} == {*older, same.name}
    assert len(runs) == 7
    report = here("report", file, "--root", root, "--format", "csv")
    assert (report.returncode, "earlier version" in report.stdout + report.stderr) == (0, False)
    again = here("run", file, "--root", root).stdout
    assert "taken over" not in again
    assert "left out" not in again
    assert len([name for name in os.listdir(home) if name.startswith("mirror.")]) == 1
    assert len([name for name in os.listdir(root) if name.startswith("preparation.")]) == 1
