"""Public data: torchvision's classes download it, and every file is verified."""

from __future__ import annotations

import hashlib
import socket
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from http.client import HTTPException
from pathlib import Path
from typing import Any

from gan_bench.atomic import scratch_folder
from gan_bench.errors import Say, UserError

UNFINISHED = ".download-"  # how the name of the folder begins that receives a download
TIMEOUT = 30.0  # seconds without a byte; urllib waits for ever by default


def verified(path: Path, *, md5: str | None = None, size: int | None = None) -> bytes:
    """Return the content of `path`.

    Raises:
        UserError: It cannot be read, or has another size or md5.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from error
    cure = "delete it and run again, which downloads it, or put a good copy in its place"
    if size is not None and len(data) != size:
        raise UserError(f"{path}: has {len(data):,} bytes and should have {size:,}; {cure}")
    actual = hashlib.md5(data, usedforsecurity=False).hexdigest()
    if md5 is not None and actual != md5:
        raise UserError(f"{path}: has the md5 {actual} and should have {md5}, so it is truncated "
                        f"or altered; {cure}")
    return data


def fetch(download: Callable[[str], Any], title: str, by_hand: str, data_root: Path,
          say: Say) -> None:
    """Download a data set into a temporary folder, then move it into the data root.

    Files that the data root already holds do not change.

    Args:
        download: A class of torchvision; it downloads to a folder and verifies the files.
        title: The data set and its source, for messages.
        by_hand: Which files to place where without a network, for messages.
        data_root: Where to put the data, in torchvision's layout.
        say: Receives lines of progress.

    Raises:
        UserError: The data root cannot be written, or the download failed. Partial files are
            deleted.
    """
    with ExitStack() as stack:
        try:
            data_root.mkdir(parents=True, exist_ok=True)
            folder = stack.enter_context(scratch_folder(data_root, UNFINISHED))
        except OSError as error:
            raise UserError(f"{title}: not in the data root {data_root}, where a download cannot "
                            f"be written: {error.strerror}; {by_hand}") from error
        say(f"downloading {title} to {data_root}")
        try:
            with _timeout(TIMEOUT):
                download(str(folder))
            _move(folder, data_root)
        except (OSError, RuntimeError, HTTPException, EOFError, zlib.error) as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise UserError(f"{title}: not in the data root {data_root}, and the download failed: "
                            f"{reason}; {by_hand}") from error


def _move(source: Path, target: Path) -> None:
    """Move what the folder `target` lacks: a folder in one step, so a kill leaves it whole."""
    for path in sorted(source.iterdir()):
        place = target / path.name
        if not path.is_dir():
            if not place.exists():
                path.rename(place)
            continue
        try:
            path.rename(place)
        except OSError:
            if not place.is_dir():
                raise
            _move(path, place)


@contextmanager
def _timeout(seconds: float) -> Iterator[None]:
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
