"""Standard output and error of the program: any encoding, closed, full, or without a reader."""

from __future__ import annotations

import errno
import io
import os
import sys
import threading
from typing import TextIO

from gan_bench.errors import ReaderGone


class Output(io.TextIOWrapper):
    """A stream that shows what its encoding lacks as `?`, and names itself in errors.

    After an error it leads nowhere, so the end of the program can print without a second error.

    Raises:
        ReaderGone: The reader of the pipe has ended. Only in the main thread, at once or, if
            another thread was writing, at the next text.
        OSError: It cannot be written: the disk is full, for example.
    """

    def __init__(self, stream: io.TextIOWrapper, title: str, errors: str) -> None:
        super().__init__(stream.buffer, stream.encoding, errors, newline="\n",
                         line_buffering=stream.line_buffering, write_through=stream.write_through)
        self._title = title
        self._lost_its_reader = False

    def write(self, text: str) -> int:
        try:
            size = super().write(text)
        except OSError as error:
            self._fail(error)
            return len(text)
        self._raise_lost()
        return size

    def flush(self) -> None:
        try:
            super().flush()
        except OSError as error:
            self._fail(error)
        self._raise_lost()

    def _fail(self, error: OSError) -> None:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self.fileno())
        os.close(nowhere)
        if error.errno != errno.EPIPE:
            raise OSError(error.errno, error.strerror, self._title) from None
        self._lost_its_reader = True
        self._raise_lost()

    def _raise_lost(self) -> None:
        if self._lost_its_reader and threading.current_thread() is threading.main_thread():
            self._lost_its_reader = False
            raise ReaderGone from None


def open_streams() -> None:
    """Prepare stdout and stderr; what the program started without leads nowhere.

    A file that is opened first would otherwise take the number of a closed stream: what a library
    prints would end up in MLflow's database.
    """
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
    sys.stdout = _prepared(sys.stdout, "standard output", "replace")
    sys.stderr = _prepared(sys.stderr, "standard error", "backslashreplace")


def _prepared(stream: TextIO | None, title: str, errors: str) -> TextIO:
    if stream is None:
        return open(os.devnull, "w", encoding="utf-8")
    if type(stream) is not io.TextIOWrapper:  # of a caller in Python, or prepared before
        return stream
    return Output(stream, title, errors)
