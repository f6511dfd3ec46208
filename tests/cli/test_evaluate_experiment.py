"""`gan-bench evaluate FILE`, and what `gan-bench run` measures of runs that are trained."""

from __future__ import annotations

import json
import shlex
import shutil
import sqlite3
import subprocess
from pathlib import Path
from typing import Any

import pytest
from helpers.commands import forked
from helpers.launching import new_root
from helpers.runs import DIGITS, install, write_experiment
from helpers.studies import here

from gan_bench.compare.rows import summarise
from gan_bench.config.experiment import load_experiment
from gan_bench.journal import reading
from gan_bench.journal.status import Progress
from gan_bench.report.study import load_results
from gan_bench.tracking.store import client

METRICS = '''\
import os, signal
from pathlib import Path
from gan_bench.registry import METRICS, MetricFacts

FACTS = MetricFacts(better=None, extractor="pixels", reference="train", refuses=lambda facts: None)

@METRICS.register("raises", FACTS)
def raises(real, fake):
    """Raises."""
    raise RuntimeError("no such measure")

@METRICS.register("deadly", FACTS)
def deadly(real, fake):
    """Kills its process, but only once."""
    once = Path(__file__).with_name("once")
    if not once.exists():
        once.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return 2.5
'''


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an experiment of four runs, of which two are trained."""
    folder = tmp_path_factory.mktemp("study")
    new_root(folder)
    write_experiment(folder, DIGITS)
    done = command(folder, "run", "--set", "seeds=[0]")
    assert (done.returncode, done.stderr) == (0, "")
    return folder


def command(folder: Path, name: str, *options: object, env: dict[str, str] | None = None,
            ) -> subprocess.CompletedProcess[str]:
    return forked(name, folder / "tiny.yaml", "--root", folder / "root", *options, env=env)


@pytest.fixture
def copy(study: Path, tmp_path: Path) -> Path:
    """The same, with a store of its own."""
    shutil.copytree(study, tmp_path / "copy", ignore=shutil.ignore_patterns("mlflow.db*"))
    client._create_sqlite(tmp_path / "copy/root/mlflow.db", tmp_path / "copy/root/artifacts")
    return tmp_path / "copy"


def journals(folder: Path) -> dict[str, list[dict[str, Any]]]:
    return {run.name: reading.read_records(run)[0]
            for run in sorted((folder / "root" / "runs" / "tiny").iterdir()) if run.is_dir()}


def test_what_is_trained_is_measured_and_nothing_else(study: Path) -> None:
    before = journals(study)
    planned = here("plan", study / "tiny.yaml", "--root", study / "root", "--set",
                   "evaluate.metrics=[d_accuracy, nearest_train_mse, fd_random]")
    assert "\n2 finished runs to be measured, not trained\n  fd_random: 2 runs\n" in planned.stdout
    done = command(study, "evaluate", "--metric", "fd_random")
    assert (done.returncode, done.stderr) == (3, "")
    assert done.stdout.count(": measuring\n") == 2
    assert ": started" not in done.stdout
    for named in "tiny", study / "tiny.yaml":  # nobody has typed the settings of `evaluate`
        assert "--set evaluate" not in here("status", named, "--root", study / "root").stdout
    assert ("\nleft out: 2 runs (plain seed 1, saturating seed 1), not trained yet or without "
            f"weights: `gan-bench run {study / 'tiny.yaml'} " in done.stdout)
    after = journals(study)
    assert after.keys() == before.keys()
    for run, records in after.items():
        assert records[: len(before[run])] == before[run]
        _, metrics, end = records[len(before[run]):]
        ((name, value),) = metrics["values"].items()
        assert (name, metrics["step"], end["status"]) == ("final/fd_random", 6, "FINISHED")
        rows = sqlite3.connect(study / "root" / "mlflow.db").execute(
            "select value from latest_metrics where key = ?", [name]).fetchall()
        assert (value,) in rows
    # Asked for in another way, it is there: nothing is measured.
    done = command(study, "run", "--set", "seeds=[0]", "--set", "base.log_every=1", "--set",
                   "evaluate.metrics=[fd_random, d_accuracy]")
    assert (done.returncode, done.stderr) == (0, "")
    assert "measuring" not in done.stdout
    assert "started" not in done.stdout
    assert "fd_random ↓" in done.stdout
    for run, records in journals(study).items():
        assert records[: len(after[run])] == after[run]
        protocol, end = records[len(after[run]):]  # which notes that nothing lacks
        last = after[run][-1]
        assert protocol["protocol"] == {}
        assert end == {**last, "recording": end["recording"]} != last
    shown = here("report", study / "tiny.yaml", "--root", study / "root", "--format", "md")
    assert shown.returncode == 0
    table = (study / "root" / "reports" / "tiny" / "table.md").read_text()
    assert "### tiny: nearest\\_train\\_mse" in table
    assert "### tiny: fd\\_random" not in table
    assert "measured too, but not in evaluate.metrics of the experiment, and so not compared: " \
           "fd_random" in shown.stdout


def test_runs_of_other_weights_are_measured_anew(copy: Path) -> None:
    """Of two runs under different weights of an extractor, the report shows both in the end."""
    asks = ("--set", "evaluate.metrics=[nearest_train_mse, kd_random]")
    assert command(copy, "run", "--set", "seeds=[0]", *asks).returncode == 0
    other, equal = sorted(file.parent for file in copy.glob("root/runs/tiny/*/journal.jsonl"))
    before = {run: [record["values"]["eval/kd_random"] for record in records
                    if "eval/kd_random" in record.get("values", {})][-1]
              for run, records in journals(copy).items()}
    weights = next(record["protocol"]["eval/kd_random"]["weights"]
                   for record in reading.read_records(equal)[0]
                   if "eval/kd_random" in record.get("protocol", {}))
    book = (other / reading.FILE).read_text()
    (other / reading.FILE).write_text(book.replace(weights, "0123456789ab"))
    for file in copy.glob("root/mlflow.db*"):  # which holds the protocols from before
        file.unlink()
    client._create_sqlite(copy / "root/mlflow.db", copy / "root/artifacts")
    results = load_results("tiny", root=copy / "root")
    refused = [row.refused for row in summarise(results.ended(), results.declared)
               if row.metric == "kd_random"]
    assert any("weights" in why for why in refused)
    done = command(copy, "run", "--set", "seeds=[0]", *asks)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count(": measuring\n") == 1
    results = load_results("tiny", root=copy / "root")
    assert results.runs["score.kd_random"].to_dict() == before
    assert not [row.refused for row in summarise(results.ended(), results.declared) if row.refused]
    names = results.runs["metric.kd_random"]
    assert names[equal.name] == "eval/kd_random"
    assert names[other.name].startswith("eval-")
    done = command(copy, "run", "--set", "seeds=[0]", *asks)
    assert "measuring" not in done.stdout
    report = load_results("tiny", root=copy / "root", declared=load_experiment(
        copy / "tiny.yaml", copy, ["seeds=[0]", asks[1]]).declared)
    assert report.runs["metric.kd_random"].to_dict() == names.to_dict()


def test_final_weights_that_are_gone_are_named(copy: Path) -> None:
    before = here("plan", copy / "tiny.yaml", "--root", copy / "root").stdout
    assert "is missing" not in before
    run = next((copy / "root" / "runs" / "tiny").glob("*/final.safetensors"))
    run.unlink()
    shown = here("plan", copy / "tiny.yaml", "--root", copy / "root").stdout
    assert (f"\ntrained once, but final.safetensors is missing, so `run` trains again: "
            f"{run.parent.name}\n") in shown


@pytest.mark.parametrize(("options", "words"), [
    (["--split", "test"], "--split belongs to a single run or to images"),
    (["--dataset", "digits"], "--dataset belongs to a single run"),
    (["--resize"], "--resize belongs to a single run"),
    (["--metric", "fd_none"], "no metric is called 'fd_none'"),
    (["--metric", "fd_random,"], "has an empty name"),
    (["--set", "name=other"], "no run of other is trained yet: gan-bench run "),
])
def test_what_cannot_be_measured_is_one_line(copy: Path, options: list[str], words: str) -> None:
    before = journals(copy)
    done = command(copy, "evaluate", *options)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert words in line
    assert journals(copy) == before


def test_the_advice_on_runs_that_are_left_out_works_when_it_is_pasted(copy: Path) -> None:
    """It has the places and the settings that the user gave."""
    options = ("--root", copy / "root", "--data-root", copy / "data sets", "--metric", "fd_random",
               "--set", "evaluate.latent_sets=2", "--set", "question=What, now?")
    done = here("evaluate", copy / "tiny.yaml", *options, "--json")
    assert done.returncode == 3
    assert json.loads(done.stdout.splitlines()[-1])["untrained"] == 2
    done = here("evaluate", copy / "tiny.yaml", *options)
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("left out: ")]
    advice = shlex.split(line.split("`")[1])
    assert advice[:2] == ["gan-bench", "run"]
    for words in (["--data-root", str(copy / "data sets")], ["--set", "evaluate.latent_sets=2"],
                  ["--set", "question=What, now?"]):
        assert words == advice[(i := advice.index(words[1])) - 1: i + 1]
    ran = here(*advice[1:])
    assert ran.returncode == 0, ran.stderr
    assert "4 of 4 runs are done" in ran.stdout
    done = here("evaluate", copy / "tiny.yaml", *options)
    assert (done.returncode, "left out" in done.stdout) == (0, False)
    final = [values for records in journals(copy).values() for record in records
             if "final/fd_random" in (values := record.get("values", ()))]
    assert len(final) == 4
    never = here("evaluate", copy / "tiny.yaml", *options, "--set", "name=other")
    assert never.stderr.endswith(
        f" --set 'question=What, now?' --set name=other --root {copy / 'root'} "
        f"--data-root '{copy / 'data sets'}'\n")


def test_what_a_run_does_not_lack_is_noted_for_the_next_plan(
        copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And MLflow does not receive its files again."""
    follow, followed = Progress.follow, list[str]()

    def counted(run: Progress) -> bool:
        followed.append(run.folder.name)
        return follow(run)

    monkeypatch.setattr(Progress, "follow", counted)
    stored: list[dict[Path, int]] = []
    for every in (1, 3):
        options = (copy / "tiny.yaml", "--root", copy / "root", "--set", "seeds=[0]", "--set",
                   f"base.log_every={every}")
        followed.clear()
        before = here("plan", *options).stdout
        assert len(followed) == 2
        assert here("run", *options).returncode == 0
        followed.clear()
        assert here("plan", *options).stdout == before
        assert followed == []
        noted = journals(copy)
        assert here("run", *options).returncode == 0
        assert journals(copy) == noted
        stored.append({file: file.stat().st_ctime_ns
                       for file in (copy / "root/artifacts").rglob("final.safetensors")})
    assert len(stored[0]) == 4  # two are of the copied store
    assert stored[0] == stored[1]


