"""Runs and their weights, found by how their ids begin."""

from __future__ import annotations

from pathlib import Path

import pytest

from gan_bench.cli.results.sample import find_run as of_sample
from gan_bench.cli.running.evaluate import find_run as of_evaluate
from gan_bench.config.initial_weights import find_run
from gan_bench.errors import UserError
from gan_bench.journal.layout import WEIGHTS


def run(root: Path, experiment: str, name: str, *, trained: bool = False) -> Path:
    folder = root / "runs" / experiment / name
    folder.mkdir(parents=True)
    if trained:
        (folder / WEIGHTS).write_bytes(b"")
    return folder


@pytest.mark.parametrize("find", [find_run, of_evaluate, of_sample])
def test_the_folder_with_weights_comes_first(tmp_path: Path, find) -> None:
    first = run(tmp_path, "a", "abc0")
    assert find(tmp_path, "ab") == first
    second = run(tmp_path, "b", "abc0", trained=True)
    assert find(tmp_path, "ab") == second
    (first / WEIGHTS).write_bytes(b"")
    assert find(tmp_path, "ab") == first


@pytest.mark.parametrize("find", [find_run, of_evaluate, of_sample])
def test_none_and_several(tmp_path: Path, find) -> None:
    for experiment, name in (("a", "abc0"), ("b", "abc0"), ("b", "abc1")):
        run(tmp_path, experiment, name)
    with pytest.raises(UserError, match="the ids of 2 runs begin with 'abc': abc0, abc1; give mor"):
        find(tmp_path, "abc")
    for start in ("", "x", "*", "abc00", "x" * 5000):
        with pytest.raises(UserError, match="no run's id begins with "):
            find(tmp_path, start)
