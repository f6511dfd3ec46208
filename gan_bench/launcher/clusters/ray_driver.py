"""The client of a Ray cluster, in a process of its own: starts actors, and reports their ends.

Standard input: a line of JSON that is an `Order`, then `{"start": n}` for n more workers. Its end
asks all workers to write checkpoints and to end, also when the launcher has been killed. Standard
output: an event a line, as `RayWorkers` reads them.
"""

from __future__ import annotations

import json
import logging
import os
import re
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

Tell = Callable[[dict[str, Any]], None]
POLL = 0.3  # seconds
LOST = -1  # the status of a worker that Ray has lost
PATIENCE = 60.0  # seconds for checkpoints when the launcher has been killed; else it decides


class RayWorker:
    """An actor: runs `gan-bench work` on its node.

    It is sent as it is, and uses the standard library alone: the node may lack this program.
    """

    def __init__(self, order: dict[str, Any], number: int) -> None:
        self._order, self._number = order, number
        self._process: Any = None
        self._is_stopped = False

    def node(self) -> str:
        """Return the name of the machine."""
        import socket

        return socket.gethostname()

    def work(self) -> tuple[int, str]:
        """Work until no run is left; return the exit status and the last line that was printed."""
        import os
        import subprocess
        import sys
        from pathlib import Path

        home = Path(self._order["home"])
        if why := self._obstacle():
            return 2, why
        command = [sys.executable, "-m", "gan_bench"]
        command += ["work", home.name, "--root", str(home.parents[1]), "--slots", "1"]
        log = home / "ray" / f"worker-{self._number}.log"
        with log.open("w") as file:
            # Ray may kill the actor and its children at any time; what is kept alive by a pipe of
            # the actor writes checkpoints then.
            self._process = subprocess.Popen(
                [sys.executable, "-m", "gan_bench.launcher.kept", *command], stdout=file,
                stderr=file, stdin=subprocess.PIPE, start_new_session=True,
                env={**os.environ, "PYTHONSAFEPATH": "1"})
            if self._is_stopped:
                self._process.stdin.close()
            status = self._process.wait()
        lines = [line.strip() for line in log.read_text(errors="replace").splitlines()]
        return status, next((line for line in reversed(lines) if line), f"status {status}")[:500]

    def stop(self) -> None:
        """Ask the worker to write checkpoints and to end."""
        self._is_stopped = True
        if self._process is not None and not self._process.stdin.closed:
            self._process.stdin.close()

    def _obstacle(self) -> str:
        """Return why this node cannot work; empty if it can."""
        import json
        import os
        import sys
        from contextlib import suppress
        from pathlib import Path

        home, ours = Path(self._order["home"]), self._order["version"]
        try:
            os.stat(home / "queue.json")
        except OSError as error:
            return (f"{self.node()} does not see {home} ({error.strerror}); every node needs the "
                    f"root under the same path: share it, or choose another --root")
        seen = ""
        with suppress(OSError, ValueError, TypeError, KeyError):
            seen = json.loads((home.parents[1] / "instance.json").read_bytes())["id"]
        if seen != self._order["instance"]:
            return (f"{self.node()} has another folder at {home} than the launcher; every node "
                    f"needs the same root: share it, or choose another --root")
        try:
            from gan_bench import __version__ as theirs
        except ImportError:
            return f"{self.node()}: {sys.executable} has no gan_bench; install version {ours} there"
        return "" if theirs == ours else (f"{self.node()} has gan_bench {theirs}, and the launcher "
                                          f"has {ours}")


@dataclass
class Worker:
    """An actor, as the client has it.

    Attributes:
        number: Counts the workers of this launcher.
        actor: Its handle.
        node: What the name of its machine resolves.
        name: Of its machine; empty while it waits for a node.
    """

    number: int
    actor: Any
    node: Any
    name: str = ""


@dataclass
class Commands:
    """What the launcher asks for, read by a thread.

    Attributes:
        start: Workers to start.
        is_over: Whether the launcher has ended, or wants all workers to end.
    """

    start: int = 0
    is_over: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)

    def read(self) -> None:
        for line in sys.stdin:
            with self.lock:
                self.start += json.loads(line)["start"]
        self.is_over = True

    def take(self) -> int:
        """Return how many workers are to be started now."""
        with self.lock:
            number, self.start = self.start, 0
        return number


def drive() -> None:
    """Connect, and do what the launcher asks for until it wants no more."""
    events = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what Ray prints

    def tell(event: dict[str, Any]) -> None:
        print(json.dumps(event), file=events, flush=True)

    order = json.loads(sys.stdin.readline())
    try:
        resources, found = connect(order)
    except Exception as error:
        logging.exception("no connection")
        tell({"event": "error", "line": why_not_connected(order["address"], error),
              "final": is_final(error)})
        return
    tell({"event": "cluster", **found})
    commands = Commands()
    threading.Thread(target=commands.read, daemon=True).start()
    serve_launcher(order, resources, commands, tell)


