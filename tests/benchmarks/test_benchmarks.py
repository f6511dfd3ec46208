"""That the benchmarks still measure something: they patch and call the program's own functions."""

from __future__ import annotations

import importlib
import json
import os
from pathlib import Path

import pytest
from helpers.forked import run_script
from helpers.runs import a_run

from gan_bench.config.declared import Declared
from gan_bench.config.spec import ExperimentSpec
from gan_bench.journal.layout import Execution, Workspace
from gan_bench.training import run

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def test_what_a_run_costs_is_counted_in_its_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                                    ) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import overhead

    spec = a_run(tmp_path, "base.log_every=2")  # 6 steps, of which 3 are logged
    run.prepare(ExperimentSpec(name="tiny", declared=Declared(baseline="plain"), runs=(spec,)),
                tmp_path, tmp_path, lambda line: None)
    overhead.count_in_worker(monkeypatch.setattr)
    monkeypatch.setenv(overhead.COSTS, str(tmp_path))
    run.run_together([spec], Execution(Workspace(tmp_path, tmp_path)),
                     failed=lambda run, error: pytest.fail(str(error)))
    spent = json.loads((tmp_path / f"run-{spec.id}.json").read_text())
    assert set(spent) == {*overhead.IN_WORKER, "of these steps", "and measuring", "all"}
    parts = spent["journal"] + spent["pictures"] + spent["of these steps"] + spent["and measuring"]
    assert 0 < spent["of these steps"] < parts < spent["all"]


def test_what_scripts_miss_is_collected(monkeypatch: pytest.MonkeyPatch,
                                        capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import targets

    together = importlib.import_module("all")
    assert {script for script, *_ in together.SCRIPTS} == {
        file.name for file in BENCHMARKS.glob("*.py")} - {
        "all.py", "gpu.py", "gpu_all.py", "gpu_cells.py", "naive.py", "targets.py", "workload.py"}
    rows = [targets.row("slow", [3.0, 5.0], "s", 4, "its reason"),
            targets.row("quick", [3.0, 4.0], "s", 4), targets.row("odd", [9.0], "s", 4)]
    targets.say_rows(rows, (10, 30), "load average 0.10")
    printed = capsys.readouterr().out
    assert together.missed_in(printed.splitlines(keepends=True)) == [
        "slow: 4.00 s (3.00 to 5.00), target ≤ 4 s; its reason; load average 0.10 at the start",
        "odd: 9.00 s, target ≤ 4 s; no reason is known; load average 0.10 at the start"]
    assert capsys.readouterr().out == printed
    targets.say_missed([])
    assert together.missed_in(["- no\n", capsys.readouterr().out, "- nor this\n"]) == []


@pytest.mark.long
@pytest.mark.parametrize("command", [
    ("overhead.py", "--quick"), ("resume.py", "--quick"), ("workers.py", "--quick"),
    ("report.py", "--quick"),
    ("evaluation.py", "--quick"), ("evaluation.py", "--quick", "--during"),
    ("evaluation.py", "--quick", "--memory"), ("step.py", "--quick"), ("calibration.py", "--quick"),
    ("naive.py", "--steps", "2", "--warmup", "1")], ids=" ".join)
def test_a_quick_form_ends_well(command: tuple[str, ...], tmp_path: Path) -> None:
    """Its figures mean nothing: it shows that the script works, to its last line."""
    script, *options = command
    environment = {**os.environ, "GAN_BENCH_ROOT": str(tmp_path),
                   "PYTHONPATH": str(BENCHMARKS.parent)}
    done = run_script(BENCHMARKS / script, *options, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert ("steps/s" if script == "naive.py" else "missed:") in done.stdout
