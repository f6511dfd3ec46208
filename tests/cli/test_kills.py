"""SIGKILL at any instant of the commands beside `run`, the same command again: the same is left.

`make faults` does it 200 times.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.kill_parts import short_parts
from helpers.kills import Part, storm
from helpers.warm import Warm


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("kills")


@pytest.fixture(scope="module")
def parts(folder: Path, studies: Path) -> Iterator[dict[str, Part]]:
    with short_parts(folder, studies) as found:
        yield {part.name: part for part in found}


@pytest.fixture(scope="module")
def warm() -> Iterator[Warm]:
    process = Warm()
    yield process
    process.close()


@pytest.mark.long
@pytest.mark.parametrize("name", ["evaluate", "sync", "report", "preparation", "download"])
def test_a_killed_command_is_repeated_as_if_nothing_had_been(
        name: str, parts: dict[str, Part], warm: Warm, folder: Path) -> None:
    figures = storm(parts[name], 1, random.Random(name), warm, folder)
    assert figures.differences == []
    assert figures.kills == 1
