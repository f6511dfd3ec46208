"""How many workers on Ray the launcher wants, whatever its client reports. No Ray is needed."""

from __future__ import annotations

import inspect
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Hashable, Mapping
from dataclasses import asdict
from pathlib import Path
from types import MappingProxyType
from typing import Any
from unittest.mock import MagicMock

import pytest

import gan_bench
from gan_bench.config.spec import ComputeSpec
from gan_bench.errors import UserError
from gan_bench.launcher.clusters import on_ray, ray_driver
from gan_bench.launcher.clusters.on_ray import FRUITLESS, RayWorkers
from gan_bench.launcher.clusters.ray_driver import (
    Commands,
    RayWorker,
    is_final,
    serve_launcher,
    why_lost,
    why_not_connected,
)
from gan_bench.launcher.clusters.slurm_workers import SlurmWorkers
from gan_bench.tracking.runs import origin

NOBODY: Mapping[str, int] = MappingProxyType({})
LATER = time.monotonic() + 1e6


class Told(RayWorkers):
    """Workers whose client is a file: what it is told, and reports that the test makes up."""

    def __init__(self, folder: Path, workers: int | None = None) -> None:
        self.said: list[str] = []
        folder.mkdir(parents=True, exist_ok=True)
        self.file, self.clients = folder / "told", 0
        self.file.write_text("")
        super().__init__("ray", folder, ComputeSpec(), workers, self.said.append)

    def look(self, unfinished: int, progress: Hashable, busy: Mapping[str, int] = NOBODY,
             sweep: int = 0) -> str:
        return super().look(unfinished, progress, busy, sweep)

    def _start_client(self) -> subprocess.Popen[str]:
        self.clients += 1
        client = subprocess.Popen(["true"], text=True)
        client.stdin = self.file.open("a")
        return client

    def report(self, kind: str, **values: Any) -> None:
        self._events.put({"event": kind, "worker": 1, "node": "n1", **values})

    def started(self) -> list[int]:
        """Return how many workers were to be started, each time."""
        self.stop()
        return [json.loads(line)["start"] for line in self.file.read_text().splitlines()]


@pytest.mark.parametrize("engine", [RayWorkers, SlurmWorkers])
def test_an_engine_is_always_told_who_is_busy(engine: type[RayWorkers | SlurmWorkers]) -> None:
    """As the protocol demands: a caller that forgets it would have idle workers cancelled."""
    for name, parameter in inspect.signature(engine.look).parameters.items():
        assert parameter.default is inspect.Parameter.empty, name


def test_no_more_workers_than_have_something_to_do(tmp_path: Path) -> None:
    workers = Told(tmp_path)
    assert workers.look(6, 0) == ""  # the cluster has not answered yet
    workers.report("cluster", room=4, nodes=2, need="1 CPU")
    assert workers.look(6, 1) == ""
    workers.report("ended", status=0, line="")
    assert workers.look(3, 2) == ""
    workers.report("ended", status=-1, line="its node has died")
    assert workers.look(3, 3) == ""  # two are there, and a third has something to do
    workers.report("ended", status=137, line="")
    assert workers.look(1, 4) == ""
    assert workers.started() == [4, 1]
    assert workers.said[0] == (f"Ray has 2 nodes, with room for 4 workers; their output is in "
                               f"{tmp_path / 'ray'}")
    assert workers.said[1:] == [
        "worker 1 on n1 is lost (its node has died); its runs are taken up elsewhere",
        "worker 1 on n1 is lost (); its runs are taken up elsewhere"]


def test_workers_that_are_asked_for_wait_for_room(tmp_path: Path) -> None:
    workers = Told(tmp_path, workers=3)
    workers.report("cluster", room=0, nodes=1, need="1 GPU")
    assert workers.look(6, 0) == ""
    assert workers.started() == [3]
    alone = Told(tmp_path)
    alone.report("cluster", room=0, nodes=1, need="1 GPU")
    with pytest.raises(UserError, match="no node of the Ray cluster has 1 GPU for a worker; with"):
        alone.look(6, 0)
    assert alone.started() == []


def test_workers_that_are_lost_again_and_again_are_given_up(tmp_path: Path) -> None:
    workers = Told(tmp_path, workers=2)
    workers.report("cluster", room=2, nodes=1, need="1 CPU")
    assert workers.look(6, 0) == ""
    assert workers.look(6, 1) == ""  # a run got on
    for _ in range(2 * FRUITLESS):
        workers.report("ended", status=-1, line="out of memory")
        assert workers.look(6, 1) == ""
    workers.report("ended", status=-1, line="out of memory")
    assert workers.look(6, 1).startswith("workers on Ray are lost again and again without a step "
                                         "of any run; the last: out of memory. See ")
    assert workers.started() == [2, *[1] * 2 * FRUITLESS]


