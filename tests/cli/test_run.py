"""What `gan-bench run` prints when the runs have ended."""

from __future__ import annotations

import json
import re
import sqlite3
from contextlib import closing
from pathlib import Path

import pandas as pd
from helpers.runs import write_experiment
from helpers.studies import copy_of, here

from gan_bench.cli.running.run import _outcome_of
from gan_bench.config.experiment import load_experiment
from gan_bench.journal.schema import Status
from gan_bench.journal.status import Progress
from gan_bench.launcher.launch import LaunchResult


def counts(printed: str, variant: str) -> set[str]:
    """Return what the table says of the number of runs of a variant: `3`, or `2 of 3`."""
    row = re.compile(rf"\b{variant} .*?\][*†]*\s+(\d+( of \d+)?)\b")
    return {found[1] for line in printed.splitlines() if (found := row.search(line))}


def test_a_dropped_seed_is_left_out_of_table_and_report_alike(studies: Path, tmp_path: Path,
                                                               ) -> None:
    root, file = copy_of(studies, tmp_path / "root"), studies.parent / "losses.yaml"
    whole = here("run", file, "--root", root)
    fewer = here("run", file, "--root", root, "--set", "seeds=[2, 0]")
    assert (whole.returncode, fewer.returncode) == (0, 0), fewer.stderr
    said = "left out: 2 runs of seeds that the experiment does not list (1)\n"
    assert said in fewer.stdout
    assert "4 of 4 runs are done" in fewer.stdout
    assert "left out" not in whole.stdout
    for variant in "plain", "sat":
        assert (counts(whole.stdout, variant), counts(fewer.stdout, variant)) == ({"3"}, {"2"})
    for last, n in ((fewer, 2), (whole, 3)):
        if last is whole:  # the seed is listed again
            assert here("run", file, "--root", root).stdout == whole.stdout
        done = here("report", "losses", "--root", root, "--format", "csv", "--out", tmp_path)
        assert done.returncode == 0, done.stderr
        assert set(pd.read_csv(tmp_path / "summary.csv")["n"]) == {n}
        assert (said in done.stdout) == (n == 2)


def test_a_renamed_variant_keeps_its_runs(studies: Path, tmp_path: Path) -> None:
    root, file = copy_of(studies, tmp_path / "root"), tmp_path / "losses.yaml"
    text = (studies.parent / "losses.yaml").read_text()
    file.write_text(text.replace("{plain: {}, sat:", "{usual: {}, other:"))
    assert file.read_text() != text
    journals = {path: path.read_bytes() for path in root.glob("runs/*/*/journal.jsonl")}
    note = "3 runs of plain count as usual, the present name of their settings"
    for named in file, file, "losses":  # the file, before and after the run
        done = here("report", named, "--root", root, "--format", "csv", "--out", tmp_path)
        assert done.returncode == 0, done.stderr
        assert (note in done.stdout) == (named == file and "usual" not in shown_names(root))
        reported = pd.read_csv(tmp_path / "summary.csv")
        assert set(reported["variant"]) == {"usual", "other"}
        assert set(reported["baseline"]) == {"usual"}
        assert set(reported["n"]) == {3}
        ran = here("run", file, "--root", root)
        assert "6 of 6 runs are done" in ran.stdout, ran.stderr
        assert ("3 runs of plain are called usual now" in ran.stdout) == (note in done.stdout)
    assert shown_names(root) == {"usual", "other"}
    assert {json.loads(path.read_text())["variant"] for path in root.glob("runs/*/*/spec.json")
            if path.parent.parent.name == "losses"} == {"usual", "other"}
    assert {path: path.read_bytes() for path in journals} == journals


