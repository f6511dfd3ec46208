"""The lock of an experiment's folder."""

from __future__ import annotations

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


def test_a_link_is_no_lock(tmp_path: Path) -> None:
    with locked(tmp_path / "study"):
        (tmp_path / "other").mkdir()
        (tmp_path / "other" / "lock").symlink_to(tmp_path / "study" / "lock")
        assert not is_locked(tmp_path / "other")
