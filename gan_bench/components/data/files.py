"""Lists and reads the files in a folder or an archive; nothing is extracted to the disk.

Archives are untrusted: their headers are checked before anything is unpacked.
"""

from __future__ import annotations

import os
import stat
import tarfile
import zipfile
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from gzip import GzipFile
from io import BufferedReader
from pathlib import Path

from gan_bench.components.data.archive_index import ArchiveEntry, ArchiveIndex, index_of
from gan_bench.errors import UserError, one_line

TAR, ZIP = (".tar", ".tar.gz", ".tgz"), (".zip",)
MAX_FILE = 100_000_000  # bytes of one image file; 30 megapixels without any compression
LONGEST_TARGET = 4096  # bytes of a link's target, as Linux has it
# Folders that macOS, Windows, file systems and network drives leave beside the user's files.
SYSTEM_FOLDERS = frozenset({"__MACOSX", "@eaDir", "@Recycle", "#recycle", "$RECYCLE.BIN",
                            "System Volume Information", "lost+found"})
# An archive may unpack to MAX_UNPACKED bytes, or to MAX_RATIO times its size. Images compress 1 to
# 20 times, and a decompression bomb a thousand times.
MAX_UNPACKED, MAX_RATIO = 1_000_000_000, 200


@dataclass(frozen=True)
class Listing:
    """The files of a folder or archive.

    Attributes:
        sizes: The size in bytes of each file that is wanted, by its name: relative, with `/`.
        others: Number of the files that are not wanted.
        broken: Links of an archive that lead to none of its files: name → target.
    """

    sizes: dict[str, int]
    others: int
    broken: Mapping[str, str]

    def describe_broken(self) -> str:
        """Return how many links are broken, and where the first leads; empty without any."""
        if not self.broken:
            return ""
        name, target = min(self.broken.items())
        many = "s lead" if len(self.broken) > 1 else " leads"
        return (f"{len(self.broken):,} link{many} to no file of the archive, "
                f"{name:.200} to {target:.200}")


def is_passed_over(name: str) -> bool:
    """Whether a file or folder of this name is hidden, or metadata that a system leaves."""
    return name in SYSTEM_FOLDERS or (name.startswith(".") and name != ".")


def list_files(path: Path, wanted: Callable[[str], bool], hint: str = "") -> Listing:
    """Return the files of a folder or archive whose names are `wanted`.

    Links count as the files that they lead to: in a folder any file, in an archive its members. A
    compressed tar has no index, so listing it unpacks it once (in memory, piece by piece); listing
    a zip or a plain tar is fast. Files that are not wanted are not looked at, and folders that are
    passed over are not read.

    Args:
        wanted: Says whether a file of this name counts.
        hint: Follows the message if `path` is missing.

    Raises:
        UserError: `path` is missing, is neither a folder nor an archive, is broken, has two files
            of the same name, or would unpack to a multiple of its size.
    """
    try:
        if path.is_dir():
            return _list_folder(path, wanted)
        status = path.stat()
    except (OSError, ValueError) as error:  # ValueError: a path with a NUL in it
        name = str(path) if str(path).isprintable() else repr(str(path))
        raise UserError(f"{name:.400}: {getattr(error, 'strerror', None) or error}{hint}"
                        ) from error
    if not path.name.lower().endswith(TAR + ZIP):
        raise UserError(f"{path}: is neither a folder nor a {', '.join(TAR + ZIP)} file")
    index = _index(path, status.st_size, status.st_mtime_ns)
    sizes = {name: size for name, size in index.sizes.items() if wanted(name)}
    visible = sum(1 for name in index.sizes if not any(map(is_passed_over, name.split("/")[:-1])))
    broken = {name: target for name, target in index.broken.items()
              if not any(map(is_passed_over, name.split("/")))}
    return Listing(sizes, visible - len(sizes), broken)


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


def _list_folder(path: Path, wanted: Callable[[str], bool]) -> Listing:
    sizes, others = {}, 0
    with _named(path):
        seen = {os.path.realpath(path)}
        for folder, below, files in os.walk(path, followlinks=True, onerror=_raise):
            # A linked class folder counts like any other; a link to a parent would never end.
            real = {name: os.path.realpath(os.path.join(folder, name)) for name in below
                    if not is_passed_over(name)}
            below[:] = [name for name in real if real[name] not in seen]
            seen.update(real.values())
            for file in files:
                name = os.path.relpath(os.path.join(folder, file), path).replace(os.sep, "/")
                size = _file_size(os.path.join(folder, file)) if wanted(name) else None
                if size is None:
                    others += 1
                else:
                    sizes[name] = size
    return Listing(sizes, others, {})


def _file_size(file: str) -> int | None:
    """The size of a regular file; None for others: reading a named pipe would wait for ever."""
    try:
        status = os.stat(file)
    except OSError as error:
        if not os.path.islink(file):
            raise
        raise UserError(f"{file}: is a link to {os.readlink(file)}, which cannot be read "
                        f"({error.strerror}); put the file there, or leave the link out") from None
    return status.st_size if stat.S_ISREG(status.st_mode) else None


def _raise(error: OSError) -> None:
    raise error


@lru_cache(maxsize=8)
def _index(path: Path, size: int, modified: int) -> ArchiveIndex:
    with _named(path):
        if path.name.lower().endswith(ZIP):
            with zipfile.ZipFile(path) as archive:
                return index_of(path, _zip_entries(archive), check_unpacked)
        with _open_tar(path) as tar:
            return index_of(path, _tar_entries(tar), check_unpacked)


def _zip_entries(archive: zipfile.ZipFile) -> Iterator[ArchiveEntry]:
    for member in archive.infolist():
        # Some programs on Windows write `\\`, against the format's specification.
        name = member.filename.replace("\\", "/")
        if member.is_dir() or name.endswith("/"):
            continue
        target = None
        if stat.S_ISLNK(member.external_attr >> 16) and member.file_size <= LONGEST_TARGET:
            target = os.fsdecode(archive.read(member))
        yield ArchiveEntry(name, member.filename, member.file_size, target)


def _tar_entries(tar: tarfile.TarFile) -> Iterator[ArchiveEntry]:
    for member in _members(tar):
        if member.isfile():
            yield ArchiveEntry(member.name, member.name, member.size)
        elif member.islnk():  # its target is a name from the top of the archive
            yield ArchiveEntry(member.name, member.name, 0, member.linkname, is_hard=True)
        elif member.issym():
            yield ArchiveEntry(member.name, member.name, 0, member.linkname)


def _archive_contents(path: Path, wanted: Collection[str]) -> Iterator[tuple[str, bytes]]:
    status = path.stat()
    index = _index(path, status.st_size, status.st_mtime_ns)
    for name in wanted:
        if name not in index.members:
            raise UserError(f"{path}: {name:.400} has vanished since it was listed; run again")
        _check_size(f"{path}, member {name:.400}", index.sizes[name])
    if path.name.lower().endswith(ZIP):
        with zipfile.ZipFile(path) as archive:
            for name in wanted:
                yield name, archive.read(index.members[name])
        return
    names: dict[str, list[str]] = {}
    for name in wanted:
        names.setdefault(index.members[name], []).append(name)
    with _open_tar(path) as tar:
        for member in _members(tar):
            if member.isfile() and member.name in names:
                stream = tar.extractfile(member)
                assert stream is not None  # it is a file
                content = stream.read()
                yield from ((name, content) for name in names[member.name])


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
