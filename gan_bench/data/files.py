"""The files in a folder or in an archive, listed and read alike; nothing is ever extracted."""

from __future__ import annotations

import os
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

from gan_bench.errors import UserError

TAR, ZIP = (".tar", ".tar.gz", ".tgz"), (".zip",)


def sizes(path: Path) -> dict[str, int]:
    """Return the size in bytes of each file in a folder or archive, by its name within.

    Names are relative and with `/`. A compressed tar has no index, so listing one unpacks it once
    (in memory, piece by piece); a zip or a plain tar is listed at once.

    Raises:
        UserError: `path` is not there, is no folder and no archive, or is broken.
    """
    try:
        if path.is_dir():
            return _folder_sizes(path)
        status = path.stat()
    except (OSError, ValueError) as error:  # ValueError: a path with a NUL in it
        name = str(path) if str(path).isprintable() else repr(str(path))
        raise UserError(f"{name:.400}: {getattr(error, 'strerror', None) or error}; a relative "
                        "path is looked up in the data root") from error
    if not path.name.lower().endswith(TAR + ZIP):
        raise UserError(f"{path}: is neither a folder nor a {', '.join(TAR + ZIP)} file")
    return _archive_sizes(path, status.st_size, status.st_mtime_ns)


def contents(path: Path, wanted: Collection[str]) -> Iterator[tuple[str, bytes]]:
    """Yield the name and the content of each file in `wanted`, in the order they are stored.

    Raises:
        UserError: A file or the archive cannot be read.
    """
    if path.is_dir():
        for name in wanted:
            with _named(path / name):
                data = (path / name).read_bytes()
            yield name, data
    else:
        with _named(path):
            yield from _archive_contents(path, wanted)


def _folder_sizes(path: Path) -> dict[str, int]:
    found = {}
    with _named(path):
        seen = {os.path.realpath(path)}
        for folder, below, files in os.walk(path, followlinks=True, onerror=_raise):
            # A linked class folder counts like any other; a link back up would go on for ever.
            real = {name: os.path.realpath(os.path.join(folder, name)) for name in below}
            below[:] = [name for name in below if real[name] not in seen]
            seen.update(real.values())
            for name in files:
                file = os.path.join(folder, name)
                status = os.stat(file)
                if stat.S_ISREG(status.st_mode):  # reading a named pipe would wait for ever
                    found[os.path.relpath(file, path).replace(os.sep, "/")] = status.st_size
    return found


def _raise(error: OSError) -> None:
    raise error


@lru_cache(maxsize=8)
def _archive_sizes(path: Path, size: int, modified: int) -> dict[str, int]:
    with _named(path):
        if path.name.lower().endswith(ZIP):
            with zipfile.ZipFile(path) as archive:
                return {i.filename: i.file_size for i in archive.infolist() if not i.is_dir()}
        with tarfile.open(path) as tar:
            return {member.name: member.size for member in _members(tar)}


def _archive_contents(path: Path, wanted: Collection[str]) -> Iterator[tuple[str, bytes]]:
    if path.name.lower().endswith(ZIP):
        with zipfile.ZipFile(path) as archive:
            for name in wanted:
                yield name, archive.read(name)
        return
    with tarfile.open(path) as tar:
        for member in _members(tar):
            if member.name in wanted:
                stream = tar.extractfile(member)
                assert stream is not None  # it is a file
                yield member.name, stream.read()


def _members(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    yield from (member for member in tar if member.isfile())
    # tarfile takes a damaged header, or the end of the file, for the end of the archive.
    assert tar.fileobj is not None
    tar.fileobj.seek(tar.offset)
    mark = tar.fileobj.read(tarfile.BLOCKSIZE)
    if mark != bytes(tarfile.BLOCKSIZE):
        raise tarfile.ReadError(f"it is cut off, or damaged at byte {tar.offset:,}")


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Turn what a broken file or archive raises into one line that names it."""
    try:
        yield
    except OSError as error:
        named = error.filename or path
        raise UserError(f"{named}: cannot be read: {error.strerror or error}") from error
    except (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
        raise UserError(f"{path}: is a broken archive: {error}; make it anew, or download it "
                        "again") from error