def test_options_of_a_file_are_refused_for_a_run(study: Path) -> None:
    done = here("evaluate", "0", "--slots", "1", "--root", study / "root")
    assert (done.returncode, done.stderr) == (
        2, "error: --set and --slots belong to an experiment's file; leave them out\n")


def test_a_metric_that_raises_leaves_runs_as_they_were(copy: Path, tmp_path: Path) -> None:
    plugin = install(tmp_path / "site", "measures", METRICS, "metrics")
    before = journals(copy)
    done = command(copy, "evaluate", "--metric", "raises", "--json", env=plugin)
    assert done.returncode == 1
    end = json.loads(done.stdout.splitlines()[-1])
    assert end["failed"] == 2
    assert {run["state"] for run in end["runs"]} == {"FINISHED", "WAITING"}
    assert journals(copy) == before
    shown = command(copy, "evaluate", "--metric", "raises", env=plugin)
    assert shown.returncode == 1
    assert shown.stdout.count("\nnot measured ") == 2
    assert "no such measure" in shown.stdout
    assert "0 of 4 runs are done." in shown.stdout


def test_a_measuring_process_that_is_killed_is_started_again(copy: Path, tmp_path: Path) -> None:
    plugin = install(tmp_path / "site", "measures", METRICS, "metrics")
    done = command(copy, "evaluate", "--metric", "deadly", "--slots", "1", env=plugin)
    assert (done.returncode, done.stderr) == (3, "")
    assert done.stdout.count("SIGKILL") == 1
    for records in journals(copy).values():
        assert [record["values"] for record in records
                if "final/deadly" in record.get("values", ())] == [{"final/deadly": 2.5}]
        assert records[-1]["status"] == "FINISHED"
