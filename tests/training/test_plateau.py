"""Schedules that lower the rate by factors: PyTorch's numbers, and the same bits after a resume."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path

import pytest
import torch
from helpers.checkpoints import left, stop_after
from helpers.runs import a_run, write_experiment
from torch import Tensor, nn

from gan_bench.components import data as datasets
from gan_bench.components.optimizers import rate
from gan_bench.config.experiment import load_experiment
from gan_bench.errors import SpecError
from gan_bench.evaluation.evaluator import prepare_metrics
from gan_bench.registry import OPTIMIZERS
from gan_bench.training.run import run_one
from gan_bench.training.step.engine import Engine
from gan_bench.training.step.plateau import Plateau
from gan_bench.training.step.step_batch import StepBatch

FALLS_NEVER = "{lr: 1e-3, schedule: plateau, decay_every: 3, decay_factor: 0.5, decay_patience: 0}"


def a_module() -> list[nn.Parameter]:
    return [nn.Parameter(torch.zeros(1))]


@pytest.mark.parametrize("name", [entry.name for entry in OPTIMIZERS])
def test_step_is_that_of_pytorch(name: str) -> None:
    part = OPTIMIZERS.parse({"name": name, "lr": 0.3, "schedule": "step", "decay_every": 4,
                             "decay_factor": 0.7})
    optimizer = torch.optim.SGD(a_module(), 0.3)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 4, 0.7)
    for step in range(1, 20):
        assert rate(part, step, 1000) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-12)
        optimizer.step()
        scheduler.step()
    assert rate(part, 19, 1000) == pytest.approx(0.3 * 0.7**4, rel=1e-12)


@pytest.mark.parametrize("patience", [0, 1, 3])
def test_plateau_is_that_of_pytorch(patience: int) -> None:
    """One period of PyTorch's scheduler is `every` steps here, with the mean of their losses."""
    draws = torch.Generator().manual_seed(patience)
    losses = [math.exp(-step / 30) + 0.1 * float(torch.rand((), generator=draws))
              for step in range(200)] + [0.05, 0.05 * (1 - 0.9e-4), 0.05 * (1 - 1.1e-4)] * 20
    every, updates = 5, 2
    part = OPTIMIZERS.parse({"name": "sgd", "lr": 0.3, "schedule": "plateau", "decay_every": every,
                             "decay_factor": 0.5, "decay_patience": patience})
    optimizer = torch.optim.SGD(a_module(), 0.3)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5,
                                                           patience=patience, eps=0.0)
    plateau = Plateau(every, patience, updates, "cpu")
    rates = set()
    for step, loss in enumerate(losses, start=1):
        now = rate(part, step, 1000, plateau.cuts(step))
        assert now == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-12)
        assert rate(part, step, 1000, plateau.cuts(step)) == now  # to ask twice changes nothing
        rates.add(now)
        for share in (0.5, 1.5):
            plateau.add(torch.tensor(share * loss, dtype=torch.float64))
        if step % every == 0:
            scheduler.step(sum(losses[step - every:step]) / every)
    assert len(rates) > 2


def test_a_loss_below_zero_falls_where_it_becomes_smaller() -> None:
    plateau = Plateau(1, 0, 1, "cpu")
    cuts = []
    for step, loss in enumerate([-1.0, -1.0002, -1.0002, -1.00021, -1.5, math.nan], start=1):
        cuts.append(plateau.cuts(step))
        plateau.add(torch.tensor(loss))
    assert [*cuts, plateau.cuts(7)] == [0, 0, 0, 1, 2, 2, 3]


@pytest.mark.parametrize("network", ["g", "d"])
def test_a_network_has_the_plateau_of_its_own_losses(tmp_path: Path, network: str) -> None:
    slow = FALLS_NEVER.replace("1e-3", "1e-6")  # so that the losses only fluctuate
    spec = a_run(tmp_path, f"base.{network}_optimizer={slow}", "base.steps=40",
                 "base.d_steps=2", "base.g_steps=2")
    engine = Engine(spec, "cpu")
    module, other = engine.generator, engine.discriminator
    if network == "d":
        module, other = other, module
    watched: list[float] = []
    update = engine._optimizing.update

    def noting(updated: nn.Module, losses: Iterable[Tensor]) -> Tensor:
        loss = update(updated, losses)
        if updated is module:
            watched.append(float(loss))
        return loss

    engine._optimizing.update = noting  # type: ignore[method-assign]
    torch.manual_seed(0)
    expected = Plateau(3, 0, 2, "cpu")
    rates = []
    for step in range(1, 31):
        engine.step(step, StepBatch([torch.randn(32, 1, 16, 16).clamp(-1, 1) for _ in range(2)]))
        cuts = expected.cuts(step)
        rates.append(engine._optimizing.of[module].param_groups[0]["lr"])
        assert rates[-1] == pytest.approx(1e-6 * 0.5**cuts)
        assert engine._optimizing.of[other].param_groups[0]["lr"] == pytest.approx(2e-4)
        for loss in watched[-2:]:
            expected.add(torch.tensor(loss))
    assert len(watched) == 60
    assert 1 < len(set(rates)) < 10


