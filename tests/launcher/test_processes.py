"""What is said when a process that prepares an experiment, or looks at a machine, is killed."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from helpers.forked import forking
from helpers.runs import write_experiment
from rich.console import Console

from gan_bench.config.experiment import load_experiment
from gan_bench.errors import UserError
from gan_bench.journal.layout import Execution, Workspace
from gan_bench.launcher import worker
from gan_bench.launcher.processes import look_at_machine, run_preparations
from gan_bench.launcher.reporters import PlainLines

pytestmark = pytest.mark.process


def die(*arguments: object) -> None:
    """Do as a process that is killed when memory runs out."""
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_process_that_is_killed_is_called_by_what_it_does(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = load_experiment(write_experiment(tmp_path), tmp_path)
    execution, context = Execution(Workspace(tmp_path / "root", tmp_path)), forking()
    monkeypatch.setattr(worker, "look_in_process", die)
    monkeypatch.setattr(worker, "prepare_in_process", die)
    with pytest.raises(UserError, match=r"^the process that looks at this machine was killed; "):
        look_at_machine([spec.runs[0]], execution, 0, context, print)
    with pytest.raises(UserError, match=r"^the process that prepares the experiment was killed; "):
        run_preparations(spec, execution, context, PlainLines(Console(quiet=True)))


def test_a_process_whose_launcher_is_dead_ends_without_a_traceback(
        tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """There is nobody left who hears the answer, or that it cannot be given."""
    spec = load_experiment(write_experiment(tmp_path), tmp_path)
    spec.runs[0].write(tmp_path / "root")
    context = forking()
    ours, theirs = context.Pipe()
    ours.close()
    execution = Execution(Workspace(tmp_path / "root", tmp_path))
    one = spec.model_copy(update={"runs": spec.runs[:1]})
    process = context.Process(target=worker.look_in_process, args=(one, execution, 1, theirs))
    process.start()
    process.join(60)
    assert process.exitcode == 0
    assert "Traceback" not in capfd.readouterr().err
