"""Several runs in one process, which take their steps in turn: each as if it were alone."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.checkpoints import left, stop_after
from helpers.runs import DIGITS, write_experiment
from rich.console import Console

from gan_bench.config.experiment import load_experiment
from gan_bench.config.spec import ExperimentSpec, RunSpec
from gan_bench.errors import UserError
from gan_bench.evaluation import sample_grid
from gan_bench.journal import reading
from gan_bench.journal.layout import Execution, Workspace
from gan_bench.launcher import crew, launch, preparation, processes
from gan_bench.launcher.preparation import LaunchSettings
from gan_bench.launcher.reporters import PlainLines
from gan_bench.training.run import prepare, run_one, run_together

# One with random numbers within its layers, which all come from the one state of the process.
TEXT = DIGITS.replace("saturating: {loss: saturating}", """\
dropout: {model: {name: mlp_dropout}, augmentation: [flip, diffaugment]}
  averaged: {ema: 0.9, penalties: [instance_noise], augmentation: [ada]}""")


def ready(folder: Path) -> ExperimentSpec:
    folder.mkdir(exist_ok=True)
    experiment = load_experiment(write_experiment(folder, TEXT), folder, ["seeds=[0]"])
    assert prepare(experiment, folder, folder, lambda line: None) == 1
    return experiment


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, object]]:
    """What each run leaves that has a process for itself."""
    folder = tmp_path_factory.mktemp("alone")
    experiment = ready(folder)
    for run in experiment.runs:
        assert run_one(run, folder, folder).status == "FINISHED"
    return {run.variant: left(run.folder(folder)) for run in experiment.runs}


def together(folder: Path, runs: tuple[RunSpec, ...], stop: Callable[[], bool] = lambda: False,
             ) -> dict[str, str]:
    lost: dict[str, str] = {}
    run_together(runs, Execution(Workspace(folder, folder)), stop=stop,
                 failed=lambda run, error: lost.update({run.variant: str(error)}))
    return lost


def test_each_is_to_the_bit_what_it_is_alone(alone: dict[str, dict[str, object]], tmp_path: Path,
                                             ) -> None:
    experiment = ready(tmp_path)
    assert together(tmp_path, experiment.runs) == {}
    for run in experiment.runs:
        assert left(run.folder(tmp_path)) == alone[run.variant]


def test_they_take_turns(tmp_path: Path) -> None:
    """Or a GPU would have the work of one of them at a time."""
    experiment = ready(tmp_path)
    together(tmp_path, experiment.runs)
    times = {run.variant: [json.loads(line)["t"] for line in (
        run.folder(tmp_path) / "journal.jsonl").read_text().splitlines()]
        for run in experiment.runs}
    assert max(own[0] for own in times.values()) < min(own[-1] for own in times.values())


def test_stopped_together_and_gone_on_with_alone(alone: dict[str, dict[str, object]],
                                                 tmp_path: Path) -> None:
    experiment = ready(tmp_path)
    assert together(tmp_path, experiment.runs, stop_after(7)) == {}
    for run in experiment.runs:
        assert (run.folder(tmp_path) / "checkpoint.pt").exists()
        assert run_one(run, tmp_path, tmp_path).status == "FINISHED"
        assert left(run.folder(tmp_path)) == alone[run.variant]


def test_one_that_raises_stops_no_other(alone: dict[str, dict[str, object]], tmp_path: Path,
                                        monkeypatch: pytest.MonkeyPatch) -> None:
    from gan_bench.training import loop

    def broken(*given: object) -> None:
        raise UserError("no picture today")

    experiment = ready(tmp_path)
    picture = sample_grid.sample_picture
    calls: list[int] = []

    def second_fails(samples: object) -> object:  # the picture of step 0 of the second run
        calls.append(1)
        return broken() if len(calls) == 2 else picture(samples)  # type: ignore[arg-type]

    monkeypatch.setattr(loop, "sample_picture", second_fails)
    assert together(tmp_path, experiment.runs) == {"dropout": "no picture today"}
    for run in experiment.runs:
        if run.variant != "dropout":
            assert left(run.folder(tmp_path)) == alone[run.variant]


def test_an_interrupt_of_one_ends_its_siblings_too(tmp_path: Path) -> None:
    experiment, asked = ready(tmp_path), itertools.count(1)

    def stop() -> bool:
        if next(asked) == 4:  # the first run's second step
            raise KeyboardInterrupt
        return False

    with pytest.raises(KeyboardInterrupt):
        together(tmp_path, experiment.runs, stop)
    for run in experiment.runs:
        folder = run.folder(tmp_path)
        end = reading.read_records(folder)[0][-1]
        assert (end["kind"], end["status"], end["why"]) == ("end", "KILLED", "stopped by the user")
        assert not reading.is_open(folder)
        assert not (folder / "final.safetensors").exists()


@pytest.mark.parametrize(("waiting", "slots", "busy", "pack", "shares"), [
    (8, 2, 0, 8, [4, 4]), (20, 4, 0, 8, [5, 5, 5, 5]), (3, 2, 0, 2, [2, 1]),
    (7, 4, 0, 8, [2, 2, 2, 1]), (20, 4, 2, 8, [8, 8]), (6, 4, 3, 8, [6]), (9, 4, 1, 2, [2, 2, 2]),
    (2, 4, 0, 8, [1, 1]), (4, 4, 0, 1, [1, 1, 1, 1]), (5, 2, 2, 8, []), (0, 3, 0, 8, [])])
def test_runs_are_shared_out_equally_over_the_free_slots(
        waiting: int, slots: int, busy: int, pack: int, shares: list[int]) -> None:
    assert crew.shares(waiting, slots - busy, pack) == shares


@pytest.mark.parametrize(("pack", "slots", "gpus", "each"), [
    (8, 2, 2, 8), (8, 1, 2, 8), (8, 4, 2, 4), (7, 4, 2, 3), (8, 3, 2, 4), (2, 8, 2, 1),
    (3, 5, 0, 3)])
def test_the_processes_of_a_gpu_together_have_no_more_runs_than_fit(
        pack: int, slots: int, gpus: int, each: int) -> None:
    """With 3 slots on 2 GPUs one has two processes: 8 runs fit on it, and not 2 × 5."""
    assert crew.runs_per_process(pack, slots, gpus) == each
    if 0 < gpus <= slots and pack >= slots:
        most = max(sum(slot % gpus == gpu for slot in range(slots)) for gpu in range(gpus))
        assert most * each <= pack < most * (each + 1)


def test_the_launcher_shares_runs_out_and_follows_them_all(
        alone: dict[str, dict[str, object]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str]) -> None:
    """Two processes for three runs; on the CPU nothing but this test asks for that."""
    experiment = ready(tmp_path)
    prepared = processes.Prepared(0, 2, {}, {})
    monkeypatch.setattr(preparation, "run_preparations", lambda *given: prepared)
    pids = []
    make = processes.WorkerProcess.__init__

    def noted(self: processes.WorkerProcess, context: object, runs: list[object],
              *more: object) -> None:
        pids.append(len(runs))
        make(self, context, runs, *more)  # type: ignore[arg-type]

    monkeypatch.setattr(processes.WorkerProcess, "__init__", noted)
    settings = LaunchSettings(Execution(Workspace(tmp_path, tmp_path)), 2, "")
    ended = launch.execute(experiment, settings, PlainLines(Console()))
    assert sorted(pids) == [1, 2]
    assert [run.state for run in ended.runs] == ["FINISHED"] * 3
    for run in experiment.runs:
        own = left(run.folder(tmp_path))
        assert own["records"] == alone[run.variant]["records"]
        assert own["weights"] == alone[run.variant]["weights"]
