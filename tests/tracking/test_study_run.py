"""The study run: one per experiment and root, found again, and no run of the grid anywhere."""

from __future__ import annotations

import io
import json
import math
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from helpers.journals import new_run, write_journal
from helpers.servers import team_server

from gan_bench import load_results
from gan_bench.config.declared import Declared, FinalMeasurement
from gan_bench.journal.about import write_about
from gan_bench.journal.layout import Workspace
from gan_bench.tracking.mirror import Mirror
from gan_bench.tracking.pages import study_run
from gan_bench.tracking.pages.study_run import FILE, NAME, TABLE, StudySummary, show_study
from gan_bench.tracking.runs.tags import NOTE, STUDY
from gan_bench.tracking.store.client import open_store
from gan_bench.tracking.sync import sync_runs

SUMMARY = StudySummary("**Which?**", ("variant", "mean"), (("a", 1.5), ("b", math.nan)),
                       {"fd.a": "better", "fd.b": "worse"})


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with team_server(tmp_path_factory.mktemp("server")) as address:
        yield address


@pytest.fixture(params=["database", "server"])
def workspace(request: pytest.FixtureRequest, tmp_path: Path) -> Workspace:
    """A root with a mirrored run, and its store."""
    root = tmp_path / "root"
    uri = request.getfixturevalue("server") if request.param == "server" else None
    workspace = Workspace(root, tracking_uri=uri)
    folder = new_run(root)
    write_about(folder.parent, Declared(final=FinalMeasurement(
        scores=("fd_classifier",), samples=2000)))
    write_journal(folder)
    name = f"study-{tmp_path.name}"  # the experiments of a server need names of their own
    folder.parent.rename(root / "runs" / name)
    for file in root.glob("runs/*/*/spec.json"):
        file.write_text(json.dumps({**json.loads(file.read_text()), "experiment": name}))
    assert sync_runs(workspace, print).missing == []
    return workspace


def name_of(workspace: Workspace) -> str:
    (home,) = (workspace.root / "runs").iterdir()
    return home.name


def studies(workspace: Workspace, *, deleted: bool = False) -> list[Any]:
    """Return the study runs of the experiment in MLflow."""
    from mlflow.entities import ViewType

    client = open_store(workspace).client
    experiment = client.get_experiment_by_name(name_of(workspace))
    assert experiment is not None
    view = ViewType.ALL if deleted else ViewType.ACTIVE_ONLY
    return [run for run in client.search_runs([experiment.experiment_id], run_view_type=view)
            if STUDY in run.data.tags]


def artifact(workspace: Workspace, run: Any, path: str, to: Path) -> str:
    to.mkdir(exist_ok=True)
    client = open_store(workspace).client
    return Path(client.download_artifacts(run.info.run_id, path, str(to))).read_text()


def test_the_run_shows_table_verdicts_note_and_report(workspace: Workspace, tmp_path: Path,
                                                      ) -> None:
    page = tmp_path / "report.html"
    page.write_text("<p>the page")
    assert show_study(workspace, name_of(workspace), SUMMARY, {"report.html": page}) == ""
    (run,) = studies(workspace)
    assert (run.info.run_name, run.info.status) == (NAME, "FINISHED")
    tags = run.data.tags
    assert (tags["verdict.fd.a"], tags["verdict.fd.b"], tags[NOTE]) == (
        "better", "worse", "**Which?**")
    assert json.loads(artifact(workspace, run, TABLE, tmp_path / "to")) == {
        "columns": ["variant", "mean"], "data": [["a", 1.5], ["b", None]]}
    assert json.loads(tags["mlflow.loggedArtifacts"]) == [{"path": TABLE, "type": "table"}]
    assert artifact(workspace, run, "report/report.html", tmp_path / "to") == "<p>the page"
    client = open_store(workspace).client
    text = artifact(workspace, run, TABLE, tmp_path / "again")
    table = pd.read_json(io.StringIO(text), orient="split")  # as `MlflowClient.load_table` reads it
    assert table["variant"].tolist() == ["a", "b"]
    experiment = client.get_experiment(run.info.experiment_id)
    assert experiment.tags[NOTE] == "**Which?**"


def test_variants_of_a_grid_have_verdicts(workspace: Workspace) -> None:
    """MLflow refuses their names as keys of tags."""
    verdicts = {"fd.lr=0.1": "better", "fd.r1+r2": "worse", "fd.r1*r2": "baseline",
                "fd./a//..": "no verdict", f"fd.{'x' * 300}": "worse"}
    assert show_study(workspace, name_of(workspace), replace(SUMMARY, verdicts=verdicts)) == ""
    (run,) = studies(workspace)
    shown = {key: value for key, value in run.data.tags.items() if key.startswith("verdict.")}
    assert sorted(shown.values()) == sorted(verdicts.values())
    assert shown["verdict.fd.lr_0.1"] == "better"
    assert shown["verdict.fd.r1_r2"] == "worse"
    assert max(map(len, shown)) == 250


