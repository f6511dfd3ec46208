"""The runs of an experiment that several processes work on."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.journals import new_run

from gan_bench.journal.claims import Release, Watch
from gan_bench.journal.layout import WEIGHTS
from gan_bench.journal.schema import Status
from gan_bench.journal.spec_file import read_spec
from gan_bench.journal.status import Progress
from gan_bench.journal.writing import Journal, claim_run
from gan_bench.launcher.grid import Grid


@pytest.mark.parametrize(("status", "release", "why"), [
    (Status.FINISHED, Release.DONE, ""), (Status.FAILED, Release.FAILED, "boom")])
def test_a_run_whose_end_is_read_before_its_claim_is_released_has_ended(
        tmp_path: Path, status: Status, release: Release, why: str) -> None:
    folder = new_run(tmp_path)
    run = Progress(read_spec(folder), folder)
    seen: list[Status] = []
    grid = Grid([run], {}, 2, None, lambda run: seen.append(run.state))
    claim = claim_run(folder, Watch(), "")
    book = Journal(folder, claim)
    book.start({"versions": {}})
    grid.follow()
    assert (run.state, list(grid.elsewhere)) == (Status.RUNNING, [run.spec.id])
    (folder / WEIGHTS).write_bytes(b"weights")
    book.end(status, why)
    grid.follow()  # the worker has yet to release it
    assert (run.state, list(grid.elsewhere)) == (Status.RUNNING, [run.spec.id])
    claim.release(release)
    grid.follow()
    assert (run.state, run.why) == (status, why)
    assert (grid.open, grid.elsewhere) == ({}, {})
    assert seen[-1] == status
