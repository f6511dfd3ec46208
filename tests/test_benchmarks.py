"""That the benchmarks still measure something: they patch and call the program's own functions."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from runs import a_run

from gan_bench import run
from gan_bench.spec import ExperimentSpec

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


def test_what_a_run_costs_is_counted_in_its_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                                    ) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import overhead

    spec = a_run(tmp_path, "base.log_every=2")  # 6 steps, of which 3 are logged
    run.prepare(ExperimentSpec(name="tiny", question="", baseline="plain", runs=(spec,)), tmp_path,
                tmp_path, lambda line: None)
    overhead.count_in_worker(monkeypatch.setattr)
    monkeypatch.setenv(overhead.COSTS, str(tmp_path))
    run.run_together([spec], tmp_path, tmp_path,
                     failed=lambda run, error: pytest.fail(str(error)))
    spent = json.loads((tmp_path / f"run-{spec.id}.json").read_text())
    assert set(spent) == {*overhead.IN_WORKER, "of these steps", "and measuring", "all"}
    parts = spent["journal"] + spent["pictures"] + spent["of these steps"] + spent["and measuring"]
    assert 0 < spent["of these steps"] < parts < spent["all"]
