"""Which machine this is, since which start, and which of its processes live."""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

UNKNOWN = -1


@lru_cache
def boot_id() -> str:
    """Return what tells this start of this machine, and this namespace of processes, from others.
    """
    with suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}/{os.stat('/proc/self/ns/pid').st_ino}"
    import psutil  # macOS

    return f"{socket.gethostname()}/{psutil.boot_time():.0f}"


def process_start(pid: int) -> int:
    """Return when a process of this machine started, in ticks since the boot; 0 if it has ended.

    UNKNOWN if the machine hides the processes of other users.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        return 0 if fields[0] in (b"Z", b"X") else int(fields[19])
    except (FileNotFoundError, ProcessLookupError):
        if Path("/proc/self/stat").exists():
            return UNKNOWN if _is_hidden(pid) else 0
    import psutil  # macOS

    with suppress(psutil.Error):
        return int(psutil.Process(pid).create_time())
    return 0


def _is_hidden(pid: int) -> bool:
    """Whether another user's process has this number, of which /proc says nothing."""
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except (OSError, OverflowError):
        return False
    return False
