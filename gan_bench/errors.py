"""What goes wrong through the user's input, as opposed to a defect of the program."""

from __future__ import annotations

import reprlib

_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 60


class UserError(Exception):
    """One clear line: what is wrong, where, and what to do.

    The command line prints it without a traceback and exits with status 2. What it quotes may come
    from anyone's files, so it is made printable: it stays one line, and moves no cursor.
    """

    def __init__(self, line: str) -> None:
        super().__init__(printable(line))


class DamagedError(UserError):
    """A run's files are not as the program left them; other runs can go on."""


class SpecError(UserError):
    """All the errors of one experiment file, one line each (`file:line:column: path: ...`)."""

    def __init__(self, lines: list[str]) -> None:
        self.lines = [printable(line) for line in lines]
        Exception.__init__(self, "\n".join(self.lines))


class Stopped(BaseException):
    """The user stopped the program; `status` is what a shell expects: 130 or 143.

    As with KeyboardInterrupt, no `except Exception`, of MLflow for example, takes it for an error.
    """

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


def one_line(error: BaseException) -> str:
    """Return an exception's type and the first line of its message; a UserError is one line as is.
    """
    if isinstance(error, UserError):
        return str(error)
    text = str(error).strip().splitlines()
    return type(error).__name__ + (f": {text[0]}" if text else "")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether Python, or torch on whichever device, could not get memory."""
    # On a CPU torch has no class for it: "DefaultCPUAllocator: can't allocate memory: you tried …".
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and (
        type(error).__name__ == "OutOfMemoryError" or "t allocate memory" in str(error)))


def shown(value: object) -> str:
    """Return a value as a message quotes it: cut short, and without looking at all of it."""
    return f"{_SHORT.repr(value):.60}"


def printable(text: str) -> str:
    """Return text with escapes in place of line breaks, control characters and lone surrogates."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