def test_a_repetition_writes_nothing_and_a_change_replaces(workspace: Workspace, tmp_path: Path,
                                                           monkeypatch: pytest.MonkeyPatch,
                                                           ) -> None:
    name, page = name_of(workspace), tmp_path / "report.html"
    page.write_text("first")
    assert show_study(workspace, name, SUMMARY, {"report.html": page, "figures/a.png": page}) == ""
    with monkeypatch.context() as patch:
        patch.setattr(study_run, "open_store", lambda workspace: pytest.fail("it asks the store"))
        assert show_study(workspace, name, SUMMARY, {
            "report.html": page, "figures/a.png": page}) == ""
        assert show_study(workspace, name, SUMMARY) == ""  # the report stays
    changed = replace(SUMMARY, verdicts={"fd.a": "worse"})
    assert show_study(workspace, name, changed) == ""
    (run,) = studies(workspace)
    verdicts = {key: value for key, value in run.data.tags.items() if key.startswith("verdict.")}
    assert verdicts == {"verdict.fd.a": "worse"}
    assert artifact(workspace, run, "report/report.html", tmp_path / "to") == "first"
    assert run.data.tags["report"].startswith("older than the table: `gan-bench report ")
    page.write_text("second")
    assert show_study(workspace, name, changed, {"report.html": page}) == ""
    (run,) = studies(workspace)
    assert artifact(workspace, run, "report/report.html", tmp_path / "new") == "second"
    assert run.data.tags["report"] == "of the same runs as the table"
    assert json.loads(artifact(workspace, run, TABLE, tmp_path / "to"))["data"][0] == ["a", 1.5]


def test_it_is_no_run_of_the_grid(workspace: Workspace) -> None:
    name = name_of(workspace)
    before = load_results(name, workspace.tracking_uri, workspace.root)
    assert show_study(workspace, name, SUMMARY) == ""
    after = load_results(name, workspace.tracking_uri, workspace.root)
    assert list(after.runs.index) == list(before.runs.index)
    assert after.notes == before.notes
    done = sync_runs(workspace, print)
    assert (done.runs, done.brought, done.missing, done.hidden) == (1, 0, [], [])


@pytest.mark.parametrize("lost", ["file", "entry"])
def test_it_is_found_again_by_its_origin(workspace: Workspace, lost: str) -> None:
    name = name_of(workspace)
    assert show_study(workspace, name, SUMMARY) == ""
    (first,) = studies(workspace)
    file = workspace.root / "runs" / name / FILE
    if lost == "file":
        file.unlink()
    else:
        file.write_text(json.dumps({"mlflow.db": "no cursor", "other": 3}))
    assert show_study(workspace, name, SUMMARY) == ""
    assert [run.info.run_id for run in studies(workspace)] == [first.info.run_id]


def test_one_that_was_deleted_in_mlflow_stays_deleted(workspace: Workspace) -> None:
    name = name_of(workspace)
    assert show_study(workspace, name, SUMMARY) == ""
    (run,) = studies(workspace)
    open_store(workspace).client.delete_run(run.info.run_id)
    assert show_study(workspace, name, replace(SUMMARY, verdicts={})) == ""
    assert studies(workspace) == []
    assert [run.info.run_id for run in studies(workspace, deleted=True)] == [run.info.run_id]


def test_two_roots_have_one_each(workspace: Workspace, tmp_path: Path) -> None:
    name = name_of(workspace)
    assert show_study(workspace, name, SUMMARY) == ""
    uri = workspace.tracking_uri or f"sqlite:///{workspace.database}"
    other = Workspace(tmp_path / "other", tracking_uri=uri)
    shutil.copytree(workspace.root / "runs", other.root / "runs")
    assert sync_runs(other, print).missing == []
    theirs = replace(SUMMARY, verdicts={"fd.a": "worse"})
    for _ in range(2):
        assert show_study(other, name, theirs) == ""
    assert sorted(run.data.tags["verdict.fd.a"] for run in studies(workspace)) == [
        "better", "worse"]


def test_a_store_without_runs_of_the_root_is_left_alone(workspace: Workspace, tmp_path: Path,
                                                        ) -> None:
    foreign = Workspace(workspace.root, tracking_uri=f"sqlite:///{tmp_path / 'foreign.db'}")
    assert show_study(foreign, name_of(workspace), SUMMARY) == ""
    assert not (tmp_path / "foreign.db").exists()
    assert show_study(workspace, "no-such-study", SUMMARY) == ""
    assert studies(workspace) == []


def test_of_two_that_were_created_at_once_one_stays(workspace: Workspace,
                                                    monkeypatch: pytest.MonkeyPatch) -> None:
    name = name_of(workspace)
    assert show_study(workspace, name, SUMMARY) == ""
    (first,) = studies(workspace)
    (workspace.root / "runs" / name / FILE).unlink()
    find, calls = study_run._Study._find, []

    def late(self: Any, *arguments: Any) -> Any:  # the first look comes before the other's run
        calls.append(arguments)
        return None if len(calls) == 1 else find(self, *arguments)

    monkeypatch.setattr(study_run._Study, "_find", late)
    assert show_study(workspace, name, SUMMARY) == ""
    assert len(calls) == 2
    assert [run.info.run_id for run in studies(workspace)] == [first.info.run_id]


def test_a_store_that_fails_is_a_reason(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "root")
    folder = new_run(workspace.root)
    write_journal(folder)
    Mirror(open_store(workspace)).sync(folder)
    with closing(sqlite3.connect(workspace.database)) as database, database:
        database.execute("drop table runs")
    why = show_study(workspace, folder.parent.name, SUMMARY)
    assert "no such table: runs" in why
    assert "\n" not in why


def test_a_copied_root_takes_its_study_run_along(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "root")
    folder = new_run(workspace.root)
    write_journal(folder)
    assert sync_runs(workspace, print).missing == []
    name = folder.parent.name
    assert show_study(workspace, name, SUMMARY) == ""
    (run,) = studies(workspace)
    copy = Workspace(tmp_path / "copy")
    shutil.copytree(workspace.root, copy.root)
    changed = replace(SUMMARY, verdicts={"fd.a": "worse"})
    assert show_study(copy, name, changed) == ""
    (copied,) = studies(copy)
    assert copied.info.run_id == run.info.run_id
    assert copied.info.artifact_uri.startswith(copy.artifacts.as_uri())
    assert copied.data.tags["verdict.fd.a"] == "worse"
    (still,) = studies(workspace)
    assert still.data.tags["verdict.fd.a"] == "better"
