"""Paths as the user gives them, in the single spelling that the program works with."""

from __future__ import annotations

import os
from pathlib import Path

from gan_bench.errors import UserError, printable, shown

AnyPath = str | os.PathLike[str]


def as_path(path: AnyPath) -> Path:
    """Return a path that a caller gives as text or as a path object.

    Raises:
        UserError: It is neither, or no file system can hold it.
    """
    try:
        text = os.fspath(path)
    except TypeError:
        text = None
    if not isinstance(text, str) or "\0" in text:
        raise UserError(f"{shown(path)} is not a path: give a str or a pathlib.Path")
    return Path(text)


def normal_path(path: AnyPath) -> Path:
    """Return the absolute path without `.` and `..`, of the same file or folder.

    `link/..` is the parent of the link's target, as for the operating system. All other links keep
    their names, so a path stays recognisable to the user.

    Raises:
        UserError: It is not a path, or it leads through links that lead back to themselves.
    """
    steps = as_path(path).absolute().parts[1:]  # without the root, which may be `//`
    normal = Path(os.sep)
    for step in steps:
        if step != "..":
            normal /= step
            continue
        try:
            normal = (normal.resolve() if normal.is_symlink() else normal).parent
        except (OSError, RuntimeError) as error:  # RuntimeError: a circle of links
            reason = getattr(error, "strerror", None) or error
            raise UserError(f"{printable(str(path))}: cannot be followed: {reason}; give a path "
                            f"without ..") from None
    return normal
