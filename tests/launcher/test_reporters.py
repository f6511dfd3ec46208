"""The live table on terminals of several widths: variant, seed and state are always there."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from helpers.runs import DIGITS, write_experiment
from rich.console import Console

from gan_bench.config.experiment import load_experiment
from gan_bench.journal.schema import Status
from gan_bench.journal.status import Progress
from gan_bench.launcher.reporters import LiveTable

NAMES = ["dcgan-non_saturating", "matrix-wgan_gp2017-gradient_penalty-lr=0.0002-a",
         "matrix-wgan_gp2017-gradient_penalty-lr=0.0004-a"]
STATES = (Status.RUNNING, Status.FAILED, Status.WAITING)


@pytest.fixture
def runs(tmp_path: Path) -> list[Progress]:
    """Two runs of each of three variants, in three states."""
    spec = load_experiment(write_experiment(tmp_path, DIGITS), tmp_path)
    progress = []
    for name, state in zip(NAMES, STATES, strict=True):
        for run in spec.runs[:2]:
            named = run.model_copy(update={"variant": name, "steps": 100_000})
            progress.append(Progress(named, tmp_path, state, step=12_345, values={
                "train/d_loss": 1.2345678, "train/g_loss": 0.87654321,
                "system/steps_per_s": 12.3456}, scores={"precision_classifier": 0.91234}))
    return progress


def drawn(runs: list[Progress], width: int) -> list[str]:
    out = io.StringIO()
    console = Console(file=out, width=width, height=40)
    table = LiveTable(console)
    table._runs = runs
    console.print(table._table())
    return out.getvalue().splitlines()


@pytest.mark.parametrize("width", [40, 62, 80, 100, 150])
def test_variant_seed_and_state_are_always_there(runs: list[Progress], width: int) -> None:
    head, *lines = drawn(runs, width)
    assert max(map(len, [head, *lines])) <= width
    shown = [(line.split()[0], line.split()[1], line.split()[2]) for line in lines[:6]]
    assert [(seed, state) for _, seed, state in shown] == [
        (seed, state) for state in STATES for seed in "01"]
    assert len({name for name, _, _ in shown}) == 3  # short names stay different
    assert head.split()[:3] == ["variant", "seed", "state"]


@pytest.mark.parametrize(("width", "columns"), [
    (48, ""), (49, "step"), (62, "step"), (80, "step last score"),
    (100, "step steps/s last score left"),
    (150, "step steps/s D loss G loss last score left")])
def test_columns_come_by_priority(runs: list[Progress], width: int, columns: str) -> None:
    head, *lines = drawn(runs, width)
    assert " ".join(head.split()[3:]) == columns
    assert ("12345/100000" in lines[0]) == ("step" in columns)
    assert ("precision_classifier 0.9123" in lines[0]) == ("last score" in columns)
    assert (NAMES[1] in lines[2]) == (width == 150)
    assert all(NAMES[0] in line for line in lines[:2])