def connect(order: dict[str, Any]) -> tuple[dict[str, int], dict[str, Any]]:
    """Connect to the cluster; return what a worker needs of it, and what the launcher hears of it.

    Raises:
        Exception: It does not answer, or is of another version.
    """
    import ray

    ray.init(address=order["address"], log_to_driver=False, configure_logging=False,
             logging_level=logging.ERROR)
    alive = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    has_gpus = any(node.get("GPU", 0) >= 1 for node in alive)
    uses_gpu = order["device"] == "cuda" or (order["device"] == "auto" and has_gpus)
    kind, need = ("GPU", 1) if uses_gpu else ("CPU", order["cpus"])
    room = sum(int(node.get(kind, 0)) // need for node in alive)
    resources = {"num_gpus": 1, "num_cpus": 0} if uses_gpu else {"num_cpus": need}
    return resources, {"room": room, "nodes": len(alive),
                       "need": f"{need} {kind}{'' if need == 1 else 's'}"}


def why_not_connected(address: str, error: Exception) -> str:
    """Return a line about a cluster that cannot be used, and what to do."""
    place = os.environ.get("RAY_ADDRESS") or "this machine" if address == "auto" else address
    text = " ".join(str(error).split())
    if len(versions := versions_in(text)) == 2:
        (theirs, their_python), (ours, our_python) = versions
        return (f"the Ray cluster at {place} has Ray {theirs} and Python {their_python}, and this "
                f"is Ray {ours} and Python {our_python}: use the same versions on all machines")
    return unanswered(place, text[:200])


def is_final(error: Exception) -> bool:
    """Whether a cluster that cannot be used now cannot be used in a minute either.

    One that has work to do answers late, and Ray's client gives up then.
    """
    is_other_version = len(versions_in(str(error))) == 2
    return is_other_version or "Could not find any running Ray" in str(error)


def versions_in(text: str) -> list[tuple[str, str]]:
    """Return the versions of Ray and Python that Ray names where the cluster's are not this one's.

    It names both sides then, the cluster first.
    """
    return re.findall(r"Ray: (\S+)\s+Python: (\S+)", text)


def unanswered(place: str, why: str) -> str:
    """Return a line about a cluster that does not answer."""
    return (f"no Ray cluster answers at {place} ({why}); start one with `ray start --head`, or "
            f"give its address: --on ray://HOST:10001")


def serve_launcher(order: dict[str, Any], resources: dict[str, int], commands: Commands,
                   tell: Tell) -> None:
    """Start workers and report their ends, until the launcher wants no more and all have ended."""
    import ray

    actor = ray.remote(**resources, max_restarts=0, max_task_retries=0, max_concurrency=3)(
        RayWorker)
    working: dict[Any, Worker] = {}  # by what its end resolves
    number = order["before"]
    while not commands.is_over:
        for _ in range(commands.take()):
            number += 1
            handle = actor.remote(order, number)
            working[handle.work.remote()] = Worker(number, handle, handle.node.remote())
        follow(working, tell)
    for worker in working.values():
        if worker.name:
            worker.actor.stop.remote()
        else:  # it waits for a node, and has claimed nothing
            ray.kill(worker.actor)
    deadline = time.monotonic() + PATIENCE
    while working and time.monotonic() < deadline:
        follow(working, lambda event: None)
    ray.shutdown()


def follow(working: dict[Any, Worker], tell: Tell) -> None:
    """Report which workers have begun and ended; wait a moment for it."""
    import ray
    from ray.exceptions import RayError, RayTaskError

    if not working:
        time.sleep(POLL)
        return
    done, _ = ray.wait(list(working), num_returns=1, timeout=POLL)
    for worker in working.values():
        if not worker.name and ray.wait([worker.node], timeout=0)[0]:
            with suppress(RayError):  # it is lost, as its end will say
                worker.name = ray.get(worker.node)
                tell({"event": "started", "worker": worker.number, "node": worker.name})
    for reference in done:
        worker = working.pop(reference)
        try:
            status, line = ray.get(reference)
        except RayTaskError as error:  # the disk is full, for example
            status, line = 2, str(error).strip().splitlines()[-1]
        except RayError as error:
            status, line = LOST, why_lost(error)
        with suppress(RayError):
            ray.kill(worker.actor)
        tell({"event": "ended", "worker": worker.number, "node": worker.name, "status": status,
              "line": line})


def why_lost(error: Exception) -> str:
    """Return why Ray has lost an actor, in a few words."""
    text = " ".join(str(error).split())
    if "unavailable" in text:
        return "Ray does not reach it any more"
    found = re.search(r"because ([^.]*)\.", text)
    return (found[1] if found else text or type(error).__name__)[:200]


if __name__ == "__main__":
    drive()
