"""Atomic writes: a file is complete, or it does not exist."""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import socket
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path

from gan_bench.machine import boot_id, process_start

STALE_AFTER = 3600  # seconds without a change in the folder of a process that lives
LONGEST = 224  # bytes of a name that its temporary files contain as it is
_TEMPORARY = re.compile(r"\.(.+?)(?:\.([0-9a-f]{8})-([0-9]+))?\.tmp")
_locks: set[int] = set()  # descriptors of the scratch folders of this process


def _close_locks() -> None:
    """Close what a fork has copied: a child that outlives its killed parent would keep the lock."""
    for descriptor in _locks:
        os.close(descriptor)
    _locks.clear()


os.register_at_fork(after_in_child=_close_locks)


@contextmanager
def replacing(file: Path, *, durable: bool = False) -> Iterator[Path]:
    """Yield a path to write to, which becomes `file` when the block ends without an exception.

    A reader sees the old file or the new one, even if the process is killed. The temporary file's
    name says which process writes it: one that has been replaced, and does not know it yet, may
    write the same file at the same time. What a killed process leaves is removed by the next one
    that writes the file. The file has the mode that any new file has, whatever the writer makes of
    it.

    Args:
        file: Its folder must exist.
        durable: Whether the content must be on the disk before the file is renamed: a file that
            another file refers to has to survive a power cut.

    Raises:
        OSError: The file cannot be written; the old file has not changed.
    """
    _remove_left(file)
    temporary = file.with_name(f".{_stem(file.name)}.{_this_start()}-{os.getpid()}.tmp")
    if temporary.is_symlink():  # not ours: writing to it would write to another place
        temporary.unlink()
    try:
        mode = _create(temporary)
        yield temporary
        temporary.chmod(mode)
        if durable:
            fsync_path(temporary)
        temporary.replace(file)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if durable:
        fsync_path(file.parent)  # the name is part of the folder


def final_name(temporary: str) -> str:
    """Return the name that a temporary file is to have; empty if it is no temporary file.

    Of a name longer than `LONGEST` it is a hash.
    """
    match = _TEMPORARY.fullmatch(temporary)
    return match[1] if match else ""


def _stem(name: str) -> str:
    """Return a file's name as those of its temporary files contain it; of a long one a hash.

    They are longer by up to 25 bytes, and file systems allow 255.
    """
    encoded = os.fsencode(name)
    return name if len(encoded) <= LONGEST else hashlib.sha256(encoded).hexdigest()


def _remove_left(file: Path) -> None:
    """Remove the temporary files of a file whose processes were killed.

    Those of this machine if the process has ended; those of other machines, of earlier starts of
    this one, and of earlier versions, if they have not changed for an hour, by the clock of the
    machine that keeps the folder.
    """
    now = 0.0
    with suppress(OSError):
        for name in os.listdir(file.parent):
            match = _TEMPORARY.fullmatch(name)
            if match is None or match[1] != _stem(file.name):
                continue
            left = file.with_name(name)
            with suppress(OSError):  # another process is removing it
                if match[2] == _this_start():
                    is_left = not process_start(int(match[3]))
                else:
                    now = now or _time_there(file.parent)
                    is_left = now - left.lstat().st_mtime > STALE_AFTER
                if is_left:
                    left.unlink()


def _time_there(folder: Path) -> float:
    """Return the time by the clock of the machine that keeps a folder, in seconds since 1970.

    Raises:
        OSError: It cannot be written.
    """
    with tempfile.TemporaryFile(dir=folder) as probe:
        return os.fstat(probe.fileno()).st_mtime


@lru_cache
def _this_start() -> str:
    """Return what stands for this start of this machine in the names of temporary files."""
    return hashlib.sha256(boot_id().encode()).hexdigest()[:8]


def _create(file: Path) -> int:
    """Create an empty file; return the mode that the umask gives it."""
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    try:
        return os.fstat(descriptor).st_mode & 0o777
    finally:
        os.close(descriptor)


def fsync_path(path: Path) -> None:
    """Wait until a file's content, or a folder's names, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def scratch_folder(parent: Path, prefix: str) -> Iterator[Path]:
    """Yield an empty folder in `parent`, whose content moves to its place when it is complete.

    It is removed when the block ends. A killed process leaves its folder, and the next one that
    calls this removes it: a folder in use is locked. Its name says on which machine, as locks may
    hold there alone.

    Args:
        parent: An existing folder.
        prefix: How the name begins; the same for all folders that replace each other.

    Raises:
        OSError: The folder cannot be created.
    """
    remove_abandoned(parent, prefix)
    folder, descriptor = _locked_folder(parent, prefix)
    _locks.add(descriptor)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if descriptor in _locks:  # not in a forked child
            _locks.remove(descriptor)
            os.close(descriptor)


def remove_abandoned(parent: Path, prefix: str) -> None:
    """Remove the scratch folders of killed processes.

    Those of this machine if they are not locked; on a file system that cannot lock folders, they
    stay. Those of other machines, and of earlier versions, if nobody has written there for an hour.
    """
    names = re.compile(re.escape(prefix) + "([0-9a-f]{8})[0-9a-f]{24}|" + re.escape(prefix)
                       + "[a-z0-9_]{8}")  # of earlier versions, without locks
    with suppress(OSError):
        for folder in list(parent.iterdir()):
            match = names.fullmatch(folder.name)
            if match is None or folder.is_symlink() or not folder.is_dir():
                continue
            if match[1] != this_machine():
                _remove_stale(folder)
                continue
            with suppress(OSError):
                descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(folder, ignore_errors=True)
                finally:
                    os.close(descriptor)


def _remove_stale(folder: Path) -> None:
    """Remove a folder in which nothing has changed for a long time."""
    try:
        changed = max(path.lstat().st_mtime for path in (folder, *folder.rglob("*")))
        now = _time_there(folder.parent)
    except OSError:  # another process is removing it, or the parent cannot be written
        return
    if now - changed > STALE_AFTER:
        shutil.rmtree(folder, ignore_errors=True)


def this_machine() -> str:
    """Return what stands for this machine in the names of scratch folders."""
    return hashlib.sha256(socket.gethostname().encode()).hexdigest()[:8]


def _locked_folder(parent: Path, prefix: str) -> tuple[Path, int]:
    """Create a scratch folder; return it and the descriptor that holds its lock."""
    while True:
        folder = parent / f"{prefix}{this_machine()}{uuid.uuid4().hex[:24]}"
        folder.mkdir()
        with suppress(FileNotFoundError):  # removed by another process before it was locked
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            with suppress(OSError):  # the file system cannot lock folders
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            if folder.exists():
                return folder, descriptor
            os.close(descriptor)
