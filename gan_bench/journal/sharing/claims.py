"""Claims: which process writes a run's files, without locks that a network file system may ignore.

Attempt n of a run begins with the file `attempt.<n>` in its folder. It is made complete under a
private name and then linked, which only one process can do. So n is a fencing token: every file of
an attempt names it, and what an earlier attempt writes later counts for nothing.

The file's first line says who holds the claim. The second one, of fixed width, is rewritten by the
holder: a heartbeat that counts up, or how the attempt ended. Clocks of two machines are never
compared: another machine's holder is lost if its heartbeat stands still for `lease()` seconds of
the watcher's own clock. `Watch` remembers what it has seen. A holder on this machine is lost as
soon as its process is gone.

Claims under other names are the leases of an experiment or of a root: see `lock.py` beside this.
"""

from __future__ import annotations

import errno
import json
import os
import re
import socket
import threading
import time
import uuid
from contextlib import nullcontext, suppress
from dataclasses import asdict, dataclass
from enum import StrEnum
from functools import lru_cache
from pathlib import Path
from typing import Any

from gan_bench.errors import UserError, printable, unwritable
from gan_bench.machine import UNKNOWN, boot_id, process_start

ATTEMPT = "attempt"  # the name of a run's claims
LEASE = 120.0  # seconds; caches of network file systems are older by at most 60
LEASE_VARIABLE = "GAN_BENCH_LEASE"  # another number of seconds
LEASES = 1.0, 86400.0  # the least and the most
BEATS = 12  # heartbeats in a lease
WITHOUT_LINKS = {errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EMLINK}
WIDTH = 24  # bytes of the second line, with its end


class Release(StrEnum):
    """How an attempt ended, as its claim says."""

    DONE = "done"  # a result, a run that was stopped, or a lease that was given back
    FAILED = "failed"  # the program raised
    KILLED = "killed"  # a signal ended the process that trained


class SupersededError(UserError):
    """Another process has taken over what this one holds: it must write no more."""


class ClaimedError(UserError):
    """Another process holds the claim."""

    def __init__(self, line: str, holder: Holder) -> None:
        super().__init__(line)
        self.holder = holder


class UnreadableClaimError(UserError):
    """The newest claim cannot be read: nobody can tell whether its holder lives."""


@dataclass(frozen=True)
class Holder:
    """Who holds a claim.

    Attributes:
        host: The machine's name.
        boot: Tells one start of one machine, and one namespace of processes, from any other.
        pid: Of the process there.
        started: When the process started, in clock ticks since the boot; another process of the
            same number started later.
        since: When the claim was made, by the machine's clock, in ms since 1970.
        job: The batch job of the process; empty if there is none.
        hardware: What the numbers of its runs depend on; empty if it does not say.
        inode: Of the file of the claim; a copy of a root holds copies, which claim nothing.
    """

    host: str
    boot: str
    pid: int
    started: int
    since: int
    job: str = ""
    hardware: str = ""
    inode: int = 0

    @property
    def is_here(self) -> bool:
        """Whether the process was started on this machine since it was booted."""
        return self.boot == boot_id()

    def __str__(self) -> str:
        """Return `process 71`, with its machine if that is another one."""
        job = f" (job {self.job})" if self.job else ""
        return printable(f"process {self.pid}{job}" + ("" if self.is_here else f" on {self.host}"))


@dataclass(frozen=True)
class ClaimState:
    """The newest claim of a folder, as its file says.

    Attributes:
        attempt: Its number.
        holder: Who made it; None if the file says nothing sound.
        beat: The second line: a heartbeat, or how the attempt ended.
        inode: Of the file.
        unreadable: Why the file cannot be read; empty if it can. Its holder may live.
    """

    attempt: int
    holder: Holder | None
    beat: str
    inode: int
    unreadable: str = ""

    @property
    def release(self) -> Release | None:
        """How the attempt ended; None if its holder has not said so."""
        return Release(self.beat) if self.beat in set(Release) else None

    @property
    def is_gone(self) -> bool:
        """Whether the attempt has ended for sure: released, or its process on this machine is gone.
        """
        if self.unreadable:
            return False
        if self.release or self.holder is None:
            return True
        if not self.holder.is_here:
            return False
        return (self.holder.inode != self.inode
                or process_start(self.holder.pid) not in (self.holder.started, UNKNOWN))


