"""Files that are there whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(file: Path, *, durable: bool = False) -> Iterator[Path]:
    """Yield a path to write to, which becomes `file` when the block ends without an exception.

    A reader sees the old file or the new one, however the process dies. What a killed process
    leaves behind has the same name every time, so the next attempt writes over it.

    Args:
        file: Its folder must be there.
        durable: Whether it must be on the disk itself before it gets its name: a file that another
            one will speak of has to survive a loss of power too.

    Raises:
        OSError: It cannot be written; the old file is as it was.
    """
    temporary = file.with_name(f".{file.name}.tmp")
    if temporary.is_symlink():  # nothing of ours: writing to it would write somewhere else
        temporary.unlink()
    try:
        yield temporary
        if durable:
            sync(temporary)
        temporary.replace(file)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if durable:
        sync(file.parent)  # the name is part of the folder


def sync(path: Path) -> None:
    """Wait until a file's content, or a folder's names, are on the disk itself."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
