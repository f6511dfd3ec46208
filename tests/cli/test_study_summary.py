"""What MLflow's study run shows, and that `run` and `report` keep it up to date."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from helpers.studies import copy_of, here

from gan_bench.cli.results.study_summary import report_files, study_summary
from gan_bench.compare.ended import RunResult
from gan_bench.compare.rows import summarise
from gan_bench.config.declared import Declared, FinalMeasurement
from gan_bench.journal.layout import Workspace
from gan_bench.journal.schema import Status
from gan_bench.tracking.pages import study_run

DECLARED = Declared(question="Which?", baseline="a", variants=("a", "b"), command="gan-bench run x",
                    final=FinalMeasurement(scores=("d_accuracy", "fd_classifier"), samples=9))


def rows_of(*results: RunResult) -> Any:
    return summarise(results, DECLARED)


def result(variant: str, seed: int, fd: float) -> RunResult:
    return RunResult(variant, seed, Status.FINISHED, {"d_accuracy": 0.5, "fd_classifier": fd})


def test_the_summary_leads_with_the_score_that_decides(tmp_path: Path) -> None:
    rows = rows_of(*(result(variant, seed, value + seed / 100) for variant, value in
                     (("a", 5.0), ("b", 2.0)) for seed in range(5)))
    summary = study_summary(rows, DECLARED, "mine", Workspace(tmp_path))
    assert summary is not None
    table = pd.DataFrame(summary.rows, columns=summary.columns)
    assert table["score"].tolist() == ["fd_classifier"] * 2 + ["d_accuracy"] * 2
    assert table["variant"].tolist() == ["a", "b"] * 2
    assert table["mean"].tolist()[:2] == pytest.approx([5.02, 2.02])
    assert table["verdict"].tolist() == ["baseline", "better", "baseline", "no verdict"]
    assert summary.verdicts == {
        "fd_classifier.a": "baseline", "fd_classifier.b": "better", "d_accuracy.a": "baseline",
        "d_accuracy.b": "no verdict"}
    lines = summary.description.splitlines()
    assert lines[0] == "Which?"
    assert "By fd_classifier (lower is better):" in lines
    assert any(line.startswith("- b is better than a: ") for line in lines)
    assert f"`gan-bench report mine --root {tmp_path}`" in summary.description
    assert "gan-bench run x" in lines
    assert "d_accuracy" not in summary.description


def test_labels_stand_in_the_sentences_and_beside_the_names_of_the_table(tmp_path: Path) -> None:
    rows = rows_of(*(result(variant, seed, value + seed / 100) for variant, value in
                     (("a", 5.0), ("b", 2.0)) for seed in range(5)))
    plain = study_summary(rows, DECLARED, "mine", Workspace(tmp_path))
    labelled = DECLARED.with_changes(labels={"b": "B (ours)", "fd_classifier": "FD"})
    summary = study_summary(rows, labelled, "mine", Workspace(tmp_path))
    assert plain is not None
    assert summary is not None
    table = pd.DataFrame(summary.rows, columns=summary.columns)
    assert table["variant label"].tolist() == ["a", "B (ours)"] * 2
    assert table["score label"].tolist() == ["FD", "FD", "d_accuracy", "d_accuracy"]
    both = table.drop(columns=["variant label", "score label"])
    pd.testing.assert_frame_equal(both, pd.DataFrame(plain.rows, columns=plain.columns))
    assert summary.verdicts == plain.verdicts
    assert "By FD (lower is better):" in summary.description
    assert "- B (ours) is better than a: " in summary.description
    only = DECLARED.with_changes(labels={"a": "A"})
    summary = study_summary(rows, only, "mine", Workspace(tmp_path))
    assert summary is not None
    assert set(summary.columns) - set(plain.columns) == {"variant label"}
    assert "- b is better than A: " in summary.description


def test_without_a_score_there_is_nothing_to_show(tmp_path: Path) -> None:
    rows = rows_of(RunResult("a", 0, Status.FINISHED, {}))
    assert study_summary(rows, DECLARED, "mine", Workspace(tmp_path)) is None


def test_the_study_holds_the_page_and_the_pictures(tmp_path: Path) -> None:
    names = "report.html", "figures/a.pdf", "figures/a.png", "summary.csv", "table.tex"
    files = [tmp_path / name for name in names]
    assert report_files(files) == {"report.html": files[0], "figures/a.png": files[2]}
    assert report_files(files[3:]) is None


def shown(root: Path) -> tuple[dict[str, str], set[str]]:
    """Return tags and artifacts of the one study run of `losses`."""
    with closing(sqlite3.connect(root / "mlflow.db")) as database:
        ((run, place),) = database.execute(
            "select r.run_uuid, r.artifact_uri from runs r join tags t on t.run_uuid = r.run_uuid "
            "and t.key = 'gan_bench.study' and t.value = 'losses' where r.lifecycle_stage = "
            "'active'").fetchall()
        tags = dict(database.execute("select key, value from tags where run_uuid = ?", (run,)))
    home = Path(place.removeprefix("file://"))
    return tags, {file.relative_to(home).as_posix() for file in home.rglob("*") if file.is_file()}


def test_run_and_report_keep_the_study_run_up_to_date(studies: Path, tmp_path: Path,
                                                      monkeypatch: pytest.MonkeyPatch) -> None:
    root, file = copy_of(studies, tmp_path / "root"), studies.parent / "losses.yaml"
    (root / "runs" / "losses" / study_run.FILE).unlink()
    with closing(sqlite3.connect(root / "mlflow.db")) as database, database:
        database.execute("update runs set lifecycle_stage = 'deleted' where name = 'study'")
    for _ in range(2):
        done = here("run", file, "--root", root)
        assert done.returncode == 0, done.stderr
        tags, artifacts = shown(root)
        assert artifacts == {"summary.json"}
        assert tags["verdict.fd_random.plain"] == "baseline"
    choice = here("report", "losses", "--root", root, "--format", "html", "--baseline", "sat")
    assert choice.returncode == 0, choice.stderr
    assert shown(root) == (tags, artifacts)  # it is not the study's own comparison
    for _ in range(2):
        done = here("report", "losses", "--root", root, "--format", "html,figures")
        assert (done.returncode, "MLflow" in done.stderr) == (0, False), done.stderr
        tags, artifacts = shown(root)
        assert "report/report.html" in artifacts
        assert any(name.startswith("report/figures/") for name in artifacts)
        assert not any(name.endswith(".pdf") for name in artifacts)
    monkeypatch.setattr(study_run, "open_store", lambda workspace: pytest.fail("nothing is new"))
    assert here("run", file, "--root", root).returncode == 0
    assert shown(root) == (tags, artifacts)


def test_a_study_that_mlflow_does_not_take_is_status_3(studies: Path, tmp_path: Path,
                                                       monkeypatch: pytest.MonkeyPatch) -> None:
    root, file = copy_of(studies, tmp_path / "root"), studies.parent / "losses.yaml"
    assert here("run", file, "--root", root).returncode == 0
    (root / "runs" / "losses" / study_run.FILE).write_text(json.dumps({}))

    def fail(workspace: Workspace) -> None:
        raise ConnectionError("it is down")

    monkeypatch.setattr(study_run, "open_store", fail)
    done = here("run", file, "--root", root)
    assert (done.returncode, done.stderr.count("\n")) == (3, 2), done.stderr
    assert done.stderr.startswith("MLflow does not show the study's result: ConnectionError: it is "
                                  "down\n")
    assert f"gan-bench report losses --root {root} shows it there." in done.stderr
    report = here("report", "losses", "--root", root, "--format", "csv")
    assert report.returncode == 0
    assert "MLflow does not show the study's result: ConnectionError: it is down" in report.stderr