class Watch:
    """Judges whether holders on other machines live, by this machine's monotonic clock."""

    def __init__(self) -> None:
        self._seen: dict[tuple[Path, str], tuple[tuple[int, str], float]] = {}

    def is_lost(self, folder: Path, state: ClaimState, name: str = ATTEMPT) -> bool:
        """Whether nothing more comes from the holder, as far as this watch has seen."""
        if state.is_gone:
            return True
        if state.unreadable:
            return False
        now, sign = time.monotonic(), (state.attempt, state.beat)
        seen, since = self._seen.get((folder, name), (None, now))
        if seen != sign:
            self._seen[folder, name] = sign, now
            return False
        return now - since > lease()


class Claim:
    """A claim that this process, or the process that started it, holds.

    Args:
        descriptor: Of the open file of the claim; None in another process than the holder.

    Attributes:
        folder, name, attempt: The file of the claim is `<folder>/<name>.<attempt>`.
    """

    def __init__(self, folder: Path, attempt: int, name: str = ATTEMPT,
                 descriptor: int | None = None) -> None:
        self.folder, self.attempt, self.name = folder, attempt, name
        self._file = folder / f"{name}.{attempt}"
        self._next = str(folder / f"{name}.{attempt + 1}")
        self._fd, self._beats = descriptor, 0
        self._offset = 0
        # Of the second line: no heartbeat follows a release. Other processes write none.
        self._lock = nullcontext() if descriptor is None else threading.Lock()
        if descriptor is not None:
            self._offset = os.fstat(descriptor).st_size - WIDTH
            _beater.add(self)

    def refuse_superseded(self) -> None:
        """Raise if another process has taken over.

        Raises:
            SupersededError: It has.
        """
        if os.path.lexists(self._next) or not os.path.lexists(self._file):
            raise SupersededError(f"{self.folder}: another process has taken over; this one "
                                  f"writes no more")

    def handed_on(self) -> Claim:
        """Return the claim as a process has it that this one starts and outlives."""
        return Claim(self.folder, self.attempt, self.name)

    def beat(self) -> None:
        """Show that the holder lives, to other machines too: a client of a network file system may
        keep for long what is not synced."""
        with self._lock, suppress(OSError):
            if self._fd is not None:
                self._beats += 1
                self._write(self._fd, f"{self._beats:012d}")
                os.fdatasync(self._fd)

    def release(self, how: Release = Release.DONE) -> None:
        """Say how the attempt ended; another process may take the next one."""
        _beater.remove(self)
        with self._lock:
            descriptor, self._fd = self._fd, None
            if descriptor is not None:
                with suppress(OSError):
                    self._write(descriptor, how)
                    os.fsync(descriptor)
                os.close(descriptor)

    def forget_earlier(self) -> None:
        """Delete the files of earlier claims, of a lease that is taken many times."""
        for attempt in _attempts(self.folder, self.name):
            if attempt < self.attempt:
                (self.folder / f"{self.name}.{attempt}").unlink(missing_ok=True)

    def _write(self, descriptor: int, word: str) -> None:
        # If the disk is full, or a server is away, the lease runs out.
        os.pwrite(descriptor, _second_line(word), self._offset)


class _Beater:
    """A thread that beats for all claims of this process."""

    def __init__(self) -> None:
        self._claims: list[Claim] = []
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def add(self, claim: Claim) -> None:
        with self._lock:
            self._claims.append(claim)
            if self._thread is None:
                self._thread = threading.Thread(target=self._repeat, daemon=True)
                self._thread.start()

    def remove(self, claim: Claim) -> None:
        with self._lock, suppress(ValueError):
            self._claims.remove(claim)

    def _repeat(self) -> None:
        while True:
            time.sleep(lease() / BEATS)
            with self._lock:
                claims = list(self._claims)
            for claim in claims:
                claim.beat()


_beater = _Beater()


def _forget_claims() -> None:
    """A forked child holds none of its parent's claims."""
    global _beater
    _beater = _Beater()


os.register_at_fork(after_in_child=_forget_claims)


def lease() -> float:
    """Return after how many seconds without a heartbeat a holder on another machine is lost.

    Raises:
        UserError: The variable holds no such number. (Every command asks before it does anything.)
    """
    return _seconds_of(os.environ.get(LEASE_VARIABLE, ""))


@lru_cache
def _seconds_of(text: str) -> float:
    if not text:
        return LEASE
    least, most = LEASES
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if least <= seconds <= most:  # which nan is not
        return seconds
    raise UserError(f"{LEASE_VARIABLE}={text:.80}: is no number of seconds from {least:g} to "
                    f"{most:g}; set the same on all machines, or none for {LEASE:g}")


