"""How the program ends after an error: one line on stderr, and a status."""

from __future__ import annotations

import os
import sys

from gan_bench.errors import HiddenError, Stopped, UserError, is_out_of_memory


def exit_status(error: BaseException) -> int | None:
    """Print what a user must know of an error; return the exit status, None for a bug."""
    match error:
        case HiddenError():
            print(f"error: {error}", file=sys.stderr)
            return 3
        case UserError():
            return _refused(str(error) if "\n" in str(error) else f"error: {error}")
        case Stopped():
            print("stopped; the same command resumes the unfinished runs", file=sys.stderr)
            return error.status
        case BrokenPipeError():
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 141
        case MemoryError() | RuntimeError() if is_out_of_memory(error):
            return _refused("error: out of memory: choose fewer samples, or fewer runs at once")
        case OSError():  # a fault of the machine, a full disk say
            file = error.filename2 or error.filename
            return _refused(f"error: {f'{file}: ' if file else ''}{error.strerror or error}")
    return None


def _refused(message: str) -> int:
    print(message, file=sys.stderr)
    return 2
