"""Which files the last report wrote into its folder: no other file is replaced or removed there.

`.report.json` in the folder holds the sha256 of each of these files. A file that the user has
changed since is the user's. Reports of earlier versions keep no such list; where the folder is the
program's, their files are replaced by their names.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath

from gan_bench.atomic import replacing
from gan_bench.errors import UserError, count

FILE = ".report.json"
FIGURES = "figures"

Hashes = dict[str, list[str]]  # by the path in the folder; two while a report replaces the file


def install_report(new: Path, out: Path, *, takes_over: bool = False) -> list[str]:
    """Move a report's files to their places, and remove the figures that it no longer has.

    Args:
        new: A folder that holds the new files and nothing else, on the same file system.
        out: The report's folder, perhaps with an earlier report.
        takes_over: Whether the folder is the program's: without a list there, files of these names
            count as those of an earlier report.

    Returns:
        The paths of the files in `out`.

    Raises:
        UserError: A file of another origin is in the way; nothing has changed then.
    """
    fresh = {file.relative_to(new).as_posix(): [_sha256(file)]
             for file in sorted(new.rglob("*")) if file.is_file()}
    figures = [name for name in fresh if name.startswith(f"{FIGURES}/")]
    with _alone(out):
        written = _read(out)
        if takes_over and not os.path.lexists(out / FILE):
            written = {name: [_sha256(out / name)] for name in fresh if _is_file(out / name)}
        _refuse_foreign(out, fresh, written)
        # A report that is killed between two files leaves files of both reports.
        _write(out, written | {name: [*written.get(name, []), *hashes]
                               for name, hashes in fresh.items()})
        if figures:
            (out / FIGURES).mkdir(exist_ok=True)
        for name in fresh:
            (new / name).replace(out / name)
        stale = {name for name in written.keys() - fresh.keys()
                 if figures and name.startswith(f"{FIGURES}/")}
        for name in stale:
            if _is_written(out / name, written[name]):
                (out / name).unlink()
        _write(out, {name: hashes for name, hashes in (written | fresh).items()
                     if name not in stale})
    return list(fresh)


def _refuse_foreign(out: Path, names: Iterable[str], written: Mapping[str, list[str]]) -> None:
    """Refuse to replace a file that the last report did not write."""
    foreign = [out / name for name in names if os.path.lexists(out / name)
               and not _is_written(out / name, written.get(name, []))]
    if os.path.lexists(out / FIGURES) and not (out / FIGURES).is_dir():
        foreign.append(out / FIGURES)
    if foreign:
        others = f", and so are {count(len(foreign) - 1, 'other file')}" if foreign[1:] else ""
        start, them = f"{foreign[0]}: is in the way{others}", "them" if foreign[1:] else "it"
        if not os.path.lexists(out / FILE):
            raise UserError(f"{start}: {out} has no record ({FILE}) of an earlier report; move "
                            f"{them} away, or choose another --out")
        raise UserError(f"{start}: the last report did not write {them}, or changes came since; "
                        f"move {them} away, or choose another --out")


def _is_written(file: Path, hashes: list[str]) -> bool:
    """Whether a file still is what a report wrote."""
    return _is_file(file) and _sha256(file) in hashes


def _is_file(file: Path) -> bool:
    return file.is_file() and not file.is_symlink()


def _read(out: Path) -> Hashes:
    """Return what the last report wrote; empty if there is none.

    Raises:
        UserError: The file is not a manifest.
    """
    file = out / FILE
    if not os.path.lexists(file):
        return {}
    try:
        files = json.loads(file.read_text("utf-8"))["files"]
        return {name: list(map(str, hashes)) for name, hashes in files.items() if _is_place(name)}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        # Without the list, a report could not tell the user's files from its own.
        raise UserError(f"{file}: is not the list of what the last report wrote; move the folder "
                        f"away, or choose another --out") from None


def _is_place(name: str) -> bool:
    """Whether a report may have a file of this path; the list may come from another person."""
    path = PurePosixPath(name)
    return str(path) == name and ".." not in path.parts and str(path.parent) in (".", FIGURES)


def _write(out: Path, files: Hashes) -> None:
    with replacing(out / FILE) as temporary:
        temporary.write_text(json.dumps({"files": dict(sorted(files.items()))}, indent=1) + "\n",
                             "utf-8")


def _sha256(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep another report out of the folder, where its file system has locks."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
