"""Who has made an MLflow run: the identity of a root, and the tags that record it.

`own_runs` finds a root's runs by them, whatever the runs are called.

The id of a run is a hash of its specification, so two roots that repeat a study share it. Each root
has an instance id of its own, in a small file. A copy of the root takes another id when it first
writes to a store. The file says where it lies, so that a copy is seen:

- the inodes of the root and of the file, which a plain copy does not keep. (Device numbers are no
  part of it: they change with a reboot, and between the nodes of a cluster.)
- the path. A snapshot of a file system keeps the inodes, under another path. So does a root that
  was moved; but then there is no such root at the earlier path.
- the machine, as a clone of its disk keeps inodes and paths. It is left out for a root that several
  machines may share, and in a container, which is no machine.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from gan_bench.errors import unwritable
from gan_bench.paths import normal_path
from gan_bench.tracking.store.mounts import MOUNTS, mount_of

FILE = "instance.json"  # in the root
ROOT_TAG, ATTEMPT_TAG = "gan_bench.root", "gan_bench.attempt"
# Only one machine at a time uses these.
LOCAL = {"bcachefs", "btrfs", "exfat", "ext2", "ext3", "ext4", "f2fs", "jfs", "ntfs3", "tmpfs",
         "vfat", "xfs", "zfs"}
TRIES = 20  # to read a file that another process is writing


@dataclass(frozen=True)
class Instance:
    """What the file of a root holds.

    Attributes:
        id: Of this root, in 32 hex digits.
        place: The inodes of the root and of the file.
        machine: The id of the machine; empty if it does not count.
        path: Of the root, without links; empty in a file of an earlier version.
    """

    id: str
    place: str
    machine: str = ""
    path: str = ""


def run_root(folder: Path) -> Path:
    """Return the root of a run's folder, `<root>/runs/<experiment>/<run id>`."""
    return normal_path(folder).parents[2]


def origin_tags(instance: str, attempt: int) -> dict[str, str]:
    """Return the tags that record who has made a run.

    Args:
        instance: The id of the root.
        attempt: When the journal's attempt began, in ms since 1970.
    """
    return {ROOT_TAG: instance, ATTEMPT_TAG: str(attempt)}


def attempt_of(tags: Mapping[str, str], start_time: int) -> int:
    """Return when the attempt began that an MLflow run shows."""
    text = tags.get(ATTEMPT_TAG, "")
    return int(text) if text.isdecimal() else start_time


def instance_of(root: Path) -> str:
    """Return the instance id of a root; write its file if it is missing, or is that of another.

    Raises:
        UserError: The file cannot be written.
    """
    try:
        stored, place = _read_written(root)
        if stored is None:
            return _write(root, uuid.uuid4().hex, is_first=place is None)
        machine, path = _machine(root), str(root.resolve())
        if stored.place == place and _is_same(root, stored, machine, path):
            if stored.path != path:
                with suppress(OSError):  # a root that cannot be written to
                    _write(root, stored.id, is_first=False)
            return stored.id
        # Two launchers that see the same copy give it the same id.
        copied = hashlib.sha256(f"{stored.id} {place} {machine} {path}".encode()).hexdigest()[:32]
        return _write(root, copied, is_first=False)
    except OSError as error:
        raise unwritable(root / FILE, error, verb="used") from None


def recorded_origin(root: Path) -> Instance | None:
    """Return what a root's file says now, which may be that of the root that it is a copy of."""
    try:
        return _read(root)[0]
    except OSError:
        return None


def _read_written(root: Path) -> tuple[Instance | None, str | None]:
    """Return what `_read` does; wait a moment where another process may be writing the file."""
    for _ in range(TRIES):
        stored, place = _read(root)
        if stored is not None or place is None:
            break
        time.sleep(0.01)
    return stored, place


def _read(root: Path) -> tuple[Instance | None, str | None]:
    """Return what the file holds, and its place; None for what is missing or damaged."""
    try:
        with (root / FILE).open("rb") as file:
            place = _place(root, file.fileno())
            content = json.loads(file.read(4096))
    except FileNotFoundError:
        return None, None
    except (ValueError, RecursionError):
        return None, place
    try:
        stored = Instance(**content)
    except TypeError:
        return None, place
    is_sound = (all(isinstance(text, str) for text in asdict(stored).values())
                and len(stored.id) == 32 and stored.id.isalnum() and "\0" not in stored.path)
    return (stored if is_sound else None), place


def _write(root: Path, instance: str, *, is_first: bool) -> str:
    """Write the file; return the instance id that it holds then.

    Args:
        is_first: Whether a file that another process writes meanwhile counts.
    """
    temporary = root / f".{FILE}.{os.getpid()}"
    temporary.unlink(missing_ok=True)
    try:
        with temporary.open("x") as file:
            json.dump(_content(root, instance, file.fileno()), file, indent=1)
        if not is_first:
            temporary.replace(root / FILE)
            return instance
        try:
            os.link(temporary, root / FILE)
        except FileExistsError:
            stored, _ = _read_written(root)
            return stored.id if stored else instance
        except OSError:  # the file system has no hard links: exFAT, or a share of Windows
            return _create(root, instance)
        return instance
    finally:
        temporary.unlink(missing_ok=True)


def _create(root: Path, instance: str) -> str:
    """Write the file in its place; return the instance id that it holds then."""
    try:
        with (root / FILE).open("x") as file:
            json.dump(_content(root, instance, file.fileno()), file, indent=1)
    except FileExistsError:
        stored, _ = _read_written(root)
        return stored.id if stored else instance
    return instance


def _is_same(root: Path, stored: Instance, machine: str, path: str) -> bool:
    """Whether a root whose inodes agree is the one that the file was written for."""
    if stored.machine and machine and stored.machine != machine:
        return False
    if stored.path in ("", path):
        return True
    earlier = Path(stored.path)
    try:
        if (earlier / FILE).samefile(root / FILE):  # another way to the same folder
            return True
        there, _ = _read(earlier)
    except OSError:  # it was moved
        return True
    return there is None or there.id != stored.id


def _machine(root: Path) -> str:
    """Return the id of this machine; empty where it tells no roots apart."""
    try:
        mounts = MOUNTS.read_text()
        machine = Path("/etc/machine-id").read_text().strip()
    except (OSError, ValueError):
        return ""
    # The system of a container lies in an overlay, as a rule, and its id is that of its image.
    found = [mount_of(mounts, path) for path in (Path("/"), root.resolve())]
    return machine if all(mount and mount.kind in LOCAL for mount in found) else ""


def _content(root: Path, instance: str, descriptor: int) -> dict[str, str]:
    """Return what to write into the file that is open."""
    return asdict(Instance(instance, _place(root, descriptor), _machine(root),
                           str(root.resolve())))


def _place(root: Path, descriptor: int) -> str:
    return f"{root.stat().st_ino} {os.fstat(descriptor).st_ino}"
