"""What is left for another command or another machine, and has not failed."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path

import pytest
from helpers.journals import FACTS
from helpers.runs import write_experiment
from helpers.studies import here

from gan_bench.config.experiment import load_experiment
from gan_bench.errors import RUNS_LEFT
from gan_bench.journal.schema import Status
from gan_bench.journal.sharing.claims import Release
from gan_bench.journal.status import Progress
from gan_bench.journal.writing import Journal, claim_run
from gan_bench.launcher.grid import Grid
from gan_bench.launcher.launch import _left_runs


def test_a_run_that_was_killed_too_often_is_not_left_for_others(tmp_path: Path) -> None:
    spec = load_experiment(write_experiment(tmp_path), tmp_path, ["seeds=[0, 1, 2]"])
    runs = [Progress(run, run.write(tmp_path / "root")) for run in spec.runs]
    done, failed, exhausted, killed, stopped, waits = runs
    grid = Grid(runs, {}, 2, None, lambda run: None)
    for run, ends in ((done, [Release.DONE]), (failed, [Release.FAILED]),
                      (exhausted, 3 * [Release.KILLED]), (killed, 2 * [Release.KILLED]),
                      (stopped, [Release.DONE])):
        del grid.open[run.spec.id]
        for end in ends:
            claim_run(run.folder).release(end)
    done.state, failed.state = Status.FINISHED, Status.FAILED
    exhausted.state = killed.state = stopped.state = Status.KILLED
    assert _left_runs(runs, grid) == {killed.spec.id, stopped.spec.id, waits.spec.id}


@pytest.mark.process
@pytest.mark.parametrize("as_json", [False, True])
def test_runs_that_wait_for_another_machine_have_not_failed(tmp_path: Path, as_json: bool) -> None:
    """Each has begun on another kind of machine, and has a checkpoint."""
    file, root = write_experiment(tmp_path), tmp_path / "root"
    for run in load_experiment(file, tmp_path, ["seeds=[0]"]).runs:
        folder = run.write(root)
        with closing(Journal(folder)) as book:
            book.start(FACTS)
        (folder / "checkpoint.pt").write_bytes(b"a state of that machine")
    done = here("run", file, "--root", root, "--set", "seeds=[0]", *["--json"] * as_json)
    assert done.returncode == RUNS_LEFT, done.stdout + done.stderr
    left = "for a machine with some CPU (float32, 1 threads): 2 runs"
    if as_json:
        end = json.loads(done.stdout.splitlines()[-1])
        assert (end["event"], end["left"], end["failed"], end["untrained"]) == ("end", left, 0, 0)
    else:
        assert f"left: {left}" in done.stdout
        assert "0 of 2 runs are done. " in done.stdout
    worked = here("work", "tiny", "--root", root)
    assert worked.returncode == RUNS_LEFT
    assert f"0 of 2 runs that waited are over; left: {left}" in worked.stdout
