"""Which member of an archive holds the content of each file: links lead to other members."""

from __future__ import annotations

import posixpath
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

from gan_bench.errors import UserError

MOST_LINKS = 40  # on the way to a file, as in Linux
DEEPEST = 100  # folders around a file that a link leads to
COPY = 512  # bytes that a linked file counts at least: an archive may link a folder many times


@dataclass(frozen=True)
class ArchiveEntry:
    """A file or link in an archive.

    Attributes:
        name: With `/`; it may begin with `./` or `/`.
        member: By which the archive gives its content.
        size: In bytes.
        target: Where a link leads; None for a file.
        is_hard: Whether the target starts at the top of the archive, or in the link's folder.
    """

    name: str
    member: str
    size: int
    target: str | None = None
    is_hard: bool = False


@dataclass(frozen=True)
class ArchiveIndex:
    """The files of an archive, links to its files among them, and the files of linked folders.

    Attributes:
        sizes: In bytes, by name.
        members: The member that holds the content of each.
        broken: The links that lead to none of its files: name → target.
    """

    sizes: Mapping[str, int]
    members: Mapping[str, str]
    broken: Mapping[str, str]


def index_of(path: Path, entries: Iterable[ArchiveEntry],
             check: Callable[[Path, int], None]) -> ArchiveIndex:
    """Return the index of an archive.

    Args:
        path: The archive, for messages.
        entries: Its files and links, in any order.
        check: Refuses the archive if it would unpack to this number of bytes.

    Raises:
        UserError: Two entries have the same name, `./` at its begin aside, or as `check`.
    """
    sizes: dict[str, int] = {}
    names: dict[str, str] = {}  # as the archive has them, by what they are when it is unpacked
    members: dict[str, str] = {}
    links: list[ArchiveEntry] = []
    unpacked = 0

    def add(name: str, member: str, size: int, cost: int) -> None:
        nonlocal unpacked
        if (earlier := names.setdefault(_clean(name), name)) != name or name in sizes:
            both = f" (as {earlier:.200} and {name:.200})" if earlier != name else ""
            raise UserError(f"{path}: holds two files called {_clean(name):.400}{both}; pack it "
                            f"again with one")
        sizes[name], members[name] = size, member
        unpacked += cost
        check(path, unpacked)

    for entry in entries:
        if entry.target is None:
            add(entry.name, entry.member, entry.size, entry.size)
        else:
            links.append(entry)
    broken, follower = {}, _Follower(sizes, links)
    for link in links:
        before = len(sizes)
        for copy, original in follower.files_behind(link.name):
            add(copy, members[original], sizes[original], max(sizes[original], COPY))
        if len(sizes) == before:
            broken[link.name] = link.target or ""
    return ArchiveIndex(sizes, members, broken)


class _Follower:
    """Follows links, on the names as they are before any link becomes a file.

    Args:
        files: The names of the files.
        links: The links.
    """

    def __init__(self, files: Iterable[str], links: Sequence[ArchiveEntry]) -> None:
        self._targets = {_clean(link.name): _target(link) for link in links}
        self._files = {_clean(name): name for name in files}
        self._files |= {name: self._files[place] for name in self._targets
                        if (place := self._follow(name)) in self._files}
        self._sorted = sorted(self._files)

    def files_behind(self, link: str) -> Iterator[tuple[str, str]]:
        """Yield the file that a link leads to, or those of the folder: (name, original's name)."""
        place = self._follow(_clean(link))
        if place is None:
            return
        if place in self._files:
            yield link, self._files[place]
            return
        below = "" if place == "." else place + "/"
        if _clean(link).startswith(below):  # the folder that the link lies in would never end
            return
        first = bisect_left(self._sorted, below)
        for name in takewhile(lambda name: name.startswith(below), self._sorted[first:]):
            yield f"{link}/{name[len(below):]}", self._files[name]

    def _follow(self, path: str) -> str | None:
        """The path without links; None if they lead out of the archive, or in circles."""
        for _ in range(MOST_LINKS):
            parts = path.split("/")
            if len(parts) > DEEPEST:
                return None
            heads = ("/".join(parts[:count]) for count in range(1, len(parts) + 1))
            head = next((head for head in heads if head in self._targets), None)
            if head is None:
                return path
            target = self._targets[head]
            if target is None:
                return None
            path = posixpath.normpath(target + path[len(head):])
        return None


def _clean(name: str) -> str:
    return posixpath.normpath(name).lstrip("/")


def _target(link: ArchiveEntry) -> str | None:
    """Where a link leads, from the top of the archive; None if out of it."""
    target = link.target or ""
    if link.is_hard:
        return _clean(target)
    if target.startswith("/"):
        return None
    path = posixpath.normpath(posixpath.join(posixpath.dirname(_clean(link.name)), target))
    return None if path.split("/")[0] == ".." else path