def newest_claim(folder: Path, name: str = ATTEMPT) -> ClaimState | None:
    """Return the newest claim of a folder; None if there was none."""
    attempts = _attempts(folder, name)
    return _read(folder, name, max(attempts)) if attempts else None


def newest_attempt(folder: Path, name: str = ATTEMPT) -> int:
    """Return the number of the newest claim of a folder; 0 if there was none."""
    return max(_attempts(folder, name), default=0)


def seen_alive(folder: Path, name: str = ATTEMPT) -> int | None:
    """Return when the newest claim's file was last written, in ms since 1970; None without one.

    By the clock of the machine that keeps the file, which may be another's.
    """
    attempts = _attempts(folder, name)
    with suppress(OSError):
        if attempts:
            return (folder / f"{name}.{max(attempts)}").stat().st_mtime_ns // 1_000_000
    return None


def releases_after(folder: Path, attempt: int, name: str = ATTEMPT) -> list[Release]:
    """Return how the attempts after a number ended, as far as their holders have said so."""
    states = [_read(folder, name, each) for each in _attempts(folder, name) if each > attempt]
    return [state.release for state in states if state.release]


def lost_attempts(folder: Path, first: int, end: int | None = None, name: str = ATTEMPT) -> int:
    """Return how many attempts were not released, and may still write.

    Args:
        folder: The claimed one.
        first: The number of the first attempt that counts.
        end: That of the attempt before which they count; the newest if None.
        name: Of the claims.
    """
    attempts = _attempts(folder, name)
    end = max(attempts, default=first) if end is None else end
    return sum(_read(folder, name, each).release is None for each in attempts
               if first <= each < end)


def holder_of(folder: Path, name: str = ATTEMPT) -> Holder | None:
    """Return who holds the claim of a folder; None if nobody does, or it cannot be read: `is_held`.

    A holder on another machine may be lost: only a `Watch` can tell.
    """
    state = newest_claim(folder, name)
    return None if state is None or state.is_gone else state.holder


def is_held(folder: Path, name: str = ATTEMPT) -> bool:
    """Whether a process holds the claim of a folder, or may: one that cannot be read is held."""
    state = newest_claim(folder, name)
    return state is not None and not state.is_gone


def unreadable_line(folder: Path, state: ClaimState, name: str = ATTEMPT) -> str:
    """Return what is wrong with an unreadable claim of a folder, and what to do."""
    return (f"{folder / f'{name}.{state.attempt}'}: cannot be read ({state.unreadable}), so nobody "
            f"can tell whether its holder lives; make it readable")


