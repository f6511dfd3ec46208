"""SIGKILL at any instant, the same command again: the same bits. `make faults` does it for longer.
"""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest
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
