"""What the user reads, a line each: errors in the input, progress, and the words of messages."""

from __future__ import annotations

import errno
import reprlib
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

Say = Callable[[str], None]  # shows one line of progress
RUNS_LEFT = 75  # the exit status "try again later" of sysexits.h: runs are left for others

_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 60
# What pydantic's kinds of errors are in plain words; it names types as Python does.
_WORDS = {
    **dict.fromkeys(("int_type", "int_from_float", "int_parsing"), "must be a whole number"),
    "int_parsing_size": "must be a smaller whole number",
    **dict.fromkeys(("float_type", "float_parsing"), "must be a number"),
    "finite_number": "must be a finite number",
    **dict.fromkeys(("bool_type", "bool_parsing"), "must be true or false"),
    **dict.fromkeys(("string_type", "string_sub_type"), "must be text"),
    "string_unicode": "must be text in UTF-8",
    **dict.fromkeys(("list_type", "tuple_type"), "must be a list: [a, b]"),
    **dict.fromkeys(("dict_type", "mapping_type", "model_type", "model_attributes_type"),
                    "must be keys with values: {{key: value}}"),
    "none_required": "must be null",
    "literal_error": "must be {expected}",
    "greater_than": "must be greater than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be at most {le}",
    "too_short": "must have at least {values}",
    "too_long": "must have at most {values}",
    "string_too_short": "must have at least {characters}",
    "string_too_long": "must have at most {characters}",
    "string_pattern_mismatch": "must match the pattern {pattern}",
    "missing": "is missing",
    "extra_forbidden": "unknown key",
}


class UserError(Exception):
    """A single clear line: what is wrong, where, and what to do.

    The command line prints it without a traceback and exits with status 2. It may quote third-party
    files, so unprintable characters are escaped: it stays a single line, and moves no cursor.
    """

    def __init__(self, line: str) -> None:
        super().__init__(printable(line))


class DamagedError(UserError):
    """A run's files differ from what the program wrote; other runs can continue."""


class HiddenError(UserError):
    """MLflow hides what was asked for; nothing is lost. The exit status is 3."""


class SpecError(UserError):
    """All the errors of one experiment file, one line each (`file:line:column: path: ...`)."""

    def __init__(self, lines: list[str]) -> None:
        self.lines = [printable(line) for line in lines]
        Exception.__init__(self, "\n".join(self.lines))


class Stopped(BaseException):
    """The user stopped the program; `status` is the exit status that shells expect, 130 for Ctrl-C.

    Like KeyboardInterrupt, it passes any `except Exception`, for example in MLflow.
    """

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class ReaderGone(Stopped):
    """The program that reads the output has ended, as `head` does; the status is that of SIGPIPE.
    """

    def __init__(self) -> None:
        super().__init__(141)


def is_full(error: OSError) -> bool:
    """Whether a disk, or the user's share of it, is full."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


def remedy(error: OSError, otherwise: str) -> str:
    """Return what helps against the cause of an error, if that is the disk or a permission."""
    if is_full(error):
        return "make room"
    if error.errno == errno.EFBIG:
        return "raise the limit of the size of files (ulimit -f)"
    is_refused = error.errno in (errno.EACCES, errno.EPERM, errno.EROFS)
    return "make it writable" if is_refused else otherwise


def unwritable(path: Path | str, error: OSError, *, elsewhere: str = "", verb: str = "written",
               ) -> UserError:
    """Return the error of a file or folder that cannot be written: where, why, and what to do.

    Args:
        path: Of the file, or what the message calls it.
        error: Why it cannot be written.
        elsewhere: How to name another place; empty if the file has no other place.
        verb: What cannot be done with the file.
    """
    if elsewhere:
        cure = ", or ".join(filter(None, (remedy(error, ""), elsewhere)))
    else:
        cure = f"{remedy(error, 'move it away')}, then repeat the command"
    return UserError(f"{path}: cannot be {verb}: {error.strerror}; {cure}")


def one_line(error: BaseException) -> str:
    """Return an exception's type and the first line of its message; of a UserError, its message.
    """
    if isinstance(error, UserError):
        return str(error)
    lines = str(error).strip().splitlines()
    name = type(error).__name__
    return f"{name}: {lines[0]}" if lines else name


def explained(error: BaseException) -> str:
    """Return the exception of third-party code in one line, with the last place in that code."""
    package = Path(__file__).parent
    frames = [frame for frame in traceback.extract_tb(error.__traceback__)
              if "site-packages" not in frame.filename and not frame.filename.startswith("<")
              and not Path(frame.filename).is_relative_to(package)]
    place = f"{frames[-1].filename}:{frames[-1].lineno}: " if frames else ""
    return place + one_line(error)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether Python, or torch on any device, could not allocate memory."""
    if isinstance(error, MemoryError):
        return True
    # On a CPU torch has no class for it: "DefaultCPUAllocator: can't allocate memory: you tried …".
    is_torch = type(error).__name__ == "OutOfMemoryError" or "t allocate memory" in str(error)
    return isinstance(error, RuntimeError) and is_torch


def shown(value: object) -> str:
    """Return a value as a message quotes it: shortened, without a full conversion to text."""
    return f"{_SHORT.repr(value):.60}"


def worded(found: Mapping[str, Any]) -> str:
    """Return in plain words what pydantic found wrong with a value, without the value.

    Args:
        found: One of `ValidationError.errors()`; errors of the program's own keep their words.
    """
    if words := _WORDS.get(found["type"]):
        context = found.get("ctx", {})
        bound = context.get("min_length" if found["type"].endswith("short") else "max_length", 0)
        return words.format(values=count(bound, "value"), characters=count(bound, "character"),
                            **{key: _digits(value) for key, value in context.items()})
    return str(found["msg"]).removeprefix("Value error, ")


def _digits(value: object) -> str:
    """Return a number of an error as a YAML has it: 0, not 0.0."""
    return f"{value:.15g}" if isinstance(value, float) else str(value)


def count(n: int, noun: str) -> str:
    """Return `1 run`, `2 runs`."""
    return f"{n} {noun if n == 1 else noun + 's'}"


def joined(words: Sequence[str]) -> str:
    """Return `a`, `a and b`, `a, b and c`."""
    *first, last = words
    return f"{', '.join(first)} and {last}" if first else last


def printable(text: str) -> str:
    """Return text with escapes in place of line breaks, control characters and lone surrogates."""
    if text.isprintable():
        return text
    return "".join(map(_escaped, text))


def _escaped(character: str) -> str:
    if character.isprintable():
        return character
    return character.encode("unicode_escape").decode()
