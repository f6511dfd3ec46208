"""A user without root's privileges, for tests of files that cannot be read or written."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def open_folder() -> Iterator[Path]:
    """Yield a folder open to all; on leaving, restore the privileges and remove the folder."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    uid = os.geteuid()
    try:
        yield folder
    finally:
        if os.geteuid() != uid:
            os.seteuid(uid)
        folder.chmod(0o755)
        shutil.rmtree(folder)


def drop_privileges() -> None:
    """Continue as another user: root may read and write anywhere."""
    if os.geteuid() == 0:
        os.seteuid(65534)
