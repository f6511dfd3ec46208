"""Which files the last report wrote into its folder: no other file is replaced or removed there.

`.report.json` in the folder holds the sha256 of each of these files, and the options it was made
with. A file that the user has changed since is the user's. Reports of earlier versions keep no such
list; where the folder is the program's, their files are replaced by their names.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from gan_bench.atomic import replacing
from gan_bench.errors import UserError, count

FILE = ".report.json"
FIGURES = "figures"

Hashes = dict[str, list[str]]  # by the path in the folder; two while a report replaces the file


@dataclass(frozen=True)
class Record:
    """What `.report.json` says.

    Attributes:
        files: The hashes of each file.
        options: By file, the experiments and options of the report that wrote it; reports of
            earlier versions say none.
    """

    files: Hashes
    options: dict[str, str]


@dataclass(frozen=True)
class Installed:
    """What a report did to its folder.

    Attributes:
        files: The paths of its files there.
        replaced: By the options of earlier reports, other than its own, the files of theirs that
            it replaced.
        removed: The same of those that it removed.
    """

    files: list[str]
    replaced: dict[str, list[str]]
    removed: dict[str, list[str]]

    @property
    def sentences(self) -> list[str]:
        """What was replaced or removed, a line for each earlier report."""
        return [f"{verb} {names[0]}{_and_more(names)} of the report of `{options}`; another "
                f"--out keeps both"
                for verb, files in (("replaced", self.replaced), ("removed", self.removed))
                for options, names in files.items()]


def install_report(new: Path, out: Path, options: str = "", *, takes_over: bool = False,
                   ) -> Installed:
    """Move a report's files to their places, and remove the figures that it no longer has.

    Args:
        new: A folder that holds the new files and nothing else, on the same file system.
        out: The report's folder, perhaps with an earlier report.
        options: Experiments and options that the report was made with, as the shell reads them.
        takes_over: Whether the folder is the program's: without a list there, files of these names
            count as those of an earlier report.

    Raises:
        UserError: A file of another origin is in the way; nothing has changed then.
    """
    fresh = {file.relative_to(new).as_posix(): [_sha256(file)]
             for file in sorted(new.rglob("*")) if file.is_file()}
    figures = [name for name in fresh if name.startswith(f"{FIGURES}/")]
    with _alone(out):
        record = _read(out)
        written = record.files
        if takes_over and not os.path.lexists(out / FILE):
            written = {name: [_sha256(out / name)] for name in fresh if _is_file(out / name)}
        _refuse_foreign(out, fresh, written)
        stale = {name for name in written.keys() - fresh.keys()
                 if figures and name.startswith(f"{FIGURES}/")}
        replaced = _of_other_reports(record, out, fresh, options)
        made = record.options | dict.fromkeys(fresh, options)
        # A report that is killed between two files leaves files of both reports.
        _write(out, Record(written | {name: [*written.get(name, []), *hashes]
                                      for name, hashes in fresh.items()}, made))
        if figures:
            (out / FIGURES).mkdir(exist_ok=True)
        for name in fresh:
            (new / name).replace(out / name)
        own = [name for name in sorted(stale) if _is_written(out / name, written[name])]
        removed = _of_other_reports(record, out, own, options)
        for name in own:
            (out / name).unlink()
        _write(out, Record({name: hashes for name, hashes in (written | fresh).items()
                            if name not in stale},
                           {name: words for name, words in made.items() if name not in stale}))
    return Installed(list(fresh), replaced, removed)


def _of_other_reports(record: Record, out: Path, names: Iterable[str], options: str,
                      ) -> dict[str, list[str]]:
    """Return which of the files are of reports with other options, by these."""
    others: dict[str, list[str]] = {}
    for name in names:
        made = record.options.get(name, options)
        if made != options and _is_file(out / name):
            others.setdefault(made, []).append(name)
    return others


def _and_more(names: list[str]) -> str:
    return f" and {count(len(names) - 1, 'other file')}" if names[1:] else ""


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


def _read(out: Path) -> Record:
    """Return what the last report wrote; empty if there is none.

    Raises:
        UserError: The file is not a manifest.
    """
    file = out / FILE
    if not os.path.lexists(file):
        return Record({}, {})
    try:
        given = json.loads(file.read_text("utf-8"))
        return Record({name: list(map(str, hashes)) for name, hashes in given["files"].items()
                       if _is_place(name)},
                      {name: str(words) for name, words in given.get("options", {}).items()})
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        # Without the list, a report could not tell the user's files from its own.
        raise UserError(f"{file}: is not the list of what the last report wrote; move the folder "
                        f"away, or choose another --out") from None


def _is_place(name: str) -> bool:
    """Whether a report may have a file of this path; the list may come from another person."""
    path = PurePosixPath(name)
    return str(path) == name and ".." not in path.parts and str(path.parent) in (".", FIGURES)


def _write(out: Path, record: Record) -> None:
    content = {"files": dict(sorted(record.files.items())),
               "options": dict(sorted(record.options.items()))}
    with replacing(out / FILE) as temporary:
        temporary.write_text(json.dumps(content, indent=1) + "\n", "utf-8")


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
