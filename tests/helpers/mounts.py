"""Real file systems for tests: one of a network, and one on a disk that loses its power."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

import pytest

SFTP = Path("/usr/lib/openssh/sftp-server")


@contextmanager
def network_folder(served: Path, place: Path) -> Iterator[Path]:
    """Mount a folder by sshfs, and yield the place; its server is a process of this machine."""
    sshfs = shutil.which("sshfs")
    if sshfs is None or not SFTP.exists():
        pytest.skip("sshfs or OpenSSH's sftp-server is not installed")
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        pytest.skip("/dev/fuse cannot be used here")
    served.mkdir()
    place.mkdir()
    # In the place of `ssh`, whose arguments it ignores.
    command = served.with_name("ssh")
    command.write_text(f"#!/bin/sh\nexec {SFTP}\n")
    command.chmod(0o755)
    mounting = subprocess.run(
        [sshfs, "-o", f"ssh_command={command}", f"localhost:{served}", place],
        capture_output=True, text=True)
    if mounting.returncode:
        pytest.skip(f"sshfs cannot mount here: {mounting.stderr.strip()}")
    try:
        yield place
    finally:
        subprocess.run(["fusermount3", "-u", "-z", place], check=True)


class Disk:
    """A disk of its own, in a file, with a file system that writes nothing by itself for long.

    Args:
        folder: Where its file and its places lie.
    """

    def __init__(self, folder: Path) -> None:
        if os.geteuid() != 0 or not os.access("/dev/loop-control", os.R_OK | os.W_OK):
            pytest.skip("only root may mount a file, by a loop device")
        if shutil.which("mkfs.ext4") is None:
            pytest.skip("mkfs.ext4 is not installed")
        self.place, self._saved = folder / "disk", folder / "saved"
        self._file, self._copy = folder / "disk.img", folder / "saved.img"

    def __enter__(self) -> Disk:
        with self._file.open("wb") as file:
            file.truncate(64 << 20)
        subprocess.run(["mkfs.ext4", "-q", "-F", self._file], check=True)
        self.place.mkdir()
        self._mount(self._file, self.place, "loop,commit=600")
        os.sync()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        subprocess.run(["umount", self.place], check=True)

    @contextmanager
    def after_power_cut(self) -> Iterator[Path]:
        """Yield what a machine finds on the disk that starts again after it died just now."""
        shutil.copyfile(self._file, self._copy)
        self._saved.mkdir(exist_ok=True)
        self._mount(self._copy, self._saved, "loop")
        try:
            yield self._saved
        finally:
            subprocess.run(["umount", self._saved], check=True)

    def _mount(self, file: Path, place: Path, options: str) -> None:
        mounting = subprocess.run(["mount", "-o", options, file, place], capture_output=True,
                                  text=True)
        if mounting.returncode:
            pytest.skip(f"no loop device can be mounted: {mounting.stderr.strip()}")
