"""What MLflow receives is on the disk before."""

from __future__ import annotations

import errno
from pathlib import Path

from gan_bench.atomic import fsync_path
from gan_bench.journal.segments import JOURNAL_FILES
from gan_bench.tracking.store.client import MirrorError

# What some file systems answer that have nothing to sync, or only folders that cannot be.
UNSYNCED = {errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EROFS, errno.EACCES, errno.EISDIR}


def make_durable(folder: Path, is_new: bool) -> None:
    """Wait until the records that were read are on the disk, of every journal file of the run.

    A machine that dies before loses them. The run then repeats them at other times, and MLflow,
    which has the first ones, would have them twice. (On a network file system, what another machine
    has written can be read here once its server has it.)

    Args:
        folder: The run's.
        is_new: Whether MLflow has nothing of the run yet: then the names of its folders count too.

    Raises:
        MirrorError: They cannot be written.
    """
    names = (folder, folder.parent, folder.parent.parent) if is_new else ()
    for path in (*sorted(folder.glob(JOURNAL_FILES)), *names):
        try:
            fsync_path(path)
        except OSError as error:
            if error.errno in UNSYNCED:
                continue
            raise MirrorError(f"{path}: cannot be written to the disk: {error.strerror}; MLflow "
                              f"receives its records once they are there") from error