def test_progress_forgives_lost_workers(tmp_path: Path) -> None:
    workers = Told(tmp_path, workers=1)
    workers.report("cluster", room=2, nodes=1, need="1 CPU")
    for step in range(3 * FRUITLESS):
        assert workers.look(6, step) == ""
        workers.report("ended", status=-1, line="")
    assert len(workers.started()) == 3 * FRUITLESS


def test_when_all_have_ended_the_last_looks_are_taken(tmp_path: Path,
                                                      monkeypatch: pytest.MonkeyPatch) -> None:
    workers = Told(tmp_path, workers=1)
    workers.report("cluster", room=1, nodes=1, need="1 CPU")
    assert workers.look(6, 0) == ""
    workers.report("ended", status=75, line="left: 3 runs wait for a machine with A100")
    assert workers.look(3, 1) == ""
    monkeypatch.setattr(on_ray.time, "monotonic", lambda: LATER)
    assert workers.look(3, 1) == "worker 1 on n1: left: 3 runs wait for a machine with A100"
    assert workers.started() == [1]


def test_a_cluster_that_answers_late_is_asked_again(tmp_path: Path,
                                                    monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray's client has a time limit of its own, after which it ends."""
    monkeypatch.setattr(on_ray, "PAUSE", 0.0)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    workers = Told(tmp_path)
    for clients in (1, 2, 3):
        assert workers.look(6, 0) == ""
        assert workers.clients == clients
        if clients != 2:  # that one ends without a word
            workers.report("error", line="no Ray cluster answers at h", final=False)
        workers.report("gone")
        assert workers.look(6, 0) == ""
    assert workers.said == ["no Ray cluster answers at h; it is asked again, for at most 180 s"]
    workers.report("cluster", room=2, nodes=1, need="1 CPU")
    assert workers.look(6, 0) == ""
    assert workers.started() == [2]


def test_a_cluster_that_never_answers_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                                  ) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    workers = Told(tmp_path)
    assert workers.look(6, 0) == ""
    workers.report("error", line="no Ray cluster answers at h", final=False)
    workers.report("gone")
    assert workers.look(6, 0) == ""
    begin = time.monotonic()
    monkeypatch.setattr(on_ray.time, "monotonic", lambda: begin + on_ray.CONNECT_PATIENCE - 1)
    assert workers.look(6, 0) == ""
    monkeypatch.setattr(on_ray.time, "monotonic", lambda: begin + on_ray.CONNECT_PATIENCE + 1)
    with pytest.raises(UserError, match=r"answers at h; it was asked for 180 s, see .*client.log"):
        workers.look(6, 0)
    workers.stop()


def test_a_cluster_of_another_version_is_not_asked_again(tmp_path: Path) -> None:
    workers = Told(tmp_path)
    assert workers.look(6, 0) == ""
    workers.report("error", line="the Ray cluster at h has Ray 2.9.0", final=True)
    workers.report("gone")
    with pytest.raises(UserError, match=r"^the Ray cluster at h has Ray 2.9.0$"):
        workers.look(6, 0)
    workers.stop()
    assert workers.clients == 1


def test_a_client_that_ends_in_between_is_replaced_a_few_times(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(on_ray, "PAUSE", 0.0)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    workers = Told(tmp_path)
    for step in (*range(2 * FRUITLESS), *[2 * FRUITLESS] * FRUITLESS):
        assert workers.look(6, step) == ""  # a client is started
        workers.report("cluster", room=2, nodes=1, need="1 CPU")
        assert workers.look(6, step) == ""
        assert workers.has_workers
        workers.report("gone")
        assert workers.look(6, step) == ""
        assert not workers.has_workers
    assert workers.look(6, step) == ""
    workers.report("cluster", room=2, nodes=1, need="1 CPU")
    workers.report("gone")
    why = workers.look(6, step)
    assert why.startswith("Ray's client has ended: the cluster's head is gone, or does not")
    assert workers.said.count(f"{why}; it is asked again, for at most 180 s") == 3 * FRUITLESS
    assert workers.started() == [2] * 3 * FRUITLESS
    assert workers.clients == 3 * FRUITLESS + 1


def test_the_workers_of_a_new_client_are_counted_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                                    ) -> None:
    """The output of a lost worker stays: that of the next one has another name."""
    monkeypatch.setattr(on_ray, "PAUSE", 0.0)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    workers = Told(tmp_path / "root" / "runs" / "study")
    before = []
    for step in range(3):
        before.append(workers._order().before)
        workers.look(6, step)
        workers.report("cluster", room=2, nodes=1, need="1 CPU")
        workers.look(6, step)
        workers.report("gone")
        workers.look(6, step)
    assert before == [0, 2, 4]


