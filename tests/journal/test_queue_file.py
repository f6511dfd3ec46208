"""The queue of an experiment: what workers that start later are to train."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.runs import write_experiment

from gan_bench.config.experiment import load_experiment
from gan_bench.journal.claims import take
from gan_bench.journal.layout import Execution, Workspace
from gan_bench.journal.queue_file import open_runs, read_queue, write_queue, write_specs
from gan_bench.journal.status import Progress
from gan_bench.launcher.launch import study_of_queue


@pytest.fixture
def runs(tmp_path: Path) -> list[Progress]:
    """The four runs of the tiny experiment, whose folders there are."""
    spec = load_experiment(write_experiment(tmp_path), tmp_path)
    return [Progress(run, run.write(tmp_path / "root")) for run in spec.runs]


def write(runs: list[Progress], retries: int = 2) -> int:
    root = runs[0].folder.parents[2]
    begun = write_specs(runs, root)
    return write_queue(runs[0].folder.parent, runs, begun, Execution(Workspace(root, root)),
                       retries, 1)


def test_a_command_for_a_part_takes_nothing_from_workers(runs: list[Progress]) -> None:
    home = runs[0].folder.parent
    assert write(runs) == 0
    claim = take(runs[0].folder)
    (runs[3].folder / "final.safetensors").touch()
    (runs[3].folder / "journal.jsonl").write_text(
        '{"t": 1, "kind": "end", "step": 6, "status": "FINISHED", "why": ""}\n')
    assert write(runs[:1], retries=5) == 2  # all but that run and the finished one
    queue = read_queue(home)
    assert open_runs(queue, home) == [run.spec.id for run in (runs[1], runs[2], runs[0])]
    assert queue.begun[runs[0].spec.id] == 1
    assert queue.retries == 5
    claim.release()
    assert write(runs[:1]) == 0  # nobody works on the others: the newest command says what is asked
    assert open_runs(read_queue(home), home) == [runs[0].spec.id]


def test_a_damaged_run_is_left_out_and_named(runs: list[Progress]) -> None:
    home = runs[0].folder.parent
    write(runs)
    (runs[1].folder / "journal.jsonl").write_text("\0\0\0\n")
    study = study_of_queue(home, read_queue(home))
    assert [run.spec.id for run in study.waiting] == [
        run.spec.id for run in runs if run is not runs[1]]
    damaged, = (run for run in study.runs if run not in study.waiting)
    assert (damaged.spec.id, damaged.state) == (runs[1].spec.id, "FAILED")
    assert f"{runs[1].folder / 'journal.jsonl'}: line 1" in damaged.why