def test_second_thoughts_train_only_what_is_new(studies: Path, tmp_path: Path) -> None:
    """Variants become an axis with a third value, and a seed is dropped."""
    root, file = copy_of(studies, tmp_path / "root"), tmp_path / "losses.yaml"
    text = (studies.parent / "losses.yaml").read_text()
    text = text.replace("variants: {plain: {}, sat: {loss: saturating}}",
                        "matrix: {loss: [non_saturating, saturating, lsgan]}")
    file.write_text(text.replace("seeds: [0, 1, 2]", "seeds: [2, 0]"))
    assert "lsgan" in file.read_text()
    journals = {path: path.read_bytes() for path in root.glob("runs/losses/*/journal.jsonl")}
    ran = here("run", file, "--root", root)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    new = set(root.glob("runs/losses/*/journal.jsonl")) - journals.keys()
    assert {json.loads((path.parent / "spec.json").read_text())["variant"] for path in new} == {
        "lsgan"}
    assert len(new) == 2
    assert {path: path.read_bytes() for path in journals} == journals
    assert "6 of 6 runs are done" in ran.stdout
    said = "left out: 2 runs of seeds that the experiment does not list (1)"
    done = here("report", "losses", "--root", root, "--format", "csv", "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    assert said in ran.stdout
    assert said in done.stdout
    reported = pd.read_csv(tmp_path / "summary.csv")
    variants = {"non_saturating", "saturating", "lsgan"}
    assert (set(reported["variant"]), set(reported["n"])) == (variants, {2})
    for variant in variants:
        assert counts(ran.stdout, variant) == {"2"}
    with closing(sqlite3.connect(root / "mlflow.db")) as database:
        shown = database.execute("select name from runs").fetchall()
    listed = {f"s{seed} · {variant}" for variant in variants for seed in (0, 2)}
    assert {name for (name,) in shown} >= listed
    assert not any(name.endswith((" plain", " sat")) and name.startswith(("s0 ", "s2 "))
                   for (name,) in shown)


def shown_names(root: Path) -> set[str]:
    """Return what MLflow shows as variants in the study, in tags as in the names of runs."""
    with closing(sqlite3.connect(root / "mlflow.db")) as database:
        rows = database.execute(
            "select t.value, r.name, n.value from runs r join experiments e on e.experiment_id = "
            "r.experiment_id and e.name = 'losses' join tags t on t.run_uuid = r.run_uuid and "
            "t.key = 'variant' join tags n on n.run_uuid = r.run_uuid and "
            "n.key = 'mlflow.note.content'").fetchall()
    assert len(rows) == 6
    assert all(name.endswith(f" · {variant}") for variant, name, _ in rows)
    assert all(note.startswith(f"**{variant}**, seed ") for variant, _, note in rows)
    return {variant for variant, _, _ in rows}


def test_what_mlflow_hides_is_followed_by_no_advice_that_does_not_help(studies: Path,
                                                                        tmp_path: Path) -> None:
    root, file = copy_of(studies, tmp_path / "root"), studies.parent / "losses.yaml"
    assert here("run", file, "--root", root).returncode == 0
    with closing(sqlite3.connect(root / "mlflow.db")) as database, database:
        database.execute("update runs set lifecycle_stage = 'deleted' where run_uuid = (select "
                         "t.run_uuid from tags t join runs r on r.run_uuid = t.run_uuid join "
                         "experiments e on e.experiment_id = r.experiment_id where e.name = "
                         "'losses' and t.key = 'run_id' limit 1)")
    done = here("run", file, "--root", root)
    assert (done.returncode, done.stderr.count("\n")) == (3, 1), done.stderr
    assert done.stderr.startswith("MLflow hides some results: 1 run of the journals is deleted in "
                                  "MLflow: left out (")
    assert done.stderr.endswith(f"`gan-bench sync --root {root} --anew` copies it anew\n")
    machine = here("run", file, "--root", root, "--json")
    end = json.loads(machine.stdout.splitlines()[-1])
    assert f"MLflow hides some results: {end['not_in_mlflow']}\n" == done.stderr
    assert here("sync", "--root", root).returncode == 3
    assert here("sync", "--root", root, "--anew").returncode == 0
    assert here("run", file, "--root", root).returncode == 0


class Alone(Progress):
    """A run that is compared with no other: its specification is long, and there are many."""

    def __eq__(self, other: object) -> bool:
        raise AssertionError("compared")


def test_the_ends_of_runs_are_counted_without_comparing_them(tmp_path: Path) -> None:
    runs: list[Progress] = [Alone(run, tmp_path)
                            for run in load_experiment(write_experiment(tmp_path), tmp_path).runs]
    runs[0].state, runs[1].state = Status.FINISHED, Status.FAILED
    ended = LaunchResult(runs, "")
    outcome = _outcome_of(ended, trains=False)
    assert (outcome.done, outcome.failed, len(outcome.untrained)) == (1, 1, 2)
    outcome = _outcome_of(ended, trains=True)
    assert (outcome.done, outcome.failed, len(outcome.untrained)) == (1, 3, 0)
