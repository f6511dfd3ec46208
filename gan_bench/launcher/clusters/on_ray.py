"""Ray starts workers: an actor for each, on the nodes of a cluster that runs already.

A process of its own is the cluster's client (`ray_driver.py`): Ray's library takes over the
handling of signals, and ends its process when the cluster is gone. The launcher counts workers.
"""

from __future__ import annotations

import json
import math
import os
import queue
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Hashable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TextIO

import gan_bench
from gan_bench.config.spec import ComputeSpec
from gan_bench.errors import RUNS_LEFT, Say, UserError, count, unwritable
from gan_bench.journal.layout import make_folder
from gan_bench.launcher.clusters.ray_driver import unanswered
from gan_bench.tracking.runs.origin import instance_of

FOLDER = "ray"  # in the experiment's folder: what the workers and the client print
LOG = "client.log"
PROBE_PATIENCE = 10.0  # seconds
# Seconds in which a cluster has to answer. Ray's own client gives up after 24 s at an address of
# ray://, and after 70 s at a head, where its process ends: a busy cluster is asked again.
CONNECT_PATIENCE, PAUSE = 180.0, 5.0
STOP_PATIENCE = 6.0  # seconds for checkpoints: the command has to end within ten
LAST_LOOKS = (60.0, 10.0)  # seconds after all workers have ended: in order; with a reason
FRUITLESS = 3  # times that each worker, or the client, may be lost without a step of any run
# Exit statuses of `gan-bench work` that another worker would end with too: all is done, a run
# failed, nothing could be done, runs wait for other machines.
ENDS = frozenset((0, 1, 2, RUNS_LEFT))


@dataclass(frozen=True)
class Order:
    """What the cluster's client is told when it starts.

    Attributes:
        address: Of the cluster, as `ray.init` takes it.
        home: The folder of the experiment, which every node sees under this path.
        instance: The id of the root: a folder of another machine may have the same path.
        version: Of this program.
        device: As `compute.device`. A worker has a GPU if that is cuda, or auto and there is one.
        cpus: What Ray keeps for a worker without a GPU.
        before: How many workers earlier clients have started; the files of their output stay.
    """

    address: str
    home: str
    instance: str
    version: str
    device: str
    cpus: int
    before: int


