"""Signals that SLURM sends to all processes of a job at once, and where nothing is trained."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.launching import GAN_BENCH
from helpers.runs import DIGITS, a_run, write_experiment

from gan_bench.config.experiment import load_experiment
from gan_bench.errors import UserError
from gan_bench.hardware import has_gpu
from gan_bench.journal import reading
from gan_bench.journal.layout import Execution, Workspace, checkpoint_files
from gan_bench.journal.sharing.claims import Release, newest_claim
from gan_bench.launcher.processes import fork_context, look_at_machine, run_preparations
from gan_bench.launcher.reporters import JsonLines

pytestmark = pytest.mark.process
LONG = DIGITS.replace("steps: 6", "steps: 100000").replace("every: 3", "every: 100000")


def wait_for(condition: Callable[[], object], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_the_warning_before_a_time_limit_reaches_all_processes_and_ends_none_by_force(
        tmp_path: Path) -> None:
    file, root = write_experiment(tmp_path, LONG), tmp_path / "root"
    with (tmp_path / "log").open("wb") as log:
        worker = subprocess.Popen([*GAN_BENCH, "work", str(file), "--root", str(root),
                                   "--slots", "2"], stdout=log, stderr=log, start_new_session=True)
    try:
        wait_for(lambda: len(list(root.glob("runs/tiny/*/journal.jsonl"))) == 2)
        folders = [path.parent for path in root.glob("runs/tiny/*/journal.jsonl")]
        wait_for(lambda: all((record := reading.last(folder)) and record["step"] >= 4
                             for folder in folders))
        os.killpg(worker.pid, signal.SIGUSR1)
        assert worker.wait(60) == 128 + signal.SIGUSR1, (tmp_path / "log").read_text()
    finally:
        worker.kill()
    for folder in folders:
        state, last = newest_claim(folder), reading.last(folder)
        assert state is not None
        assert last is not None
        assert (state.release, last["kind"], last["status"]) == (Release.DONE, "end", "KILLED")
        assert last["why"] == "stopped by the user"
        assert checkpoint_files(folder)
    assert "Traceback" not in (tmp_path / "log").read_text()


@pytest.mark.skipif(has_gpu(), reason="this machine has a GPU")
def test_a_machine_that_trains_nothing_prepares_for_those_that_do(tmp_path: Path) -> None:
    file = write_experiment(tmp_path, DIGITS.replace("device: cpu", "device: cuda"))
    spec = load_experiment(file, tmp_path)
    execution, context = Execution(Workspace(tmp_path / "root", tmp_path)), fork_context(1)
    prepared = run_preparations(spec, execution, context, JsonLines(), trains=False)
    assert (prepared.gpus, prepared.together, prepared.here) == (0, 0, {})
    with pytest.raises(UserError, match="torch sees no CUDA device"):
        run_preparations(spec, execution, context, JsonLines())


@pytest.mark.parametrize("together", [0, 8])
def test_each_machine_knows_how_many_runs_share_a_process_there(tmp_path: Path, together: int,
                                                                ) -> None:
    spec, execution = a_run(tmp_path), Execution(Workspace(tmp_path / "root", tmp_path))
    gpus, here, found = look_at_machine([spec], execution, together, fork_context(1), str)
    assert (gpus, found) == (0, 1)
    assert here["device"] == "cpu"
