"""`gan-bench plan` on terminals of several widths."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.runs import DIGITS, write_experiment
from helpers.studies import here

from gan_bench.cli.planning.plan import plan_text
from gan_bench.config.experiment import load_experiment
from gan_bench.config.shipped import shipped_experiments

LONG = DIGITS.replace("variants:\n  plain:\n  saturating: {loss: saturating}\n", """\
matrix:
  loss: [non_saturating, {name: lsgan, a: -1.0, b: 1.0, c: 0.0}, {name: lsgan, a: 0.0}]
  g_optimizer.lr: [1e-4, 2e-4]
  penalties: [[], [r1, {name: gradient_penalty, weight: 3.0}]]
""").replace("dataset:", "question: Which of many losses and penalties is the one to take here?\n"
             "dataset:")


@pytest.mark.parametrize("width", [62, 80, 100, 150])
def test_seed_and_state_of_every_run_are_visible(tmp_path: Path, width: int) -> None:
    spec = load_experiment(write_experiment(tmp_path, LONG), tmp_path)
    lines = plan_text(spec, tmp_path, width).splitlines()
    assert max(map(len, lines)) <= width
    assert len(spec.runs) == 24
    for run in spec.runs:
        (line,) = [line for line in lines if line.strip().startswith(run.id)]
        assert f"{run.seed}     WAITING  0/6" in line or line.endswith(f"{run.seed}     WAITING")
    assert {run.variant for run in spec.runs} <= set(" ".join(lines).split())


@pytest.mark.parametrize("name", shipped_experiments())
def test_no_word_is_lost_or_broken_where_names_fit(tmp_path: Path, name: str) -> None:
    spec = load_experiment(Path(name), tmp_path, ["baseline=null"])
    whole = plan_text(spec, tmp_path)
    for width in (80, 120):
        text = plan_text(spec, tmp_path, width)
        assert max(map(len, text.splitlines())) <= width
        added = set(text.replace(",", " ").split()) - set(whole.replace(",", " ").split())
        assert {word for word in added if "…" not in word} == set()


def test_a_pipe_gets_whole_lines_and_columns_is_heeded(tmp_path: Path) -> None:
    file = write_experiment(tmp_path, LONG)
    piped = here("plan", file, "--root", tmp_path)
    narrow = here("plan", file, "--root", tmp_path, env={"COLUMNS": "70"})
    assert max(map(len, piped.stdout.splitlines())) > 100
    assert max(map(len, narrow.stdout.splitlines())) <= 70
