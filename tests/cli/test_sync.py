"""`gan-bench sync`: what a study found is shown in the store that its runs are copied into."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from helpers.studies import copy_of, here

STUDY_RUNS = ("select e.name, r.run_uuid from runs r join experiments e on e.experiment_id = "
              "r.experiment_id join tags t on t.run_uuid = r.run_uuid and t.key = "
              "'gan_bench.study' where r.lifecycle_stage = 'active' order by e.name")


def study_runs(database: Path) -> dict[str, dict[str, str]]:
    """Return the tags of the study run of each experiment."""
    with closing(sqlite3.connect(database)) as opened:
        found = opened.execute(STUDY_RUNS).fetchall()
        assert len(found) == len({name for name, _ in found})
        return {name: dict(opened.execute(
            "select key, value from tags where run_uuid = ?", (run,))) for name, run in found}


def test_another_store_shows_what_the_studies_found(studies: Path, tmp_path: Path) -> None:
    root, team = copy_of(studies, tmp_path / "root"), tmp_path / "team.db"
    here("run", studies.parent / "losses.yaml", "--root", root)
    to = ("sync", "--root", root, "--to", f"sqlite:///{team}")
    done = here(*to)
    assert (done.returncode, "study" in done.stderr) == (0, False), done.stderr
    there, original = study_runs(team), study_runs(root / "mlflow.db")
    assert set(there) == {"losses", "more"}
    verdicts = {key: value for key, value in original["losses"].items() if "verdict." in key}
    assert verdicts
    assert verdicts.items() <= there["losses"].items()
    assert f"--tracking-uri sqlite:///{team}" in there["losses"]["mlflow.note.content"]
    before = team.read_bytes()
    again = here(*to)
    assert (again.returncode, again.stdout) == (0, "9 runs, 0 brought up to date\n")
    assert team.read_bytes() == before


def test_one_that_was_deleted_there_stays_away(studies: Path, tmp_path: Path) -> None:
    root, team = copy_of(studies, tmp_path / "root"), tmp_path / "team.db"
    to = ("sync", "--root", root, "--to", f"sqlite:///{team}")
    assert here(*to).returncode == 0
    with closing(sqlite3.connect(team)) as database, database:
        database.execute("update runs set lifecycle_stage = 'deleted' where name = 'study'")
    assert here(*to).returncode == 0
    assert study_runs(team) == {}


def test_a_study_that_the_store_does_not_take_is_status_3(studies: Path, tmp_path: Path) -> None:
    root, team = copy_of(studies, tmp_path / "root"), tmp_path / "team.db"
    to = ("sync", "--root", root, "--to", f"sqlite:///{team}")
    assert here(*to).returncode == 0
    (root / "runs" / "losses" / "study.json").write_text("{}")
    with closing(sqlite3.connect(team)) as database, database:
        database.execute("create trigger refusing before insert on tags when new.key like "
                         "'verdict.%' begin select raise(abort, 'no room'); end")
        database.execute("delete from tags where key like 'verdict.%'")
    done = here(*to)
    assert done.returncode == 3
    (line,) = [line for line in done.stderr.splitlines() if "study's result" in line]
    assert line.startswith("losses: MLflow does not show the study's result: ")
    assert f"MLflow at sqlite:///{team}" in line