@pytest.mark.parametrize("stopped", [1, 5, 6, 7, 11])
def test_a_resumed_run_lowers_its_rates_at_the_same_steps(tmp_path: Path, stopped: int) -> None:
    def trained(root: Path, *steps: int) -> dict[str, object]:
        root.mkdir()
        spec = a_run(root, f"base.optimizer={FALLS_NEVER}", "base.steps=14", "base.log_every=1")
        datasets.prepare_data(spec.dataset, root, root / "cache", lambda line: None)
        data = datasets.load(spec.dataset, root, root / "cache", "cpu")
        prepare_metrics(spec.evaluate.metrics, data, root / "cache", lambda line: None)
        for step in steps:
            assert run_one(spec, root, root, stop=stop_after(step)).status == "KILLED"
        assert run_one(spec, root, root).status == "FINISHED"
        return left(spec.folder(root))

    assert trained(tmp_path / "stopped", stopped) == trained(tmp_path / "whole")


def test_what_a_plateau_remembers_decides(tmp_path: Path) -> None:
    """Without it, a resumed run would go on with another rate."""
    spec = a_run(tmp_path, f"base.g_optimizer={FALLS_NEVER}", "base.steps=40")
    engine = Engine(spec, "cpu")
    for step in range(1, 31):
        engine.step(step, StepBatch([torch.zeros(32, 1, 16, 16)]))
    state = engine.state()
    assert "discriminator_plateau" not in state
    assert state["generator_plateau"]["cuts"] > 0
    other = Engine(spec, "cpu")
    other.load(state)
    for resumed in (engine, other):
        resumed.begin(31)
    used = [e._optimizing.of[e.generator].param_groups[0]["lr"] for e in (engine, other)]
    assert used[0] == used[1] < 1e-3
    with pytest.raises(ValueError, match="not the state of an engine"):
        Engine(spec, "cpu").load({k: v for k, v in state.items() if k != "generator_plateau"})


@pytest.mark.parametrize(("optimizer", "message"), [
    ("{schedule: step}", "adam: schedule step lowers the rate after each so many steps: give "
                         "decay_every"),
    ("{schedule: plateau}", "adam: schedule plateau lowers the rate after each so many steps"),
    ("{decay_every: 3}", "adam: decay_every has no effect under schedule constant: leave it out"),
    ("{schedule: step, decay_every: 6}", "after 6 steps at the earliest, and there are 6"),
    ("{schedule: step, decay_every: 0}", "greater than or equal to 1"),
    ("{schedule: step, decay_every: 2, decay_factor: 1.0}", "less than 1"),
    ("{schedule: plateau, decay_every: 3, decay_patience: 0}",
     "adam: the rate would be lowered after 6 steps at the earliest, and there are 6: choose a "
     "smaller decay_every or decay_patience"),
    ("{schedule: plateau, decay_every: 1}", "after 12 steps at the earliest, and there are 6"),
    ("{decay_factor: 0.5}", "adam: decay_factor has no effect under schedule constant: leave it "
                            "out, or set schedule to step or plateau"),
    ("{schedule: linear, decay_patience: 3}",
     "adam: decay_patience has no effect under schedule linear: leave it out, or set schedule to "
     "plateau"),
    ("{schedule: cosine, decay_factor: 0.5, decay_every: 2}",
     "adam: decay_every and decay_factor have no effect under schedule cosine: leave them out"),
    ("{schedule: step, decay_every: 2, decay_patience: 3}",
     "adam: decay_patience has no effect under schedule step: leave it out"),
])
def test_a_schedule_that_does_nothing_is_refused(tmp_path: Path, optimizer: str, message: str,
                                                 ) -> None:
    with pytest.raises(SpecError) as caught:
        load_experiment(write_experiment(tmp_path), tmp_path, [f"base.g_optimizer={optimizer}"])
    (line,) = str(caught.value).splitlines()
    assert message in line
    assert load_experiment(write_experiment(tmp_path), tmp_path, [
        "base.g_optimizer={schedule: step, decay_every: 5}"])


@pytest.mark.parametrize(("every", "patience"), [(1, 0), (1, 3), (2, 0), (3, 1), (1, 10)])
def test_the_earliest_cut_of_a_plateau_is_where_plan_says(tmp_path: Path, every: int,
                                                          patience: int) -> None:
    """A loss that never falls lowers the rate at the step after; with that step, `plan` accepts."""
    plateau = Plateau(every, patience, 1, "cpu")
    cut = 0
    for step in range(1, 100):
        if plateau.cuts(step):
            cut = step
            break
        plateau.add(torch.ones(()))
    optimizer = f"{{schedule: plateau, decay_every: {every}, decay_patience: {patience}}}"
    settings = [f"base.g_optimizer={optimizer}"]
    assert a_run(tmp_path, *settings, f"base.steps={cut}").steps == cut
    with pytest.raises(SpecError, match=f"after {cut - 1} steps at the earliest, and there are "
                                        f"{cut - 1}: "):
        a_run(tmp_path, *settings, f"base.steps={cut - 1}")
