"""Locks of open files (flock), which end with the process that holds them."""

from __future__ import annotations

import errno
import fcntl
from pathlib import Path

from gan_bench.errors import UserError

# Lustre without the mount option, some FUSE and network file systems.
WITHOUT_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP}


def try_lock(descriptor: int, file: Path, shared: bool = False) -> bool:
    """Lock an open file without waiting; return False if another process holds its lock.

    Args:
        descriptor: Of the open file.
        file: Its path, for messages.
        shared: Whether other processes may hold the lock too.

    Raises:
        UserError: The file system has no locks.
        OSError: It cannot be locked for another reason.
    """
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno in WITHOUT_LOCKS:
            raise UserError(f"{file}: the file system has no file locks ({error.strerror}; mount "
                            f"Lustre with -o flock); choose another --root") from None
        raise OSError(error.errno, error.strerror, str(file)) from None
    return True
