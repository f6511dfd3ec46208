"""What goes wrong through the user's input, as opposed to a defect of the program."""


class UserError(Exception):
    """One clear line: what is wrong, where, and what to do.

    The command line prints it without a traceback and exits with status 2.
    """


class SpecError(UserError):
    """All the errors of one experiment file, one line each (`file:line:column: path: ...`)."""

    def __init__(self, lines: list[str]) -> None:
        super().__init__("\n".join(lines))
        self.lines = lines


class Stopped(Exception):
    """The user stopped the program; `status` is what a shell expects: 130 or 143."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


def one_line(error: BaseException) -> str:
    """Return an exception's type and the first line of its message."""
    text = str(error).strip().splitlines()
    return type(error).__name__ + (f": {text[0]}" if text else "")
