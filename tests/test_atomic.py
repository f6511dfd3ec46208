"""Files that are whole or not there, and what killed processes leave."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gan_bench.atomic import STALE_AFTER, remove_stale, replacing


def test_a_file_has_the_mode_of_any_new_file(tmp_path: Path) -> None:
    """Also if its writer makes one that only the owner can read, as safetensors does."""
    before = os.umask(0o027)
    try:
        with replacing(tmp_path / "a") as temporary:
            temporary.unlink()
            temporary.touch(mode=0o600)
            temporary.write_text("whole")
        (tmp_path / "b").write_text("")
    finally:
        os.umask(before)
    modes = [(tmp_path / name).stat().st_mode & 0o777 for name in ("a", "b")]
    assert modes == [0o640, 0o640]
    assert (tmp_path / "a").read_text() == "whole"


def test_a_write_that_fails_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), replacing(tmp_path / "a"):
        _ = 1 / 0
    assert list(tmp_path.iterdir()) == []


def test_only_folders_of_processes_that_died_are_removed(tmp_path: Path) -> None:
    old = STALE_AFTER + 60
    made = {".mlflow-abcd_123": old, ".mlflow-abcd_124": old, ".mlflow-notes": old,
            ".mlflow-abcdefg9": 10, "elsewhere": old, ".download-abcd_123": old}
    for name, age in made.items():
        (tmp_path / name / "in").mkdir(parents=True)
        (tmp_path / name / "in" / "file").write_text("")
        for path in ("in/file", "in", "."):
            when = (tmp_path / name / "in" / "file").stat().st_ctime - age
            os.utime(tmp_path / name / path, (when, when))
    (tmp_path / ".mlflow-abcd_124" / "in" / "file").touch()  # a process still writes there
    (tmp_path / ".mlflow-abcd_125").symlink_to("elsewhere")
    (tmp_path / ".mlflow-abcd_126").write_text("a file")
    remove_stale(tmp_path, ".mlflow-")
    assert {path.name for path in tmp_path.iterdir()} == {
        *made, ".mlflow-abcd_125", ".mlflow-abcd_126"} - {".mlflow-abcd_123"}
    assert (tmp_path / "elsewhere" / "in" / "file").exists()
