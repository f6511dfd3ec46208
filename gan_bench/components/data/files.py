"""Lists and reads the files in a folder or an archive; nothing is extracted to the disk.

Archives are untrusted: their headers are checked before anything is unpacked.
"""

from __future__ import annotations

import os
import stat
import tarfile
import zipfile
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from gzip import GzipFile
from io import BufferedReader
from pathlib import Path

from gan_bench.errors import UserError, one_line

TAR, ZIP = (".tar", ".tar.gz", ".tgz"), (".zip",)
MAX_FILE = 100_000_000  # bytes of one image file; 30 megapixels without any compression
# An archive may unpack to MAX_UNPACKED bytes, or to MAX_RATIO times its size. Images compress 1 to
# 20 times, and a decompression bomb a thousand times.
MAX_UNPACKED, MAX_RATIO = 1_000_000_000, 200


def sizes(path: Path) -> dict[str, int]:
    """Return the size in bytes of each file in a folder or archive, by its name.

    Names are relative and use `/`. A compressed tar has no index, so listing it unpacks it once
    (in memory, piece by piece); listing a zip or a plain tar is fast.

    Raises:
        UserError: `path` is missing, is neither a folder nor an archive, is broken, has two files
            of the same name, or would unpack to a multiple of its size.
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
    """Yield the name and the content of each file in `wanted`, in the order of the storage.

    Raises:
        UserError: A file or the archive cannot be read, or a file is too large for an image.
    """
    if path.is_dir():
        for name in wanted:
            with _named(path / name):
                _check_size(path / name, (path / name).stat().st_size)
                data = (path / name).read_bytes()
            yield name, data
    else:
        with _named(path):
            yield from _archive_contents(path, wanted)


def check_unpacked(path: Path, unpacked: int) -> None:
    """Refuse an archive that would unpack to too many bytes for its size.

    Raises:
        UserError: It looks like a decompression bomb.
    """
    packed = path.stat().st_size
    if unpacked > max(MAX_UNPACKED, MAX_RATIO * packed):
        raise UserError(f"{path}: would unpack to {unpacked / 1e9:,.1f} GB or more, over "
                        f"{MAX_RATIO} times its size, as a decompression bomb does; if its images "
                        f"are good, pack them again")


def _check_size(place: object, size: int) -> None:
    if size > MAX_FILE:
        raise UserError(f"{place}: has {size:,} bytes, and an image file may have {MAX_FILE:,}; "
                        f"leave it out")


def _folder_sizes(path: Path) -> dict[str, int]:
    sizes_by_name = {}
    with _named(path):
        seen = {os.path.realpath(path)}
        for folder, below, files in os.walk(path, followlinks=True, onerror=_raise):
            # A linked class folder counts like any other; a link to a parent would never end.
            real = {name: os.path.realpath(os.path.join(folder, name)) for name in below}
            below[:] = [name for name in below if real[name] not in seen]
            seen.update(real.values())
            for name in files:
                file = os.path.join(folder, name)
                status = os.stat(file)
                if stat.S_ISREG(status.st_mode):  # reading a named pipe would wait for ever
                    name = os.path.relpath(file, path).replace(os.sep, "/")
                    sizes_by_name[name] = status.st_size
    return sizes_by_name


def _raise(error: OSError) -> None:
    raise error


@lru_cache(maxsize=8)
def _archive_sizes(path: Path, size: int, modified: int) -> dict[str, int]:
    with _named(path):
        if path.name.lower().endswith(ZIP):
            with zipfile.ZipFile(path) as archive:
                return _listed(path, ((i.filename, i.file_size) for i in archive.infolist()
                                      if not i.is_dir()))
        with _open_tar(path) as tar:
            return _listed(path, ((member.name, member.size) for member in _members(tar)))


def _listed(path: Path, files: Iterable[tuple[str, int]]) -> dict[str, int]:
    """Return the sizes by name; refuse a bomb at the first member that shows it."""
    sizes_by_name: dict[str, int] = {}
    unpacked = 0
    for name, size in files:
        if name in sizes_by_name:
            raise UserError(f"{path}: holds two files called {name:.400}; pack it again with one")
        sizes_by_name[name] = size
        unpacked += size
        check_unpacked(path, unpacked)
    return sizes_by_name


def _archive_contents(path: Path, wanted: Collection[str]) -> Iterator[tuple[str, bytes]]:
    if path.name.lower().endswith(ZIP):
        with zipfile.ZipFile(path) as archive:
            for name in wanted:
                _check_size(f"{path}, member {name:.400}", archive.getinfo(name).file_size)
                yield name, archive.read(name)
        return
    with _open_tar(path) as tar:
        for member in _members(tar):
            if member.name in wanted:
                _check_size(f"{path}, member {member.name:.400}", member.size)
                stream = tar.extractfile(member)
                assert stream is not None  # it is a file
                yield member.name, stream.read()


class _Bounded:
    """A file that refuses large reads, because tarfile trusts the sizes in headers."""

    def __init__(self, file: GzipFile | BufferedReader) -> None:
        self._file = file
        self.seek, self.tell, self.close = file.seek, file.tell, file.close

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= MAX_FILE:
            raise tarfile.ReadError(f"a header claims a size of {size:,} bytes")
        return self._file.read(size)


@contextmanager
def _open_tar(path: Path) -> Iterator[tarfile.TarFile]:
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        stream = GzipFile(fileobj=file) if packed else file
        with tarfile.open(fileobj=_Bounded(stream), mode="r:") as tar:  # type: ignore[call-overload]
            yield tar


def _members(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    before = -1
    for member in tar:
        if member.offset <= before or member.size < 0:  # a negative size would never end
            raise tarfile.ReadError(f"damaged at byte {member.offset:,}")
        before = member.offset
        if member.isfile():
            yield member
    # tarfile treats a damaged header, or the end of the file, as the end of the archive.
    assert tar.fileobj is not None
    tar.fileobj.seek(tar.offset)
    mark = tar.fileobj.read(tarfile.BLOCKSIZE)
    if mark != bytes(tarfile.BLOCKSIZE):
        raise tarfile.ReadError(f"it is cut off, or damaged at byte {tar.offset:,}")


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Turn the exceptions of a broken file or archive into a UserError with its name."""
    try:
        yield
    except UserError:
        raise
    except OSError as error:
        name = error.filename or path
        raise UserError(f"{name}: cannot be read: {error.strerror or error}") from error
    except (tarfile.TarError, zipfile.BadZipFile, EOFError) as error:
        raise UserError(f"{path}: is a broken archive: {error}; pack it again, or download it "
                        "again") from error
    except Exception as error:  # zipfile and tarfile raise many types at broken files
        raise UserError(f"{path}: is a broken archive: {one_line(error)}; pack it again, or "
                        "download it again") from error
