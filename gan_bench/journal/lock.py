"""The lock of an experiment's folder, which keeps a second launcher out."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from gan_bench.errors import DamagedError, UserError, unwritable
from gan_bench.journal import writing
from gan_bench.journal.file_locks import try_lock
from gan_bench.journal.layout import make_folder, run_folders
from gan_bench.journal.schema import Status

LOCK = "lock"  # the file in an experiment's folder
PATIENCE = 1.0  # seconds: `is_locked` of other processes holds the lock for a moment
TRIES = 20  # to lock a file that other processes remove at the same time


@contextmanager
def locked(experiment: Path) -> Iterator[None]:
    """Hold the lock of an experiment's folder, and record the end of a dead launcher's runs.

    Raises:
        UserError: Another process holds the lock (two launchers would train the same runs), or the
            folder cannot be used, or its file system has no locks.
    """
    with _locked_file(experiment) as file:
        try:
            _write_holder(file, experiment)
            for folder in run_folders(experiment):
                with suppress(DamagedError):  # a command that reads this run reports it
                    writing.settle_run(folder, Status.KILLED, "its process died without a word")
            yield
        finally:
            if os.listdir(experiment) == [LOCK]:  # a start that was refused leaves nothing
                (experiment / LOCK).unlink()
                with suppress(OSError):  # another process has begun in it meanwhile
                    experiment.rmdir()


def _write_holder(file: IO[str], experiment: Path) -> None:
    """Write which process holds the lock; without a buffer, which would be written once more."""
    try:
        os.ftruncate(file.fileno(), 0)
        os.write(file.fileno(), str(os.getpid()).encode())
    except OSError as error:
        raise unwritable(experiment / LOCK, error) from None


def _locked_file(experiment: Path) -> IO[str]:
    """Return the open file that this process has locked."""
    deadline = time.monotonic() + PATIENCE
    for last_try in (*[False] * TRIES, True):
        try:  # the last holder may remove file and folder meanwhile
            make_folder(experiment)
            file = _lock_file(experiment)
        except (FileNotFoundError, UserError):
            if last_try:
                raise
            continue
        try:
            while not try_lock(file.fileno(), experiment / LOCK):
                if time.monotonic() < deadline:
                    time.sleep(0.01)
                    continue
                file.seek(0)
                process = file.read(20).strip()
                holder = f"process {process}" if process else "another process"
                raise UserError(f"{experiment.name} is already being run by {holder}; wait for it "
                                f"or stop it")
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(file.fileno()), os.stat(experiment / LOCK)):
                    return file
        except BaseException:
            file.close()
            raise
        file.close()
    raise UserError(f"{experiment.name} is already being run by another process; wait for it or "
                    f"stop it")


def is_locked(experiment: Path) -> bool:
    """Whether another process holds the lock of an experiment's folder. Nothing is written."""
    with suppress(OSError, UserError):  # no lock file, another user keeps it closed, or no locks
        descriptor = os.open(experiment / "lock", os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            return not try_lock(descriptor, experiment / "lock", shared=True)
        finally:
            os.close(descriptor)
    return False


def _lock_file(experiment: Path) -> IO[str]:
    try:
        descriptor = os.open(experiment / LOCK, os.O_RDWR | os.O_CREAT | os.O_APPEND
                             | os.O_NOFOLLOW | os.O_NONBLOCK, 0o644)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise unwritable(experiment / LOCK, error, verb="used") from None
    return os.fdopen(descriptor, "a+", errors="replace")