def started_by(order: dict[str, Any], number: int, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return the numbers of the workers that a client starts for an order."""
    numbers: list[int] = []
    commands = Commands(start=number)

    class Actor:
        def remote(self, order: dict[str, Any], number: int) -> Any:
            numbers.append(number)
            commands.is_over = True
            return MagicMock()

    ray: Any = MagicMock()
    ray.remote.return_value.return_value = Actor()
    monkeypatch.setitem(sys.modules, "ray", ray)
    monkeypatch.setattr(ray_driver, "follow", lambda working, tell: None)
    monkeypatch.setattr(ray_driver, "PATIENCE", 0.0)
    serve_launcher(order, {}, commands, lambda event: None)
    return numbers


def test_a_client_counts_on_from_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    assert started_by({"before": 0}, 2, monkeypatch) == [1, 2]
    assert started_by({"before": 4}, 2, monkeypatch) == [5, 6]


def test_a_client_whose_head_is_gone_is_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                               ) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    workers = Told(tmp_path)
    workers.report("cluster", room=1, nodes=1, need="1 CPU")
    assert workers.look(6, 0) == ""
    assert workers.look(6, 1) == ""
    workers.report("gone")
    assert workers.look(6, 1).startswith("Ray's client has ended: the cluster's head is gone")
    workers.stop()


def test_a_worker_works_in_the_launchers_root_alone(tmp_path: Path) -> None:
    """Whatever queue another command has written there meanwhile."""
    home = tmp_path / "shared" / "runs" / "study"
    home.mkdir(parents=True)
    (home / "queue.json").write_text("{}")
    order = asdict(RayWorkers("ray", home, ComputeSpec(), None, print)._order())
    worker = RayWorker(order, 1)
    assert worker._obstacle() == ""
    (home / "queue.json").write_text('{"begun": {"0a": 1}}')
    assert worker._obstacle() == ""
    assert asdict(RayWorkers("ray", home, ComputeSpec(), None, print)._order()) == order
    instance = tmp_path / "shared" / origin.FILE
    ours = instance.read_text()
    for theirs in (ours.replace(order["instance"], "0" * 32), "[]", "{", ""):
        instance.write_text(theirs)
        assert f" has another folder at {home} than the launcher; " in worker._obstacle()
    instance.unlink()
    assert f" has another folder at {home} than the launcher; " in worker._obstacle()
    shutil.rmtree(home)
    assert f" does not see {home} (No such file or directory); every node" in worker._obstacle()
    home.mkdir()
    (home / "queue.json").touch()
    instance.write_text(ours)
    other = RayWorker({**order, "version": "0.0.9"}, 1)
    assert other._obstacle().endswith(f" has gan_bench {gan_bench.__version__}, and the launcher "
                                      f"has 0.0.9")


def test_a_word_about_versions_is_no_other_version() -> None:
    """A path with one, for example: the cluster may answer in a minute."""
    error = RuntimeError("cannot open /opt/ray-version-2/session: Version of the file is 3")
    assert not is_final(error)
    assert why_not_connected("ray://h:1", error).startswith("no Ray cluster answers at ray://h:1 (")


@pytest.mark.parametrize(("text", "line"), [
    ("Version mismatch: The cluster was started with:\n    Ray: 2.9.0\n    Python: 3.9.1\nThis "
     "process on x was started with:\n    Ray: 2.60.0\n    Python: 3.11.7\n",
     "the Ray cluster at ray://h:1 has Ray 2.9.0 and Python 3.9.1, and this is Ray 2.60.0 and "
     "Python 3.11.7: use the same versions on all machines"),
    ("ray client connection timeout", "no Ray cluster answers at ray://h:1 (ray client connection "
     "timeout); start one with `ray start --head`, or give its address: --on ray://HOST:10001")])
def test_why_there_is_no_connection(text: str, line: str) -> None:
    assert why_not_connected("ray://h:1", RuntimeError(text)) == line
    assert is_final(RuntimeError(text)) == text.startswith("Version")


@pytest.mark.parametrize(("text", "line"), [
    ("The actor died unexpectedly before finishing this task.\n\tclass_name: RayWorker\nThe actor "
     "died because its node has died. Node Id: 2e\n", "its node has died"),
    ("The actor 67 is unavailable: The actor is temporarily unavailable: RpcError: RPC error: "
     "Socket closed rpc_code: 14", "Ray does not reach it any more"),
    ("Something else", "Something else")])
def test_why_a_worker_is_lost(text: str, line: str) -> None:
    assert why_lost(RuntimeError(text)) == line
