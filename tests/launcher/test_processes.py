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
