"""How the program ends: after an error with one line on stderr, and a status."""

from __future__ import annotations

import sys
from collections.abc import Callable

import typer

from gan_bench.cli.streams import open_streams
from gan_bench.errors import (
    HiddenError,
    ReaderGone,
    Stopped,
    UserError,
    is_out_of_memory,
    printable,
    remedy,
)

# Typer's base of what is wrong with a command line, which it does not export.
USAGE_ERROR: type[Exception] = typer.BadParameter.__mro__[1]


def run_program(program: Callable[[], object]) -> int | str:
    """Run the program and return its exit status; a bug is raised.

    Args:
        program: Typer's application, which returns its status, or ends with SystemExit.
    """
    open_streams()
    try:
        try:
            result = program()
            status: int | str = result if isinstance(result, int) else 0
        except SystemExit as end:
            status = end.code or 0
        except USAGE_ERROR as error:
            status = _misused(error)
        sys.stdout.flush()  # a pipe without a reader, or a full disk, shows itself now
        return status
    except (UserError, Stopped, MemoryError, RuntimeError, OSError) as error:
        try:
            known = exit_status(error)
        except ReaderGone as gone:  # of stderr
            return gone.status
        if known is None:
            raise
        return known


def _misused(error: Exception) -> int:
    """Print what is wrong with the command line; return the exit status."""
    from gan_bench.cli.mistakes import usage_line

    if type(error).__name__ == "NoArgsIsHelpError":  # it has printed the help
        return 2
    return _refused(f"error: {printable(usage_line(error, sys.argv[1:]))}")


def exit_status(error: BaseException) -> int | None:
    """Print what a user must know of an error; return the exit status, None for a bug."""
    match error:
        case HiddenError():
            print(f"error: {error}", file=sys.stderr)
            return 3
        case UserError():
            return _refused(str(error) if "\n" in str(error) else f"error: {error}")
        case ReaderGone():
            return error.status
        case Stopped():
            print("stopped; the same command resumes the unfinished runs", file=sys.stderr)
            return error.status
        case MemoryError() | RuntimeError() if is_out_of_memory(error):
            return _refused("error: out of memory: choose fewer samples, or fewer runs at once")
        case OSError():  # a fault of the machine, a full disk say
            file = error.filename2 or error.filename
            place = f"{file}: " if file else ""
            cure = remedy(error, "")
            return _refused(f"error: {place}{error.strerror or error}{cure and f'; {cure}'}")
    return None


def _refused(message: str) -> int:
    print(message, file=sys.stderr)
    return 2