class RayWorkers:
    """The workers of an experiment on a cluster of Ray; a `RemoteWorkers`.

    Args:
        place: `ray`, or `ray://HOST:PORT`.
        home: The experiment's folder.
        compute: Of its runs.
        workers: How many there are at most; None: as many as the cluster has room for.
        say: Receives what happens, a line each.
    """

    def __init__(self, place: str, home: Path, compute: ComputeSpec, workers: int | None, say: Say,
                 ) -> None:
        self._place, self._home, self._say, self._limit = place, home, say, workers
        self._device, self._cpus = compute.device, compute.threads
        self._pack = compute.pack if isinstance(compute.pack, int) else 1
        self._folder = home / FOLDER
        self._room: int | None = None  # for workers in the cluster, once it has answered
        self._alive = self._ended = self._lost = 0  # workers; lost ones since the last step
        self._started = 0  # workers, by all clients
        self._outages = 0  # of the client, since the last step
        self._has_begun = False  # whether a run got on
        self._why, self._failure = "", ""  # of the last worker that ended early; of the cluster
        self._progress: Hashable = None
        self._deadline = math.inf  # until when what is waited for must have happened
        self._events: queue.Queue[dict[str, Any]] = queue.Queue()
        self._client: subprocess.Popen[str] | None = None
        self._silence, self._asks_again = "", False  # why the cluster has not answered
        self._next_start = 0.0

    def refuse_impossible(self) -> None:
        """Refuse a cluster that cannot be reached, before anything is prepared.

        Raises:
            UserError: Ray is not installed, or nothing answers at the address.
        """
        if find_spec("ray") is None:
            raise UserError(f"--on {self._place}: Ray is not installed for {sys.executable}; "
                            f"install gan_bench[ray], in the version that the cluster has")
        _refuse_silent(self._place)

    def look(self, unfinished: int, progress: Hashable, busy: Mapping[str, int], sweep: int) -> str:
        """Start workers in the place of those that are missing.

        Returns:
            Why no worker works or will work; empty if one does.

        Raises:
            UserError: There are no workers at all.
        """
        if self._client is None and time.monotonic() >= self._next_start:
            self._client = self._start_client()
            if not self._asks_again:
                self._deadline = time.monotonic() + CONNECT_PATIENCE
        if progress != self._progress:
            self._has_begun = self._progress is not None
            self._progress, self._lost, self._outages = progress, 0, 0
        with suppress(queue.Empty):
            while not self._failure:
                self._hear(self._events.get_nowait())
        if self._room is not None and not self._failure:
            self._top_up(unfinished, self._room)
        why = self._failure or self._idle()
        if why and not self._has_begun:
            raise UserError(why)
        return why

    @property
    def has_workers(self) -> bool:
        """Whether any works, or waits for a node."""
        return self._alive > 0

    def dismiss(self) -> None:
        """End all workers, for which nothing is left."""
        self.stop()

    def stop(self) -> None:
        """Let all workers write checkpoints and end; wait a while for it."""
        if self._client is None:
            return
        assert self._client.stdin is not None
        with suppress(OSError):  # the client has ended
            self._client.stdin.close()
        try:
            self._client.wait(STOP_PATIENCE)
        except subprocess.TimeoutExpired:
            self._client.kill()  # Ray ends its actors, and each worker ends with its actor
            self._client.wait()

    def _idle(self) -> str:
        """Return why nothing happens; empty if a worker works, or another look may tell more."""
        if self._alive:
            return ""
        if self._room is None:
            if time.monotonic() <= self._deadline:
                return ""
            return (f"{self._silence or 'no Ray cluster answers'}; it was asked for "
                    f"{CONNECT_PATIENCE:g} s, see {self._folder / LOG}")
        # The last runs that the workers have ended are read at the next looks at them.
        self._deadline = min(self._deadline, time.monotonic() + LAST_LOOKS[bool(self._why)])
        if time.monotonic() < self._deadline:
            return ""
        return self._why or "all workers on Ray have ended"

    def _start_client(self) -> subprocess.Popen[str]:
        """Start the cluster's client, away from the signals of a terminal."""
        make_folder(self._folder)
        log = self._folder / LOG
        try:
            with log.open("a" if self._asks_again else "w") as file:
                client = subprocess.Popen(
                    [sys.executable, "-m", "gan_bench.launcher.clusters.ray_driver"], text=True,
                    stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=file,
                    start_new_session=True, env={**os.environ, "PYTHONSAFEPATH": "1"})
        except OSError as error:
            raise unwritable(log, error) from None
        threading.Thread(target=self._listen, args=(client.stdout,), daemon=True).start()
        _tell(client, asdict(self._order()))
        return client

    def _order(self) -> Order:
        return Order("auto" if self._place == "ray" else self._place, str(self._home),
                     instance_of(self._home.parents[1]), gan_bench.__version__, self._device,
                     self._cpus, self._started)

    def _listen(self, lines: TextIO) -> None:
        for line in lines:
            self._events.put(json.loads(line))
        self._events.put({"event": "gone"})

    def _hear(self, event: dict[str, Any]) -> None:
        """Note what the client reports."""
        kind = event["event"]
        if kind == "cluster":
            self._room = int(event["room"])
            self._say(f"Ray has {count(int(event['nodes']), 'node')}, with room for "
                      f"{count(self._room, 'worker')}; their output is in {self._folder}")
            self._deadline, self._silence, self._asks_again = math.inf, "", False
            if not self._room and self._limit is None:
                self._failure = (f"no node of the Ray cluster has {event['need']} for a worker; "
                                 f"with --slots N, N workers wait for nodes that will be added")
        elif kind == "started":
            self._say(f"worker {event['worker']} on {event['node']} claims runs")
        elif kind == "ended":
            self._alive -= 1
            self._note_end(event)
        elif kind == "error":  # its end follows
            self._silence = event["line"]
            if event["final"]:
                self._failure = self._silence
        elif kind == "gone":
            self._lose_client()

    def _lose_client(self) -> None:
        """Let another client ask the cluster, unless its head is gone for sure.

        The workers of one that is lost end with it: Ray ends their actors, at `ray://` half a
        minute later; until then they work on, and claims keep each run with one of them.
        """
        assert self._client is not None
        self._client.kill()  # nobody hears it any more
        self._client.wait()
        why, was_connected = self._silence, self._room is not None
        if was_connected or not why:
            why = (f"Ray's client has ended: the cluster's head is gone, or does not answer; once "
                   f"it is back, the same command goes on. See {self._folder / LOG}")
        if was_connected:
            self._outages += 1
            self._deadline = time.monotonic() + CONNECT_PATIENCE
        try:
            _refuse_silent(self._place)
        except UserError as error:
            self._failure = why if was_connected else str(error)
            return
        if self._outages > FRUITLESS:
            self._failure = why
            return
        if not self._asks_again:
            self._say(f"{why}; it is asked again, for at most {CONNECT_PATIENCE:g} s")
        self._client, self._room, self._alive, self._asks_again = None, None, 0, True
        self._next_start = time.monotonic() + PAUSE

    def _note_end(self, event: dict[str, Any]) -> None:
        """Note that a worker has ended, and whether another one may do better."""
        status, line = event["status"], event["line"]
        who = f"worker {event['worker']} on {event['node'] or 'Ray'}"
        if status in ENDS:
            self._ended += 1
            if status:
                self._why = f"{who}: {line}"
                self._say(self._why)
            return
        self._lost += 1
        self._why = f"{who} is lost: {line}"
        self._say(f"{who} is lost ({line}); its runs are taken up elsewhere")
        if self._lost > FRUITLESS * self._wanted(self._room or 1):
            self._failure = (f"workers on Ray are lost again and again without a step of any run; "
                             f"the last: {line}. See {self._folder}")

    def _wanted(self, room: int) -> int:
        return self._limit if self._limit is not None else room

    def _top_up(self, unfinished: int, room: int) -> None:
        """Start missing workers, but no more than have something to do."""
        busy = -(-unfinished // self._pack)
        missing = min(self._wanted(room) - self._ended, busy) - self._alive
        if missing > 0 and self._client is not None:
            self._alive += missing
            self._started += missing
            self._deadline = math.inf
            _tell(self._client, {"start": missing})


def _tell(client: subprocess.Popen[str], message: dict[str, Any]) -> None:
    assert client.stdin is not None
    with suppress(OSError):  # the client has ended, which its last event says
        client.stdin.write(json.dumps(message) + "\n")
        client.stdin.flush()


def _refuse_silent(place: str) -> None:
    """Refuse an address where nothing listens; Ray itself would try again for minutes."""
    address = os.environ.get("RAY_ADDRESS", "") if place == "ray" else place
    if found := re.fullmatch(r"(?:ray://)?\[?([^/]+?)\]?:(\d+)", address):
        try:
            socket.create_connection((found[1], int(found[2])), PROBE_PATIENCE).close()
        except (OSError, OverflowError) as error:
            raise UserError(unanswered(address, getattr(error, "strerror", "") or str(error),
                                       )) from None
