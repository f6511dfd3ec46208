"""SIGKILL at any instant, the same command again: the same bits. `make faults` does it for longer.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from faults import run_undisturbed, storm


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the experiment has been run without a disturbance."""
    folder = tmp_path_factory.mktemp("storm")
    run_undisturbed(folder)
    return folder


@pytest.mark.parametrize(("mode", "kills"), [("worker", 30), ("launcher", 5), ("both", 5)])
def test_killed_at_random_moments_nothing_is_lost_or_doubled(folder: Path, mode: str, kills: int,
                                                             ) -> None:
    figures = storm(folder, mode, kills, random.Random(kills))
    assert figures.differences == []
    assert figures.kills == kills
    assert figures.finished >= 1
    if mode == "worker":
        assert figures.in_checkpoint >= 5
