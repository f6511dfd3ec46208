"""Machines of a network for tests: namespaces of network, host name, processes and mounts."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import pytest

BRIDGE = "bridge"


class Network:
    """Machines that see each other over a bridge; the first one holds it.

    Each has an address of its own. A link to the bridge can be cut.

    Args:
        names: Of the machines.
        root: The folder that all of them mount.
        place: Where they mount it; it is empty outside of them.

    Attributes:
        hub: The network namespace of the first one.
    """

    def __init__(self, names: Sequence[str], root: Path, place: Path) -> None:
        if os.geteuid() != 0:
            pytest.skip("only root may make network namespaces")
        for program in ("ip", "unshare", "nsenter"):
            if shutil.which(program) is None:
                pytest.skip(f"{program} is not installed")
        self._names, self._root, self._place = names, root, place
        self._begin = f"gb{os.getpid()}"
        self.hub = self._space(names[0])
        place.mkdir()

    def __enter__(self) -> Network:
        try:
            for name in self._names:
                self._ip("netns", "add", self._space(name))
            self._ip("-n", self.hub, "link", "add", BRIDGE, "type", "bridge")
        except subprocess.CalledProcessError as error:
            self._remove()
            pytest.skip(f"no network namespace can be made: {error.stderr.strip()}")
        for name in self._names[1:]:
            space = self._space(name)
            self._ip("-n", self.hub, "link", "add", f"to-{name}", "type", "veth", "peer", "name",
                     "eth0", "netns", space)
            self._ip("-n", self.hub, "link", "set", f"to-{name}", "master", BRIDGE, "up")
            self._configure(space, "eth0", self.address(name))
        self._configure(self.hub, BRIDGE, self.address(self._names[0]))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self._remove()

    def address(self, name: str) -> str:
        """Return the address of a machine."""
        return f"10.77.0.{1 + self._names.index(name)}"

    def start(self, name: str, command: Sequence[str | Path], output: Path,
              env: dict[str, str] | None = None) -> subprocess.Popen[str]:
        """Start a command on a machine; what it prints goes to a file. Its end ends all it started.
        """
        inside = f'hostname {name} && mount --bind {self._root} {self._place} && exec "$@"'
        with output.open("a") as file:
            return subprocess.Popen(
                ["ip", "netns", "exec", self._space(name), "unshare", "--uts", "--mount", "--pid",
                 "--fork", "--kill-child", "--mount-proc", "sh", "-c", inside, "sh", *command],
                stdout=file, stderr=file, text=True, env=env)

    def reaches(self, name: str, address: str, port: int) -> bool:
        """Whether a machine can connect to a port of another within a second."""
        script = ("import socket, sys\n"
                  "socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=1)")
        done = subprocess.run(["ip", "netns", "exec", self._space(name), sys.executable, "-c",
                               script, address, str(port)], capture_output=True, check=False)
        return done.returncode == 0

    def wait_for(self, name: str, address: str, port: int, seconds: float = 120) -> None:
        """Wait until a machine can connect to a port of another."""
        deadline = time.monotonic() + seconds
        while not self.reaches(name, address, port):
            assert time.monotonic() < deadline, f"{name} cannot reach {address}:{port}"
            time.sleep(0.2)

    def cut(self, name: str) -> None:
        """Cut the link of a machine."""
        self._ip("-n", self.hub, "link", "set", f"to-{name}", "down")

    def mend(self, name: str) -> None:
        """Restore the link of a machine."""
        self._ip("-n", self.hub, "link", "set", f"to-{name}", "up")

    def _configure(self, space: str, device: str, address: str) -> None:
        self._ip("-n", space, "addr", "add", f"{address}/24", "dev", device)
        self._ip("-n", space, "link", "set", device, "up")
        self._ip("-n", space, "link", "set", "lo", "up")

    def _space(self, name: str) -> str:
        return f"{self._begin}-{name}"

    def _remove(self) -> None:
        for name in self._names:
            subprocess.run(["ip", "netns", "del", self._space(name)], capture_output=True,
                           check=False)

    @staticmethod
    def _ip(*words: str) -> None:
        subprocess.run(["ip", *words], check=True, capture_output=True, text=True)
