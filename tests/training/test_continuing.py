"""A run with more steps continues from a shorter one, to the bits of a run from zero."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.checkpoints import left, stop_after
from helpers.runs import a_run

from gan_bench.config.declared import Declared
from gan_bench.config.spec import ExperimentSpec, RunSpec
from gan_bench.journal import reading
from gan_bench.training.run import prepare, run_one

SHORT, LONG = 8, 14  # neither is a multiple of all the intervals below
EVERY = ("evaluate.every=4", "base.sample_every=3", "base.log_every=2")


def ready(folder: Path, steps: int, *overrides: str) -> RunSpec:
    """Return a run, all that it needs prepared in the folder."""
    spec = a_run(folder, *EVERY, f"base.steps={steps}", *overrides)
    prepare(ExperimentSpec(name="tiny", declared=Declared(baseline="plain"), runs=(spec,)), folder,
            folder, lambda line: None)
    return spec


def train(spec: RunSpec, root: Path, steps: int | None = None, **options: object) -> None:
    """Train a run to its end; if `steps` is given, stop it after so many."""
    stop = stop_after(steps) if steps else lambda: False
    outcome = run_one(spec, root, root, stop=stop, **options)  # type: ignore[arg-type]
    assert outcome.status == ("KILLED" if steps else "FINISHED")


def continued(spec: RunSpec, root: Path) -> list[tuple[str, int]]:
    """Return from which runs a run has continued, and from which steps."""
    records = reading.valid(reading.read_records(spec.folder(root))[0])
    return [(record["continues"], record["step"]) for record in records
            if record.get("continues")]


def place(folder: Path, name: str) -> Path:
    (folder / name).mkdir()
    return folder / name


def expect_equal(tmp_path: Path, *overrides: str, short: int = SHORT, long: int = LONG,
                 stop: int | None = None) -> None:
    """Train a run from zero, and one that continues; compare all that they leave."""
    whole, parts = place(tmp_path, "whole"), place(tmp_path, "parts")
    spec = ready(whole, long, *overrides)
    train(spec, whole)
    shorter = ready(parts, short, *overrides)
    train(shorter, parts, stop)
    spec = ready(parts, long, *overrides)
    train(spec, parts)
    assert continued(spec, parts) == [(shorter.id, stop or short)]
    assert left(spec.folder(parts)) == left(spec.folder(whole))


@pytest.mark.parametrize("overrides", [
    (),
    ("base.ema=0.9", "base.d_steps=2", "base.order=g_first", "base.share_fakes=true"),
    ("base.model={name: dcgan, width: 8}", "base.ema=0.9"),
    ("base.model={name: dcgan_upsample, width: 8}", "base.d_optimizer=rmsprop"),
    ("base.g_optimizer={name: sgd, momentum: 0.9, schedule: step, decay_every: 3}",
     "base.d_optimizer={name: adam, schedule: plateau, decay_every: 2, decay_patience: 0}"),
], ids=["plain", "ema, two D steps, G first, shared", "batch norm, ema", "dropout, rmsprop",
        "step and plateau"])
def test_continued_is_equal_to_the_bit(tmp_path: Path, overrides: tuple[str, ...]) -> None:
    expect_equal(tmp_path, *overrides)