def take(folder: Path, name: str = ATTEMPT, watch: Watch | None = None, least: int = 1,
         hardware: str = "") -> Claim:
    """Claim a folder.

    Args:
        folder: It exists.
        name: Of the claims.
        watch: Tells which holders on other machines are lost; None: none is.
        least: The smallest number that the attempt may have.
        hardware: As for `Holder`.

    Raises:
        ClaimedError: Another process holds it.
        UnreadableClaimError: Its newest claim cannot be read.
        UserError: The file cannot be written: the disk is full, for example.
    """
    state = newest_claim(folder, name)
    if state is not None and state.unreadable:
        raise UnreadableClaimError(unreadable_line(folder, state, name))
    if state is not None and state.holder is not None:
        is_lost = state.is_gone if watch is None else watch.is_lost(folder, state, name)
        if not is_lost:
            raise ClaimedError(f"{folder} is being written by {state.holder}; wait for it or stop "
                               f"it", state.holder)
    attempt = max(least, state.attempt + 1 if state else 1)
    file = folder / f"{name}.{attempt}"
    private = folder / f".{name}.{uuid.uuid4().hex}"
    try:
        descriptor = os.open(private, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o644)
    except OSError as error:
        raise unwritable(file, error) from None
    try:
        inode = os.fstat(descriptor).st_ino
        holder = Holder(socket.gethostname(), boot_id(), os.getpid(), process_start(os.getpid()),
                        time.time_ns() // 1_000_000, _job(), hardware, inode)
        line = json.dumps(asdict(holder)).encode() + b"\n" + _second_line(f"{0:012d}")
        if os.write(descriptor, line) < len(line):
            raise OSError(28, os.strerror(28))
        os.fsync(descriptor)  # a quota is noticed only now on some file systems
        _link(private, file, descriptor)
    except (OSError, UserError) as error:
        os.close(descriptor)
        private.unlink(missing_ok=True)
        if isinstance(error, UserError):
            raise
        if isinstance(error, FileExistsError):
            raise _claimed_meanwhile(folder, name) from None
        raise unwritable(file, error) from None
    private.unlink(missing_ok=True)
    if max(_attempts(folder, name), default=0) > attempt:  # `forget_earlier` made room for it
        os.close(descriptor)
        file.unlink(missing_ok=True)
        raise _claimed_meanwhile(folder, name)
    _remove_abandoned(folder, name)
    return Claim(folder, attempt, name, descriptor)


def _remove_abandoned(folder: Path, name: str) -> None:
    """Remove what processes of this machine have left that were killed while they claimed."""
    unfinished = re.compile(re.escape(f".{name}.") + "[0-9a-f]{32}")
    with suppress(OSError):
        for name in filter(unfinished.fullmatch, os.listdir(folder)):
            with suppress(OSError):
                holder = _holder((folder / name).read_bytes().partition(b"\n")[0])
                if holder is not None and holder.is_here and not process_start(holder.pid):
                    (folder / name).unlink()


def _link(private: Path, file: Path, descriptor: int) -> None:
    """Give the file its public name, which only one process can do.

    Raises:
        FileExistsError: Another process has done so.
        UserError: The file system has no hard links.
        OSError: It fails.
    """
    try:
        os.link(private, file, follow_symlinks=False)
    except OSError as error:
        # A network file system may have lost the answer to a request that it has served; repeated,
        # the request finds its own file there.
        if os.fstat(descriptor).st_nlink == 2:
            return
        if error.errno in WITHOUT_LINKS:
            raise UserError(f"{file}: the file system has no hard links ({error.strerror}), by "
                            f"which processes claim runs; choose another --root") from None
        raise


def _claimed_meanwhile(folder: Path, name: str) -> UserError:
    for _ in range(20):  # the newest claim may be forgotten for a newer one before it is read
        state = newest_claim(folder, name)
        if state is not None and state.holder is not None:
            return ClaimedError(f"{folder} is being written by {state.holder}; wait for it or stop "
                                f"it", state.holder)
        time.sleep(0.01)
    return UserError(f"{folder}: another process has claimed it meanwhile; repeat the command")


def _attempts(folder: Path, name: str) -> list[int]:
    """Return the numbers of the claims of a folder."""
    pattern = _file_name(name)
    try:
        with os.scandir(folder) as entries:
            return [int(match[1]) for entry in entries if (match := pattern.fullmatch(entry.name))]
    except (FileNotFoundError, NotADirectoryError):
        return []


@lru_cache
def _file_name(name: str) -> re.Pattern[str]:
    return re.compile(re.escape(name) + r"\.([1-9][0-9]{0,8})")


def _read(folder: Path, name: str, attempt: int) -> ClaimState:
    """Return a claim; without a holder if its file is not sound, or not a file, or gone."""
    try:
        descriptor = os.open(folder / f"{name}.{attempt}",
                             os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            data, inode = os.read(descriptor, 65536), os.fstat(descriptor).st_ino
        finally:
            os.close(descriptor)
    except OSError as error:
        is_no_claim = error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EISDIR)
        return ClaimState(attempt, None, "", 0, "" if is_no_claim else str(error.strerror))
    first, _, second = data.partition(b"\n")
    return ClaimState(attempt, _holder(first), second.decode(errors="replace").strip(), inode)


def _holder(line: bytes) -> Holder | None:
    """Return the holder that a line names; None if it is not sound."""
    try:
        values: dict[str, Any] = json.loads(line)
        holder = Holder(**values)
    except (ValueError, TypeError, RecursionError):
        return None
    texts = holder.host, holder.boot, holder.job, holder.hardware
    numbers = holder.pid, holder.started, holder.since, holder.inode
    is_sound = (all(isinstance(text, str) for text in texts)
                and all(type(number) is int for number in numbers))
    return holder if is_sound else None


def _second_line(word: str) -> bytes:
    return f"{word:<{WIDTH - 1}}\n".encode()


def _job() -> str:
    """Return the batch job of this process: SLURM's, with its place in an array and its restarts.
    """
    job = os.environ.get("SLURM_ARRAY_JOB_ID")
    if job is not None:
        job += "_" + os.environ.get("SLURM_ARRAY_TASK_ID", "0")
    return job or os.environ.get("SLURM_JOB_ID", "")
