"""`--profile`: where the time of some steps went, and nothing else is changed by it."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
import torch
from helpers.journals import repeatable
from helpers.runs import a_run, write_experiment
from helpers.studies import here

from gan_bench.config.declared import Declared
from gan_bench.config.spec import ExperimentSpec, RunSpec
from gan_bench.journal import reading
from gan_bench.journal.layout import WEIGHTS, Execution, Workspace
from gan_bench.training import profiling
from gan_bench.training.run import prepare, run_one, run_together


@pytest.fixture(scope="module")
def profiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root in which the experiment has been run under the profiler."""
    folder = tmp_path_factory.mktemp("profiled")
    done = here("run", write_experiment(folder), "--root", folder / "root", "--profile", "--set",
                "seeds=[0]")
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_each_run_has_a_table_and_a_trace_in_mlflow(profiled: Path) -> None:
    homes = [file.parent for file in profiled.glob("root/artifacts/tiny/*/artifacts/spec.json")]
    assert len(homes) == 2
    for home in homes:
        table = (home / "profile.txt").read_text()
        assert table.startswith("steps 3 to 5\n")  # of 6
        calls = {line.split()[0]: int(line.split()[-1]) for line in table.splitlines()
                 if line.strip().startswith(("aten::", "Optimizer.step"))}
        assert calls["Optimizer.step#Adam.step"] == 6  # of both networks
        assert calls["aten::addmm"] >= 3 * (5 + 3 * 3)  # G's five layers, D's three for each batch
        events = json.loads(gzip.decompress((home / "trace.json.gz").read_bytes()))["traceEvents"]
        assert sum(event.get("name") == "Optimizer.step#Adam.step" for event in events) == 6


def test_it_changes_no_bit(profiled: Path, tmp_path: Path) -> None:
    done = here("run", profiled / "tiny.yaml", "--root", tmp_path / "root", "--set", "seeds=[0]")
    assert done.returncode == 0, done.stdout + done.stderr
    for folder in (tmp_path / "root" / "runs" / "tiny").glob("*/"):
        other = profiled / "root" / "runs" / "tiny" / folder.name
        assert (folder / WEIGHTS).read_bytes() == (other / WEIGHTS).read_bytes()
        assert not (folder / "profile.txt").exists()
        assert (repeatable(reading.read_records(folder)[0])
                == repeatable(reading.read_records(other)[0]))


def ready(folder: Path, *overrides: str) -> RunSpec:
    spec = a_run(folder, *overrides)
    prepare(ExperimentSpec(name="tiny", declared=Declared(baseline="plain"), runs=(spec,)), folder,
            folder, lambda line: None)
    return spec


@pytest.mark.parametrize("log_every", [1, 4])
def test_a_run_that_diverges_before_or_among_the_profiled_steps(tmp_path: Path, log_every: int,
                                                                ) -> None:
    spec = ready(tmp_path, "base.optimizer={name: sgd, lr: 1e30}", "evaluate.every=null",
                 f"base.log_every={log_every}", "base.sample_every=null")
    run_together([spec], Execution(Workspace(tmp_path, tmp_path), profile=True),
                 failed=lambda run, error: pytest.fail(str(error)))
    end = reading.read_records(spec.folder(tmp_path))[0][-1]
    assert end["status"] == "DIVERGED"
    table = spec.folder(tmp_path) / "profile.txt"
    assert table.exists() is (log_every == 4)
    if log_every == 4:
        assert table.read_text().startswith("steps 3 to 4\n")  # it would have been 5


def test_what_goes_on_is_not_profiled(tmp_path: Path) -> None:
    spec = ready(tmp_path)
    asked = iter([False, True])
    run_one(spec, tmp_path, tmp_path, stop=lambda: next(asked))
    run_together([spec], Execution(Workspace(tmp_path, tmp_path), profile=True),
                 failed=lambda run, error: pytest.fail(str(error)))
    assert (spec.folder(tmp_path) / WEIGHTS).exists()
    assert not (spec.folder(tmp_path) / "profile.txt").exists()


def test_runs_that_are_too_short_are_refused(tmp_path: Path) -> None:
    done = here("run", write_experiment(tmp_path), "--root", tmp_path / "root", "--profile",
                "--set", "base.steps=2")
    assert done.returncode == 2
    assert done.stderr == "error: --profile needs runs of at least 3 steps, and one has 2\n"
    assert not (tmp_path / "root").exists()


def test_it_looks_where_the_run_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run on the CPU of a machine with a GPU spends nothing on the latter."""
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    asked: list[object] = []

    def profile(activities: list[object]) -> object:
        asked.extend(activities)
        return real(activities=[profiling.ProfilerActivity.CPU])

    real = profiling.profile
    monkeypatch.setattr(profiling, "profile", profile)

    class Steps:
        done = 0

    steps, turns, profiler = Steps(), [], profiling.Profiler(6, tmp_path, "cpu")
    while steps.done < 6:
        with profiler.turn(steps) as count:
            turns.append(count)
            for _ in range(count):
                torch.ones(50, 50).sin().sum()
                steps.done += 1
    assert turns == [1, 1, 3, 1]  # the profiled ones are taken without giving way
    assert asked == [profiling.ProfilerActivity.CPU]
    table = (tmp_path / "profile.txt").read_text()
    assert table.startswith("steps 3 to 5\n")
    rows = [line.split() for line in table.splitlines() if line.strip().startswith("aten::")]
    shares = [float(row[1].rstrip("%")) for row in rows]  # of the CPU's own time
    assert shares[0] > shares[-1]
    assert shares == sorted(shares, reverse=True)
