"""A command that ends gently when nobody wants it any more."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

KEPT = [sys.executable, "-m", "gan_bench.launcher.kept", sys.executable, "-c"]
# Says when it is ready, and when it is asked to end.
COMMAND = """
import signal, sys, time
from pathlib import Path
def end(number, frame):
    Path(sys.argv[1], "asked").touch()
    sys.exit(3)
signal.signal(signal.SIGTERM, end)
Path(sys.argv[1], "ready").touch()
time.sleep(60)
"""


def wait_for(file: Path) -> None:
    deadline = time.monotonic() + 60
    while not file.exists():
        assert time.monotonic() < deadline, file
        time.sleep(0.02)


@contextmanager
def kept(folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([*KEPT, COMMAND, folder], stdin=subprocess.PIPE) as process:
        wait_for(folder / "ready")
        yield process


def test_what_is_wanted_goes_on_and_ends_when_its_input_is_closed(tmp_path: Path) -> None:
    with kept(tmp_path) as process:
        time.sleep(0.5)
        assert process.poll() is None
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(30) == 3
    assert (tmp_path / "asked").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel tells of a parent's death")
def test_it_ends_gently_when_what_keeps_it_is_killed(tmp_path: Path) -> None:
    with kept(tmp_path) as process:
        child, = psutil.Process(process.pid).children()
        process.kill()
        wait_for(tmp_path / "asked")
        child.wait(30)


@pytest.mark.parametrize(("code", "status"), [
    ("raise SystemExit(75)", 75), ("pass", 0),
    (f"import os; os.kill(os.getpid(), {int(signal.SIGKILL)})", 128 + signal.SIGKILL)])
def test_the_status_is_that_of_the_command(code: str, status: int) -> None:
    read, write = os.pipe()
    assert subprocess.run([*KEPT, code], stdin=read, check=False).returncode == status
    os.close(read)
    os.close(write)
