"""The file systems that paths lie on, by what Linux says of their mounts."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

MOUNTS = Path("/proc/self/mountinfo")  # absent on macOS
# Types whose files several machines may have open. SQLite's write-ahead log needs memory that all
# its readers share, and locks that hold; these have neither between machines.
NETWORK = frozenset({
    "9p", "acfs", "afs", "beegfs", "ceph", "cifs", "coda", "davfs", "gfs", "gfs2", "glusterfs",
    "gpfs", "lustre", "ncpfs", "nfs", "nfs4", "ocfs2", "orangefs", "panfs", "pvfs2", "quobyte",
    "smb3", "smbfs", "wekafs",
    "fuse.beegfs", "fuse.blobfuse2", "fuse.ceph", "fuse.ceph-fuse", "fuse.curlftpfs", "fuse.dfuse",
    "fuse.gcsfuse", "fuse.glusterfs", "fuse.goofys", "fuse.juicefs", "fuse.mfs", "fuse.mount-s3",
    "fuse.quobyte", "fuse.rclone", "fuse.s3fs", "fuse.seaweedfs", "fuse.smbnetfs", "fuse.sshfs"})


@dataclass(frozen=True)
class Mount:
    """A mounted file system.

    Attributes:
        place: Where it is mounted.
        kind: Its type, as Linux names it: `ext4`, `nfs4`.
    """

    place: Path
    kind: str


def network_mount(file: Path) -> Mount | None:
    """Return the network file system that a file lies on, or will; None if it is a local one.

    None also where the system does not say (on macOS, or without `/proc`).

    Args:
        file: Absolute. It need not exist, nor its folders; a link counts as what it leads to.
    """
    place = file
    with suppress(OSError):  # a link that cannot be read is where it lies
        place = Path(os.path.realpath(file))
        os.stat(f"{place.parent}/.")  # an automounter mounts it now
    try:
        mount = mount_of(MOUNTS.read_text(errors="surrogateescape"), place)
    except OSError:
        return None
    return mount if mount is not None and mount.kind in NETWORK else None


def mount_of(mounts: str, path: Path) -> Mount | None:
    """Return the mount that a path lies in.

    Args:
        mounts: The content of `/proc/self/mountinfo`.
        path: Absolute, without links.
    """
    kinds: dict[Path, str] = {}
    for line in mounts.splitlines():
        # 36 35 98:0 /root /mnt/point rw,noatime shared:1 - nfs4 server:/path rw,vers=4.2
        mount, _, source = line.partition(" - ")
        point = re.sub(r"\\(\d{3})", lambda code: chr(int(code[1], 8)), mount.split(" ")[4])
        kinds[Path(point)] = source.split(" ")[0]  # the later one covers the earlier
    return next((Mount(place, kinds[place]) for place in (path, *path.parents) if place in kinds),
                None)
