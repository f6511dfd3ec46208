"""What a message advises fits the cause."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from gan_bench.errors import unwritable


@pytest.mark.parametrize(("number", "cure"), [
    (errno.ENOSPC, "make room"), (errno.EDQUOT, "make room"), (errno.EROFS, "make it writable"),
    (errno.EACCES, "make it writable"), (errno.EISDIR, "")])
def test_what_helps_follows_from_the_cause(number: int, cure: str) -> None:
    error = OSError(number, os.strerror(number))
    assert str(unwritable(Path("a/b"), error, verb="used")) == (
        f"a/b: cannot be used: {error.strerror}; {cure or 'move it away'}, then repeat the command")
    assert str(unwritable("--out a", error, elsewhere="choose another --out")) == (
        f"--out a: cannot be written: {error.strerror}; {cure + ', or ' if cure else ''}choose "
        f"another --out")
