"""The lock of an experiment's folder."""

from __future__ import annotations

import fcntl
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from gan_bench.errors import UserError
from gan_bench.journal.lock import is_locked, locked


def test_a_lock_is_seen_without_being_taken(tmp_path: Path) -> None:
    home = tmp_path / "study"
    assert not is_locked(home)
    assert not home.exists()
    with locked(home):
        assert is_locked(home)
        with pytest.raises(UserError, match="study is already being run by process"), locked(home):
            pass
    assert not is_locked(home)
    with locked(home):  # looking at it has left no lock behind
        pass


def test_a_look_at_the_lock_does_not_refuse_a_launcher(tmp_path: Path) -> None:
    """Whoever looks holds a shared lock for a moment; a lock that is kept refuses."""
    home = tmp_path / "study"
    home.mkdir()
    with (home / "lock").open("a") as look:
        fcntl.flock(look, fcntl.LOCK_SH)
        timer = threading.Timer(0.3, fcntl.flock, (look, fcntl.LOCK_UN))
        timer.start()
        with locked(home):
            assert is_locked(home)
        timer.join()
    home.mkdir()
    with (home / "lock").open("a") as look:
        fcntl.flock(look, fcntl.LOCK_SH)
        began = time.monotonic()
        with pytest.raises(UserError, match="study is already being run"), locked(home):
            pass
        assert 0.9 < time.monotonic() - began < 10


def test_a_folder_with_nothing_but_the_lock_is_removed(tmp_path: Path) -> None:
    """By the process that holds the lock; what lies there stays."""
    home = tmp_path / "study"
    with locked(home):
        assert [path.name for path in home.iterdir()] == ["lock"]
    assert list(tmp_path.iterdir()) == []
    with locked(home):
        (home / "about.json").write_text("{}")
    assert {path.name for path in home.iterdir()} == {"lock", "about.json"}


def test_a_folder_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    with (pytest.raises(UserError, match="none/study: cannot be used: No such file"),
          locked(tmp_path / "none" / "study")):
        pass


def test_a_lock_that_its_holder_has_removed_is_made_again(tmp_path: Path) -> None:
    """Two processes begin and are refused again and again: never do both hold the lock."""
    code = f"""
import os, sys
from pathlib import Path
from gan_bench.errors import UserError
from gan_bench.journal.lock import locked
held = 0
for _ in range(2000):
    try:
        with locked(Path({str(tmp_path)!r}) / "study"):
            os.close(os.open({str(tmp_path / "alone")!r}, os.O_CREAT | os.O_EXCL))
            os.unlink({str(tmp_path / "alone")!r})
            held += 1
    except UserError as error:
        assert "already being run" in str(error), error
sys.exit(0 if held else 1)
"""
    both = [subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True)
            for _ in range(2)]
    errors = [process.communicate(timeout=120)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], errors
    assert list(tmp_path.iterdir()) == []


def test_a_link_is_no_lock(tmp_path: Path) -> None:
    with locked(tmp_path / "study"):
        (tmp_path / "other").mkdir()
        (tmp_path / "other" / "lock").symlink_to(tmp_path / "study" / "lock")
        assert not is_locked(tmp_path / "other")
