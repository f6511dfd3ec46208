"""What `run` keeps, `plan` says of it and `clean` frees."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from helpers.journals import new_run, write_journal
from helpers.runs import DIGITS, write_experiment
from helpers.studies import here

from gan_bench.cli.running.clean import free_checkpoints
from gan_bench.errors import UserError
from gan_bench.journal.layout import CHECKPOINTS, WEIGHTS
from gan_bench.journal.sharing.lock import locked
from gan_bench.journal.writing import Journal

FILE, BEFORE = CHECKPOINTS
SIZE = 300_000


def ended(root: Path, seed: int, status: str) -> Path:
    """Leave a run that has ended so, with both checkpoints."""
    folder = new_run(root, seed)
    write_journal(folder, status=status)
    for name in CHECKPOINTS:
        (folder / name).write_bytes(bytes(SIZE))
    return folder


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_it_frees_the_checkpoints_of_finished_runs_and_nothing_else(tmp_path: Path) -> None:
    freed = [ended(tmp_path, seed, status) for seed, status in enumerate(("FINISHED", "DIVERGED"))]
    lacking = ended(tmp_path, 2, "FINISHED")
    (lacking / WEIGHTS).unlink()  # it will be trained again
    opened = ended(tmp_path, 3, "FINISHED")
    kept = [ended(tmp_path, 4, "KILLED"), ended(tmp_path, 5, "FAILED"), lacking, opened]
    said: list[str] = []
    name = freed[0].parent.name
    with closing(Journal(opened)):
        before = {folder: names(folder) for folder in (*freed, *kept)}
        for dry, verb in ((True, "would free"), (False, "freed")):
            assert list(free_checkpoints(tmp_path, None, dry, said.append)) == [
                f"{name}: 1.2 MB of 4 checkpoints", f"{verb} 1.2 MB"]
            for folder in kept:
                assert names(folder) == before[folder]
            for folder in freed:
                assert before[folder] - names(folder) == (set() if dry else {FILE, BEFORE})
    assert list(free_checkpoints(tmp_path, None, False, said.append)) == [
        f"{name}: 0.6 MB of 2 checkpoints", "freed 0.6 MB"]  # of the one that was open
    assert list(free_checkpoints(tmp_path, name, False, said.append)) == ["freed 0.0 MB"]
    assert said == []


@pytest.mark.parametrize("dry", [True, False])
def test_an_experiment_that_is_being_run_is_left_alone(tmp_path: Path, dry: bool) -> None:
    folder = ended(tmp_path, 0, "FINISHED")
    said: list[str] = []
    with locked(folder.parent):
        assert list(free_checkpoints(tmp_path, None, dry, said.append))[-1].endswith("free 0.0 MB"
                                                                                     if dry else
                                                                                     "freed 0.0 MB")
        assert len(said) == 1
        assert said[0].startswith(f"{folder.parent.name} is already being run by process ")
        with pytest.raises(UserError, match="is already being run by process"):
            list(free_checkpoints(tmp_path, folder.parent.name, dry, said.append))
    assert {FILE, BEFORE} <= names(folder)


def test_a_dry_run_writes_nothing(tmp_path: Path) -> None:
    ended(tmp_path, 0, "KILLED")
    before = {path: path.is_file() and path.read_bytes() for path in tmp_path.rglob("*")}
    done = here("clean", "--dry-run", "--root", tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "would free 0.0 MB\n", "")
    assert {path: path.is_file() and path.read_bytes() for path in tmp_path.rglob("*")} == before


def test_an_unknown_name_is_one_line(tmp_path: Path) -> None:
    name = ended(tmp_path, 0, "FINISHED").parent.name
    for given in (name + "x", "lost.yaml"):
        done = here("clean", given, "--root", tmp_path)
        assert done.returncode == 2
        assert len(done.stderr.splitlines()) == 1
    assert "there is no such file" in done.stderr
    with pytest.raises(UserError, match=f"holds no runs of '{name}x'; did you mean '{name}'"):
        list(free_checkpoints(tmp_path, f"{name}x", True, lambda line: None))
    done = here("clean", "--root", tmp_path / "nothing")
    assert (done.returncode, done.stdout) == (0, "freed 0.0 MB\n")


def test_twice_the_steps_cost_half(tmp_path: Path) -> None:
    """The command line, from the first run to the last checkpoint, and MLflow in the end."""
    text = DIGITS.replace("name: tiny", "name: twice").replace("[0, 1]", "[0]")
    file = write_experiment(tmp_path, text)
    more = ("--set", "base.steps=11")
    roots = {name: ("--root", tmp_path / name) for name in ("whole", "parts")}
    assert "disk" not in here("plan", file, *roots["parts"]).stdout  # no figure is known yet
    assert here("run", file, *roots["parts"]).returncode == 0
    shown = here("plan", file, *more, *roots["parts"])
    records = [json.loads(line) for line in
               here("plan", file, *more, *roots["parts"], "--json").stdout.splitlines()]
    short = {path.parent.name: path for path in (tmp_path / "parts").glob(f"runs/twice/*/{FILE}")}
    assert {record["continues"] for record in records} == set(short)
    assert {record["from_step"] for record in records} == {6}
    for record in records:
        assert f"  {record['id']}: continues {record['continues']} from step 6\n" in shown.stdout
    megabytes = sum(path.stat().st_size for path in short.values()) / 1e6
    assert f"the last checkpoints of 2 runs take {megabytes:.1f} MB on the disk (" in shown.stdout
    done = here("run", file, *more, *roots["parts"])
    assert done.returncode == 0, done.stderr
    assert "2 runs continue from shorter ones, as `plan` shows\n" in done.stdout
    assert "fewer points" not in done.stdout
    for record in records:
        assert f" continues {record['continues']} from step 6\n" in done.stdout
    whole = here("run", file, *more, *roots["whole"], "--keep-checkpoints", "none")
    assert whole.returncode == 0
    assert "continue" not in whole.stdout
    assert not list((tmp_path / "whole").glob(f"runs/twice/*/{FILE}"))
    for record in records:
        files = [tmp_path / name / "runs/twice" / str(record["id"]) / WEIGHTS for name in roots]
        assert files[0].read_bytes() == files[1].read_bytes()
        assert rows(tmp_path / "whole", record["id"]) == rows(tmp_path / "parts", record["id"])
        assert tag(tmp_path / "parts", record["id"], "continues") == record["continues"]
        assert tag(tmp_path / "whole", record["id"], "continues") is None
    denser = here("run", file, "--set", "base.steps=13", "--set", "base.log_every=1",
                  *roots["parts"])
    assert ("\nthe curves of 2 runs have fewer points in the first steps: log_every 2 (now 1)\n"
            in denser.stdout)
    assert len(list((tmp_path / "parts").glob(f"runs/twice/*/{FILE}"))) == 6
    cleaned = here("clean", file, *roots["parts"])
    assert cleaned.stdout.startswith(f"twice: {3 * megabytes:.1f} MB of 6 checkpoints\nfreed ")
    again = here("run", file, *more, *roots["parts"])
    assert "2 of 2 runs are done" in again.stdout


def rows(root: Path, run_id: str) -> list[tuple[str, int, float]]:
    """Return what MLflow holds of a run, without times and measurements of the machine."""
    with closing(sqlite3.connect(root / "mlflow.db")) as db:
        found = db.execute(
            "select m.key, m.step, m.value from metrics m join tags t on t.run_uuid = m.run_uuid "
            "and t.key = 'run_id' and t.value = ? where m.key not like 'system/%' order by 1, 2",
            [run_id]).fetchall()
    assert len(found) > 20
    return found


def tag(root: Path, run_id: str, key: str) -> str | None:
    with closing(sqlite3.connect(root / "mlflow.db")) as db:
        found = db.execute(
            "select v.value from tags v join tags t on t.run_uuid = v.run_uuid and "
            "t.key = 'run_id' and t.value = ? where v.key = ?", [run_id, key]).fetchone()
    return str(found[0]) if found else None
