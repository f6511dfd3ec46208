"""Atomic writes: a file is complete, or it does not exist."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(file: Path, *, durable: bool = False) -> Iterator[Path]:
    """Yield a path to write to, which becomes `file` when the block ends without an exception.

    A reader sees the old file or the new one, even if the process is killed. The temporary file
    that a killed process leaves always has the same name, so the next attempt overwrites it.

    Args:
        file: Its folder must exist.
        durable: Whether the content must be on the disk before the file is renamed: a file that
            another file refers to has to survive a power cut.

    Raises:
        OSError: The file cannot be written; the old file has not changed.
    """
    temporary = file.with_name(f".{file.name}.tmp")
    if temporary.is_symlink():  # not ours: writing to it would write to another place
        temporary.unlink()
    try:
        yield temporary
        if durable:
            fsync_path(temporary)
        temporary.replace(file)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if durable:
        fsync_path(file.parent)  # the name is part of the folder


def fsync_path(path: Path) -> None:
    """Wait until a file's content, or a folder's names, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
