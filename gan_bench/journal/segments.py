"""The bytes of a journal, which may lie in several files: its segments.

The journal of a run that was never lost is one file, `journal.jsonl`. An attempt that takes over
from one that may still be writing (its machine was lost from sight) writes to a file of its own,
`journal.<attempt>.jsonl`. That file's first line names the segment before it, and up to which byte
of the journal this one counts; what a late writer adds there is no part of the journal any more.

Positions are bytes of the journal as a whole, without those first lines.
"""

from __future__ import annotations

import errno
import json
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from gan_bench.atomic import replacing
from gan_bench.errors import DamagedError

FILE = "journal.jsonl"  # the first segment
JOURNAL_FILES = "journal*.jsonl"  # all of a run
_NAME = re.compile(r"journal\.([1-9][0-9]{0,8})\.jsonl")
_LONGEST_HEAD = 256  # bytes


@dataclass(frozen=True)
class Piece:
    """A part of a journal.

    Attributes:
        file: Its segment.
        descriptor: Of the open file.
        begin, end: The positions of its content.
        head: The bytes of the file before the content.
    """

    file: Path
    descriptor: int
    begin: int
    end: int
    head: int


class Pieces:
    """The open segments of a journal, in order."""

    def __init__(self, pieces: list[Piece]) -> None:
        self._pieces = pieces

    @property
    def size(self) -> int:
        """The length of the journal in bytes."""
        return self._pieces[-1].end if self._pieces else 0

    def read(self, begin: int = 0, end: int | None = None) -> bytes:
        """Return the bytes between two positions."""
        data = b""
        for piece in self._pieces:
            first = max(begin, piece.begin)
            last = piece.end if end is None else min(end, piece.end)
            if first < last:
                data += _pread(piece.descriptor, last - first, first - piece.begin + piece.head)
        return data

    def place(self, position: int) -> tuple[Path, int]:
        """Return the file and the number of the line at a position."""
        for piece in self._pieces:
            if position < piece.end or piece is self._pieces[-1]:
                offset = position - piece.begin + piece.head
                return piece.file, _pread(piece.descriptor, offset, 0).count(b"\n") + 1
        raise AssertionError("an empty journal has no line")


def _pread(descriptor: int, size: int, offset: int) -> bytes:
    """Read so many bytes; fewer only if the file is shorter."""
    data = b""
    while size > len(data) and (new := os.pread(descriptor, size - len(data), offset + len(data))):
        data += new
    return data


@contextmanager
def opened(folder: Path) -> Iterator[Pieces]:
    """Yield the segments of a run's journal; without any, an empty journal.

    Raises:
        DamagedError: A segment is not a plain file, or does not say what it follows.
    """
    descriptors: list[int] = []
    try:
        pieces: list[Piece] = []
        numbers, end = segments(folder), None
        number = numbers[-1] if numbers else None
        while number is not None:
            file = segment_file(folder, number)
            try:
                descriptor = open_plain(file, os.O_RDONLY)
            except (FileNotFoundError, NotADirectoryError):
                break
            descriptors.append(descriptor)
            before, begin, head = _follows(file, number, descriptor)
            if end is None:
                end = begin + os.fstat(descriptor).st_size - head
            pieces.append(Piece(file, descriptor, begin, max(begin, end), head))
            number, end = before, min(begin, end)
        yield Pieces(list(reversed(pieces)))
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


def segments(folder: Path) -> list[int]:
    """Return the numbers of the segments in a run's folder, the last one of which is written to."""
    numbers = []
    with suppress(FileNotFoundError, NotADirectoryError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.name == FILE:
                numbers.append(1)
            elif match := _NAME.fullmatch(entry.name):
                numbers.append(int(match[1]))
    return sorted(numbers)


def segment_file(folder: Path, number: int) -> Path:
    """Return the file of a segment."""
    return folder / (FILE if number == 1 else f"journal.{number}.jsonl")


def create_segment(folder: Path, number: int, before: int | None, begin: int) -> None:
    """Create a segment that follows on another, up to a position; it is complete or missing.

    Args:
        number: Of the attempt that writes it.
        before: The number of the other segment; None if there is none.

    Raises:
        OSError: It cannot be created.
    """
    line = json.dumps({"kind": "segment", "after": before, "counts": begin}) + "\n"
    # Only the holder of the claim of this number creates it.
    with replacing(segment_file(folder, number), durable=True) as temporary:
        temporary.write_text(line)


def counts(folder: Path, number: int, position: int) -> bool:
    """Whether what a segment's writer knew at a position is a part of the journal still."""
    found = [each for each in segments(folder) if each > number]
    for later in found:
        with suppress(OSError):
            file = segment_file(folder, later)
            descriptor = open_plain(file, os.O_RDONLY)
            try:
                if _follows(file, later, descriptor)[1] < position:
                    return False
            finally:
                os.close(descriptor)
    return True


def base(folder: Path, number: int) -> int:
    """Return the position of a segment's first byte, less the bytes of its file before that."""
    file = segment_file(folder, number)
    descriptor = open_plain(file, os.O_RDONLY)
    try:
        _, begin, head = _follows(file, number, descriptor)
    finally:
        os.close(descriptor)
    return begin - head


def _follows(file: Path, number: int, descriptor: int) -> tuple[int | None, int, int]:
    """Return (the segment before, the position of the first byte, bytes of the first line)."""
    if number == 1:
        return None, 0, 0
    line = os.pread(descriptor, _LONGEST_HEAD, 0).partition(b"\n")[0]
    try:
        values = json.loads(line)
        before, begin = values["after"], values["counts"]
    except (ValueError, TypeError, KeyError, RecursionError):
        before, begin = 0, -1
    is_before = before is None or (type(before) is int and 0 < before < number)
    if not is_before or type(begin) is not int or begin < 0:
        raise DamagedError(f"{file}: line 1 is damaged: it does not say what the file follows; "
                           f"delete the folder {file.parent}, and repeat the run")
    return before, begin, len(line) + 1


def open_plain(file: Path, flags: int) -> int:
    """Open a segment if it is a plain file: a link leads elsewhere, a pipe blocks for ever.

    Raises:
        DamagedError: It is not a plain file.
        OSError: It is missing or cannot be opened.
    """
    try:
        descriptor = os.open(file, flags | os.O_NOFOLLOW | os.O_NONBLOCK, 0o644)
    except (FileNotFoundError, NotADirectoryError):
        raise
    except OSError as error:
        if error.errno not in (errno.ELOOP, errno.EISDIR, errno.ENXIO, errno.EACCES):
            raise
        raise DamagedError(f"{file}: cannot be used: {error.strerror}; move {file.parent} away, "
                           f"and repeat the run") from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise DamagedError(f"{file}: is not a plain file; move {file.parent} away, and repeat the "
                           f"run")
    return descriptor
