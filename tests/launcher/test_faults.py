"""SIGKILL at any instant, the same command again: the same bits. `make faults` does it for longer.
"""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest
from helpers import worker_faults
from helpers.faults import storm


@pytest.fixture(scope="module")
def folder(undisturbed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the experiment has been run without a disturbance, and others may be."""
    return Path(shutil.copytree(undisturbed, tmp_path_factory.mktemp("storm") / "folder"))


@pytest.mark.long
@pytest.mark.parametrize(("mode", "kills"), [("worker", 12), ("launcher", 2), ("both", 2)])
def test_killed_at_random_moments_nothing_is_lost_or_doubled(folder: Path, mode: str, kills: int,
                                                             ) -> None:
    figures = storm(folder, mode, kills, random.Random(kills))
    assert figures.differences == []
    assert figures.kills == kills
    assert figures.finished >= 1
    if mode == "worker":
        assert figures.in_checkpoint >= 3


@pytest.mark.long
@pytest.mark.parametrize(("workers", "mirrors"), [(2, True), (4, False)])
def test_workers_in_a_storm_leave_what_one_machine_leaves(tmp_path: Path, workers: int,
                                                          mirrors: bool) -> None:
    """Killed, frozen beyond the lease, on a disk that is full, without locks."""
    if not (shutil.which("cc") or shutil.which("gcc")):
        pytest.skip("there is no C compiler for the faults of the file system")
    worker_faults.prepare(tmp_path)
    seen, found = worker_faults.storm(tmp_path, "storm", workers, 12, random.Random(workers),
                                      mirrors)
    assert found == []
    assert seen.total() == 12
    assert len(seen) >= 3


@pytest.mark.long
def test_workers_in_a_storm_choose_and_confirm_what_one_machine_does(tmp_path: Path) -> None:
    """Half of the disturbances hit the second stage of the search."""
    if not (shutil.which("cc") or shutil.which("gcc")):
        pytest.skip("there is no C compiler for the faults of the file system")
    worker_faults.prepare(tmp_path, worker_faults.SEARCH)
    seen, found = worker_faults.storm(tmp_path, "storm", 2, 10, random.Random(3), mirrors=False)
    assert found == []
    assert 7 <= seen.total() <= 10  # a quick machine ends before the last of them
    assert len([*(tmp_path / "storm").glob("runs/storm/*/final.safetensors")]) == 4 + 4
