"""What a user deletes, renames or moves in MLflow's page is said, and comes back as the line says.

Against real stores, and with the printed commands run by a shell.
"""

from __future__ import annotations

import itertools
import os
import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from helpers.journals import new_run, write_journal
from helpers.privileges import drop_privileges, open_folder
from helpers.servers import team_server
from helpers.studies import here

from gan_bench.config.declared import Declared
from gan_bench.config.run_id import settings_digest
from gan_bench.journal import reading
from gan_bench.journal.about import ABOUT, write_about
from gan_bench.journal.layout import Workspace, run_folders
from gan_bench.journal.spec_file import read_values
from gan_bench.journal.writing import Journal
from gan_bench.tracking.background import BackgroundMirror
from gan_bench.tracking.mirror import Mirror
from gan_bench.tracking.runs import cursor, tags
from gan_bench.tracking.runs.hidden import HiddenReason, hidden_in, hidden_runs
from gan_bench.tracking.store.client import Store, open_store
from gan_bench.tracking.store.database import has_run
from gan_bench.tracking.sync import hidden_from_reports, sync_runs

ROOTS = itertools.count()


@pytest.fixture(scope="module")
def team(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a server."""
    return tmp_path_factory.mktemp("server")


@pytest.fixture(scope="module")
def server(team: Path) -> Iterator[str]:
    """The address of a server."""
    with team_server(team) as address:
        yield address


class Study:
    """Three runs of an experiment, mirrored into a store."""

    def __init__(self, root: Path, uri: str | None) -> None:
        self.workspace = Workspace(root, tracking_uri=uri)
        for seed in range(3):
            write_journal(new_run(root, seed))
        (self.home,) = (root / "runs").iterdir()
        self.name, self.folders = self.home.name, run_folders(self.home)
        assert self.sync() == (3, [], [])
        self.store: Store = open_store(self.workspace)
        self.experiment = Mirror(self.store).open_experiment(self.home)

    def sync(self, anew: bool = False) -> tuple[int, list[str], list[str]]:
        done = sync_runs(self.workspace, lambda line: None, anew=anew)
        assert done.runs == 3
        return done.brought, done.missing, done.hidden

    def run(self, folder: Path) -> str:
        found = cursor.read_cursor(folder, self.store.uri)
        assert found is not None
        return found.mlflow_run_id

    def shown(self) -> list[str]:
        experiment = self.store.client.get_experiment_by_name(self.name)
        assert experiment is not None
        runs = self.store.client.search_runs([experiment.experiment_id],
                                             "attributes.run_name != 'study'")
        return sorted(run.data.tags["run_id"] for run in runs)

    def all_shown(self) -> bool:
        return self.shown() == [folder.name for folder in self.folders]

    def report(self) -> subprocess.CompletedProcess[str]:
        return here("report", self.name, "--root", self.workspace.root, "--format", "csv",
                    "--tracking-uri", self.store.uri)


@pytest.fixture(params=["database", "server"])
def study(request: pytest.FixtureRequest, tmp_path: Path) -> Study:
    """A study in each kind of store."""
    is_server = request.param == "server"
    root = tmp_path / f"a root {next(ROOTS)}"  # the experiments of a server need names of their own
    return Study(root, request.getfixturevalue("server") if is_server else None)


def follow(line: str) -> str:
    """Run the command that a line names, and return what it prints."""
    (command,) = re.findall("`(.*?)`", line)
    programs = Path(sys.executable).parent
    clean = {key: value for key, value in os.environ.items() if not key.startswith("MLFLOW_TRACK")}
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=False,
                          env={**clean, "PATH": f"{programs}:{os.environ['PATH']}"}, cwd="/")
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_deleted_runs_are_named_and_come_back(study: Study) -> None:
    assert (study.sync(), study.report().returncode) == ((0, [], []), 0)
    study.store.client.delete_run(study.run(study.folders[1]))
    seed = read_values(study.folders[1])["seed"]
    brought, missing, hidden = study.sync()
    assert (brought, missing, len(hidden)) == (0, [], 1)
    line = hidden[0].removeprefix(f"{study.name}: ")
    assert line.startswith(f"1 run of the journals is deleted in MLflow: left out (narrow seed "
                           f"{seed}); `gan-bench sync --root '{study.workspace.root}'")
    report = study.report()
    assert (report.returncode, report.stderr) == (3, f"{line}\n")
    assert follow(line).endswith("3 runs, 1 brought up to date\n")
    assert study.all_shown()
    assert (study.sync(), study.report().returncode) == ((0, [], []), 0)


@pytest.mark.parametrize("way", ["deleted", "elsewhere"])
def test_a_hidden_run_with_new_records_comes_back_only_where_asked(study: Study, way: str) -> None:
    if way == "deleted":
        study.store.client.delete_run(study.run(study.folders[1]))
    else:
        study.store.client.rename_experiment(study.experiment, f"GAN {study.name}")
    held = study.run(study.folders[1])
    rows = len(study.store.client.get_metric_history(held, "train/d_loss"))
    book = Journal(study.folders[1])
    book.metrics(21, {"train/d_loss": 0.5})
    book.end("FINISHED")
    for _ in range(2):
        brought, missing, hidden = study.sync()
        assert (brought, missing) == (0, [])
        assert len(hidden) == 1
        assert ("1 run of the journals is deleted" if way == "deleted" else
                "3 runs of the journals are in the experiment") in hidden[0]
        assert study.run(study.folders[1]) == held
        assert len(study.store.client.get_metric_history(held, "train/d_loss")) == rows
    assert study.sync(anew=True)[1:] == ([], [])
    assert study.all_shown()
    assert len(study.store.client.get_metric_history(study.run(study.folders[1]),
                                                     "train/d_loss")) == rows + 1


def test_a_launcher_makes_no_deleted_run_anew(study: Study) -> None:
    """A run that goes on from its checkpoint, say."""
    held = study.run(study.folders[1])
    study.store.client.delete_run(held)
    for step in (21, 22):
        background = BackgroundMirror(study.workspace, study.home, True, lambda line: None)
        book = Journal(study.folders[1])
        book.metrics(step, {"train/d_loss": 0.5})
        book.end("FINISHED")
        background.request(study.folders[1])
        assert background.finish() == ""
        (line,) = background.hidden()
        assert line.startswith("1 run of the journals is deleted in MLflow: left out (narrow")
        assert "; `gan-bench sync" in line
        assert study.run(study.folders[1]) == held
        assert study.shown() == [study.folders[i].name for i in (0, 2)]
    follow(line)
    assert study.all_shown()
    history = study.store.client.get_metric_history(study.run(study.folders[1]), "train/d_loss")
    assert {21, 22} <= {row.step for row in history}


def test_a_first_sync_that_did_not_end_is_named_by_a_report(study: Study) -> None:
    """The store shows runs, but none as finished, and no cursor says that they are this root's."""
    assert study.report().returncode == 0
    for folder in study.folders:
        study.store.client.delete_tag(study.run(folder), "status")
        cursor.forget_cursor(folder, study.store.uri)
    if study.workspace.tracking_uri is None:
        assert study.report().returncode == 0  # its own store, which it brings up to date
        return
    command = f"gan-bench sync --root '{study.workspace.root}' --to {study.store.uri}"
    done = study.report()
    assert (done.returncode, done.stderr) == (
        2, f"error: MLflow shows no finished run of {study.name} yet; {study.workspace.root} has 3 "
           f"finished runs that it lacks, and `{command}` copies them\n")
    assert follow(done.stderr).startswith("3 runs, 3 brought up to date")
    assert study.report().returncode == 0


def test_several_lines_of_a_sync_are_lines(study: Study) -> None:
    for folder in study.folders[:2]:
        with (folder / reading.FILE).open("a") as file:
            file.write("{}\n")
    done = here("sync", "--root", study.workspace.root, "--to", study.store.uri)
    assert done.returncode == 3
    assert "\\n" not in done.stderr
    lines = done.stderr.splitlines()
    assert [line.partition("/journal")[0] for line in lines] == list(map(str, study.folders[:2]))


def test_a_renamed_experiment_is_named_and_its_runs_come_back(study: Study) -> None:
    study.store.client.rename_experiment(study.experiment, f"GAN {study.name}")
    brought, missing, hidden = study.sync()
    assert (brought, missing, len(hidden)) == (0, [], 1)
    assert f"3 runs of the journals are in the experiment 'GAN {study.name}' in MLflow: left out" \
        in hidden[0]
    follow(hidden[0])
    assert study.all_shown()
    assert study.sync() == (0, [], [])
    study.store.client.delete_run(study.run(study.folders[0]))
    study.store.client.delete_run(study.run(study.folders[2]))
    report = study.report()
    assert (report.returncode, report.stderr.count("2 runs of the journals are deleted")) == (3, 1)


def test_a_deleted_experiment_is_one_line_for_every_command(study: Study) -> None:
    study.store.client.delete_experiment(study.experiment)
    expected = (f"the experiment '{study.name}' was deleted in MLflow: restore it with "
                f"`MLFLOW_TRACKING_URI=")
    brought, missing, (line,) = study.sync()
    assert (brought, missing) == (0, [])
    assert line.startswith(f"{study.name}: {expected}")
    report = study.report()
    assert (report.returncode, report.stderr) == (3, f"error: {line.split(': ', 1)[1]}\n")
    # A run that is new to the store does not double the line.
    cursor.forget_cursor(study.folders[0], study.store.uri)
    assert study.sync() == (0, [], [line])
    follow(line)
    assert study.sync() == (1, [], [])  # it finds its run there
    assert study.all_shown()
    assert study.report().returncode == 0


def test_a_deleted_experiment_does_not_hold_up_training(study: Study) -> None:
    study.store.client.delete_experiment(study.experiment)
    background = BackgroundMirror(study.workspace, study.home, True, lambda line: None)
    write_journal(new_run(study.workspace.root, 7))
    background.request(new_run(study.workspace.root, 7))
    missing = background.finish()
    assert missing.startswith(f"the experiment '{study.name}' was deleted in MLflow: restore it")
    follow(missing)
    background = BackgroundMirror(study.workspace, study.home, False, lambda line: None)
    assert background.finish() == ""
    assert len(study.shown()) == 4


@pytest.mark.parametrize("trains", [False, True])
def test_a_launcher_says_what_is_hidden(study: Study, trains: bool) -> None:
    study.store.client.delete_run(study.run(study.folders[1]))
    said: list[str] = []
    for line in ("1 run of the journals is deleted in MLflow: left out (",
                 f"the experiment '{study.name}' was deleted in MLflow: restore it with"):
        background = BackgroundMirror(study.workspace, study.home, trains, said.append)
        assert background.finish() == ""
        assert [hidden.startswith(line) for hidden in background.hidden()] == [True]
        if line.startswith("1"):
            study.store.client.delete_experiment(study.experiment)
    assert len(said) == (1 if trains else 0)


def test_a_launcher_without_runs_to_train_mirrors_what_the_store_has_lost(study: Study) -> None:
    held = study.run(study.folders[1])
    study.store.client.delete_run(held)
    file = study.folders[1] / cursor.FILE
    file.write_text(file.read_text().replace(held, "0" * 32))
    for _ in range(2):
        background = BackgroundMirror(study.workspace, study.home, False, lambda line: None)
        assert (background.finish(), study.all_shown()) == ("", True)


def test_a_server_that_is_down_lacks_nothing_that_it_has_received(tmp_path: Path) -> None:
    study, down = Study(tmp_path / "root", None), "http://127.0.0.1:9"
    for folder in study.folders:
        held = cursor.read_cursor(folder, study.store.uri)
        assert held is not None
        cursor.write_cursor(folder, replace(held, uri=down))
    said: list[str] = []
    workspace = replace(study.workspace, tracking_uri=down)
    background = BackgroundMirror(workspace, study.home, False, said.append)
    assert (background.finish(), background.hidden()) == ("", [])
    (line,) = said
    assert line.startswith("MLflow cannot be asked whether it shows all results (MLflow cannot "
                           f"use {down}: ")


def test_a_run_that_the_server_has_lost_comes_back_by_itself(study: Study) -> None:
    held = study.run(study.folders[1])
    study.store.client.delete_run(held)
    file = study.folders[1] / cursor.FILE
    file.write_text(file.read_text().replace(held, "0" * 32))
    assert study.sync() == (1, [], [])
    assert study.all_shown()


def test_a_report_brings_back_a_run_that_the_server_has_lost(study: Study) -> None:
    held = study.run(study.folders[1])
    study.store.client.delete_run(held)
    file = study.folders[1] / cursor.FILE
    file.write_text(file.read_text().replace(held, "0" * 32))
    report = study.report()
    assert (report.returncode, study.all_shown()) == (0, True)


def test_a_report_without_a_run_that_is_shown_says_how_they_come_back(study: Study) -> None:
    for folder in study.folders:
        study.store.client.delete_run(study.run(folder))
    report = study.report()
    assert report.returncode == 3
    assert report.stderr.startswith(f"error: MLflow shows no run of {study.name}: 3 runs of the "
                                    f"journals are deleted in MLflow: left out (")
    follow(report.stderr)
    assert (study.report().returncode, study.all_shown()) == (0, True)


def test_runs_under_other_settings_are_no_matter_of_a_report(tmp_path: Path) -> None:
    study = Study(tmp_path / "root", None)
    study.store.client.delete_run(study.run(study.folders[1]))
    settings = settings_digest(read_values(study.folders[1]))
    for digest, lines in ((settings, 1), ("other", 0)):
        write_about(study.home, Declared(baseline="narrow", settings={"narrow": digest}))
        assert len(hidden_in(study.workspace, study.store.uri, study.name)) == lines
    assert len(study.sync()[2]) == 1


def test_a_renamed_variant_is_a_matter_of_a_report(tmp_path: Path) -> None:
    """A report goes by settings: it reads such runs under the present name."""
    study = Study(tmp_path / "root", None)
    study.store.client.delete_run(study.run(study.folders[1]))
    settings = settings_digest(read_values(study.folders[1]))
    for declared, lines in (({"slim": settings}, 1), ({"slim": "other"}, 0), ({}, 1),
                            ({"slim": settings, "narrow": "other"}, 1)):
        write_about(study.home, Declared(settings=declared))
        assert len(hidden_in(study.workspace, study.store.uri, study.name)) == lines


def test_a_margin_that_is_no_amount_hides_no_line(tmp_path: Path) -> None:
    study = Study(tmp_path / "root", None)
    about = study.home / ABOUT
    about.write_text('{"margin": "wide"}')
    assert hidden_from_reports(study.workspace, study.name) == []
    study.store.client.delete_run(study.run(study.folders[1]))
    (line,) = hidden_from_reports(study.workspace, study.name)
    assert line.startswith("1 run of the journals is deleted in MLflow")


def test_a_store_in_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    """A database with write-ahead logging, which SQLite reads there as a file without log alone."""
    study = Study(tmp_path / "root", None)
    study.store.client.delete_run(study.run(study.folders[1]))
    with open_folder() as folder:
        database = folder / "mlflow.db"
        with (closing(sqlite3.connect(study.workspace.database)) as source,
              closing(sqlite3.connect(database)) as target):
            source.backup(target)
            target.execute("pragma journal_mode = wal")
        held = cursor.read_cursor(study.folders[1], study.store.uri)
        assert held is not None
        uri = f"sqlite:///{database}"
        cursor.write_cursor(study.folders[1], replace(held, uri=uri))
        root = folder / "root"
        shutil.copytree(study.workspace.root / "runs", root / "runs")
        (copy,) = (path for path in run_folders(root / "runs" / study.name)
                   if path.name == study.folders[1].name)
        folder.chmod(0o555)
        drop_privileges()
        (hidden,) = hidden_runs([copy], uri)
        assert (hidden.folder, hidden.reason) == (copy, HiddenReason.DELETED)
        assert has_run(database, held.mlflow_run_id)
        assert not has_run(database, "0" * 32)
        assert sorted(path.name for path in folder.iterdir()) == ["mlflow.db", "root"]


def test_a_run_with_a_damaged_tag_comes_back_as_the_line_says(tmp_path: Path) -> None:
    study = Study(tmp_path / "root", None)
    run = study.run(study.folders[0])
    study.store.client.set_tag(run, "protocol.eval/fd_classifier", "not json")
    report = study.report()
    assert report.returncode == 2
    assert "delete the run there, then `gan-bench sync --anew` copies it anew" in report.stderr
    study.store.client.delete_run(run)
    assert study.sync(anew=True) == (1, [], [])
    assert study.report().returncode == 0


def copy_database(source: Path, target: Path) -> None:
    """Copy a database, even over one that a server has open."""
    with closing(sqlite3.connect(source)) as old, closing(sqlite3.connect(target)) as new:
        old.backup(new)


def losses(study: Study) -> dict[str, list[tuple[int, float]]]:
    """Return what MLflow shows of each run, and its status."""
    client, shown = study.store.client, {}
    for run in client.search_runs([study.experiment], "attributes.run_name != 'study'"):
        history = client.get_metric_history(run.info.run_id, "train/d_loss")
        shown[f"{run.data.tags['run_id']} {run.info.status}"] = [(m.step, m.value) for m in history]
    return shown


@pytest.mark.parametrize("way", ["sync", "report", "run", "run that trains"])
def test_a_store_that_was_set_back_receives_again_what_it_has_lost(
        study: Study, team: Path, tmp_path: Path, way: str) -> None:
    is_server = study.workspace.tracking_uri is not None
    database = team / "team.db" if is_server else study.workspace.database
    copy_database(database, tmp_path / "early.db")
    before = losses(study)
    book = Journal(study.folders[1])
    book.metrics(21, {"train/d_loss": 0.5})
    book.end("FINISHED")
    write_journal(new_run(study.workspace.root, 7))
    assert sync_runs(study.workspace, lambda line: None).brought == 2
    complete = losses(study)
    assert (len(complete), sum(map(len, complete.values()))) == (4, 9)
    copy_database(tmp_path / "early.db", database)
    assert losses(study) == before

    lines: list[str] = []
    if way == "sync":
        assert sync_runs(study.workspace, lines.append).brought == 2
    elif way == "report":
        report = study.report()
        assert (report.returncode, report.stderr) == (0, "")
    else:
        is_training = way == "run that trains"
        mirror = BackgroundMirror(study.workspace, study.home, is_training, lines.append)
        assert mirror.finish() == ""
    assert losses(study) == complete
    if way != "report":
        assert "MLflow has lost records of 2 runs (narrow seed " in lines[0]
        assert lines[0].endswith("as if it was set back to an older copy: they are copied again")
    lines.clear()
    assert sync_runs(study.workspace, lines.append).brought == 0
    assert (losses(study), lines) == (complete, [])


def test_a_run_that_goes_on_after_its_store_was_set_back_lacks_nothing(study: Study, team: Path,
                                                                       tmp_path: Path) -> None:
    is_server = study.workspace.tracking_uri is not None
    database = team / "team.db" if is_server else study.workspace.database
    folder = new_run(study.workspace.root, 9)
    book = Journal(folder)
    book.start({})
    for step in range(4):
        book.metrics(step, {"train/d_loss": float(step)})
        if step == 3:
            copy_database(tmp_path / "early.db", database)
        Mirror(study.store).sync(folder)
        if step == 1:
            copy_database(database, tmp_path / "early.db")
    assert losses(study)[f"{folder.name} RUNNING"] == [(step, float(step)) for step in range(4)]


def test_a_run_of_an_earlier_version_says_no_length_and_its_cursor_counts(study: Study) -> None:
    client, run = study.store.client, study.run(study.folders[0])
    client.delete_tag(run, tags.COPIED)
    assert study.sync() == (0, [], [])
    for text in ("0", "many"):
        client.set_tag(run, tags.COPIED, text)
        assert study.sync() == (1, [], [])
        assert client.get_run(run).data.tags[tags.COPIED] == \
            str((study.folders[0] / reading.FILE).stat().st_size)


def test_pictures_that_lie_in_another_root_are_said_and_missed(tmp_path: Path) -> None:
    """MLflow keeps those of all roots in the root that made the experiment."""
    shared = f"sqlite:///{tmp_path / 'shared.db'}"
    folders, spaces = [], []
    for number, owner in enumerate(("first", "second")):
        folders.append(new_run(tmp_path / owner / "root", number))
        write_journal(folders[-1])
        spaces.append(Workspace(folders[-1].parents[2], tracking_uri=shared))
    first, second = spaces
    place = first.artifacts / "study-root"
    said: list[str] = []
    assert sync_runs(first, said.append).hidden == []
    assert len(said) == 1
    background = BackgroundMirror(second, folders[1].parent, True, said.append)
    assert (background.finish(), background.hidden()) == ("", [])
    line = (f"MLflow keeps the pictures and files of the experiment 'study-root' in {place}, as "
            f"another root made the experiment: who removes that folder removes them")
    assert said[1:] == [line]
    cursor.forget_cursor(folders[1], shared)
    assert sync_runs(second, said.append).hidden == []
    assert said[-1] == line
    assert hidden_from_reports(second, "study-root") == []

    shutil.rmtree(first.artifacts)
    own = f"sqlite:///{second.database}"
    gone = (f"the pictures and files of 1 run are gone from {place}, which another root made "
            f"(narrow seed 1); `gan-bench sync --root {second.root} --to {own}` copies the runs "
            f"into the root's own store")
    assert sync_runs(second, said.append).hidden == [f"study-root: {gone}"]
    assert hidden_from_reports(second, "study-root") == [gone]
    assert follow(gone).endswith("1 runs, 1 brought up to date\n")
    assert list(second.artifacts.glob("study-root/*/artifacts/images/*.png"))
    assert hidden_from_reports(replace(second, tracking_uri=own), "study-root") == []
