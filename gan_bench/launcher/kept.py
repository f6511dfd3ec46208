"""Runs a command that ends gently when the process that wants it has died, however it died.

`python -m gan_bench.launcher.kept COMMAND…`: whoever starts this holds the other end of its
standard input. When that is closed, or this process is killed, the command is sent SIGTERM.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import subprocess
import sys

POLL = 0.2  # seconds
PR_SET_PDEATHSIG = 1  # of Linux


def run_kept(command: list[str]) -> int:
    """Run the command; return its exit status."""
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, preexec_fn=_end_with_parent)
    while child.poll() is None:
        if select.select([0], [], [], POLL)[0] and not os.read(0, 4096):
            child.terminate()
            break
    status = child.wait()
    return status if status >= 0 else 128 - status


def _end_with_parent() -> None:
    """Let the kernel send SIGTERM when the parent dies; its only thread is the one that waits."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)


if __name__ == "__main__":
    sys.exit(run_kept(sys.argv[1:]))
