"""A real cluster of Ray on this machine for tests, where Ray is installed.

Each node has its own namespace of processes, as another machine has: its processes cannot be seen
from elsewhere, and all of them die at once with the node.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

import psutil
import pytest

import gan_bench

# No usage statistics; no process is killed because other programs use memory. Workers are no nicer
# than other tests: Ray's own 15 leaves them a hundredth of a busy machine, and no test ends. A lost
# head is noted after 20 s, not 60: 5 s are too few for a client that starts on a busy machine. So
# are Ray's own 30 s for the process with which the head serves a client.
SETTINGS = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_memory_monitor_refresh_ms": "0",
            "RAY_worker_niceness": "0",
            "RAY_CLIENT_SERVER_CHECK_CHANNEL_TIMEOUT_S": "120",
            "RAY_gcs_rpc_server_reconnect_timeout_s": "20", "RAY_DEDUP_LOGS": "0"}
NODE = ["--num-cpus=1", "--num-gpus=0", "--object-store-memory=80000000", "--block",
        "--disable-usage-stats", "--node-ip-address=127.0.0.1"]
CAPSULE = ["unshare", "--pid", "--mount", "--fork", "--kill-child=KILL", "--mount-proc"]
RAY = [sys.executable, "-c", "from ray.scripts.scripts import main; main()"]


class RayCluster:
    """A head with one CPU, and further nodes with one CPU each.

    Args:
        environment: What its nodes have in addition.

    Attributes:
        head: The first node.
        environment: Of a driver on the head's machine.
        client: The cluster's address for drivers on other machines.
    """

    def __init__(self, environment: dict[str, str]) -> None:
        if find_spec("ray") is None:
            pytest.skip("Ray is not installed; the extra `ray` of gan_bench brings it")
        if subprocess.run([*CAPSULE, "true"], capture_output=True, check=False).returncode:
            pytest.skip("this user may make no namespaces of processes, which nodes need")
        self._folder = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))  # sockets: short paths
        path = os.pathsep.join([str(Path(gan_bench.__file__).parents[1]),
                                *filter(None, [os.environ.get("PYTHONPATH")])])
        self._environment = {**os.environ, **SETTINGS, "PYTHONPATH": path, **environment}
        self._nodes: list[subprocess.Popen[bytes]] = []
        port = _free_port()
        self.client = f"ray://127.0.0.1:{port}"
        self.head = self._start("--head", "--port=0", "--include-dashboard=false",
                                f"--ray-client-server-port={port}",
                                f"--temp-dir={self._folder / 'r'}")
        file = self._folder / "r" / "ray_current_cluster"
        self._wait(file.exists)
        self.address = file.read_text().strip()
        self.environment = {**SETTINGS, "RAY_ADDRESS": self.address}
        self._wait(lambda: "runtime started" in self._log())

    def add_node(self, *options: str, setup: str = "") -> subprocess.Popen[bytes]:
        """Start a node; kill what this returns, and the machine is lost.

        Args:
            options: Of `ray start`.
            setup: A command of the shell, which a mount may be: it is seen there alone.
        """
        before = self._log().count("runtime started")
        node = self._start(f"--address={self.address}", *options, setup=setup)
        self._wait(lambda: self._log().count("runtime started") > before)
        return node

    def namespace(self, node: subprocess.Popen[bytes]) -> str:
        """Return what tells the processes of a node: the number of their namespace."""
        children = Path(f"/proc/{node.pid}/task/{node.pid}/children").read_text().split()
        return str(os.stat(f"/proc/{children[0]}/ns/pid").st_ino)

    def lose(self, node: subprocess.Popen[bytes]) -> None:
        """End all processes of a node at once, as a power cut would."""
        node.kill()
        node.wait()

    def signal_head(self, number: int) -> None:
        """Send a signal to all processes of the head: SIGSTOP lets it be too busy to answer."""
        for process in psutil.Process(self.head.pid).children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                process.send_signal(number)

    def remove(self) -> None:
        """End all nodes, and remove their files."""
        for node in reversed(self._nodes):
            self.lose(node)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _start(self, *options: str, setup: str = "") -> subprocess.Popen[bytes]:
        # The shell outlives Ray, so that what Ray leaves behind goes on, as on a real machine.
        script = f'{setup or ":"} && "$@"; exec sleep 1000000'
        with (self._folder / "log").open("ab") as log:
            node = subprocess.Popen([*CAPSULE, "sh", "-c", script, "sh", *RAY, "start", *NODE,
                                     *options], env=self._environment, stdout=log, stderr=log,
                                    stdin=subprocess.DEVNULL, start_new_session=True,
                                    preexec_fn=lambda: signal.signal(signal.SIGINT,
                                                                     signal.SIG_DFL))
        self._nodes.append(node)
        return node

    def _log(self) -> str:
        return (self._folder / "log").read_text(errors="replace")

    def _wait(self, condition, seconds: float = 240) -> None:  # type: ignore[no-untyped-def]
        deadline = time.monotonic() + seconds
        while not condition():
            if self._nodes[-1].poll() is not None or time.monotonic() > deadline:
                text = self._log()
                self.remove()
                raise AssertionError(f"the cluster has not started: {text}")
            time.sleep(0.1)


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port
