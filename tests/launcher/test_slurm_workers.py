"""How many workers are sent, and when no more: on a real SLURM."""

from __future__ import annotations

import itertools
import os
import shlex
import time
from collections.abc import Hashable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from unittest.mock import patch

import pytest
from helpers.slurm_cluster import SlurmCluster
from helpers.slurm_cluster import slurm_cluster as slurm_cluster

from gan_bench.config.cluster import ClusterSpec
from gan_bench.errors import UserError
from gan_bench.journal.sharing.claims import take
from gan_bench.launcher.clusters import slurm_workers
from gan_bench.launcher.clusters.slurm import SchedulerDown, WorkerArray, worker_program
from gan_bench.launcher.clusters.slurm_workers import FRUITLESS, IDLE, SlurmWorkers

pytestmark = pytest.mark.process
NOBODY: Mapping[str, int] = MappingProxyType({})


@pytest.fixture
def cluster(slurm_cluster: SlurmCluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[SlurmCluster]:
    """A cluster that the launcher of this process talks to and looks at without pauses."""
    monkeypatch.setattr(slurm_workers, "LOOK", 0.0)
    monkeypatch.setattr(slurm_workers, "OUTAGE", 0.0)
    with patch.dict(os.environ, slurm_cluster.environment):
        yield slurm_cluster


class Looking(SlurmWorkers):
    """Workers that are looked at after a new sweep each time, unless a test says which."""

    def look(self, unfinished: int, progress: Hashable, busy: Mapping[str, int] = NOBODY,
             sweep: int | None = None) -> str:
        new = next(self._sweeps) if sweep is None else sweep
        return super().look(unfinished, progress, busy, new)

    _sweeps = itertools.count(1000)


def workers_of(root: Path, said: list[str], setup: str = "exec sleep 600", workers: int = 2,
               **keys: object) -> Looking:
    """Return workers that do nothing but what `setup` says."""
    spec = ClusterSpec.model_validate({"setup": [setup], "workers": workers, **keys})
    return Looking(WorkerArray("grid", root, root / "data", spec, workers), said.append)


def test_workers_are_sent_once_and_only_missing_ones_again(cluster: SlurmCluster, tmp_path: Path,
                                                           ) -> None:
    said: list[str] = []
    workers = workers_of(tmp_path, said)
    for _ in range(3):
        assert workers.look(40, 0) == ""
    cluster.wait_for(lambda: len(cluster.running()) == 2)
    assert workers.look(40, 0) == ""
    assert [line for line in said if "sent" in line] == [
        f"2 workers sent to SLURM as job 1; their output is in {tmp_path}/runs/grid/slurm"]
    assert said[-1] == "on SLURM: 2 running"

    again = workers_of(tmp_path, said)  # as after a launcher that was killed
    assert again.look(40, 0) == ""
    assert len(cluster.jobs()) == 2
    cluster.call("scancel", "1_1")
    cluster.wait_for(lambda: len(cluster.jobs()) == 1)
    assert again.look(40, 0) == ""  # it may have finished the last run
    assert len(cluster.jobs()) == 1
    assert again.look(40, 0) == ""
    assert sorted(cluster.jobs()) == ["1_0", "3_0"]
    cluster.wait_for(lambda: len(cluster.running()) == 2)
    cluster.call("scontrol", "requeuehold", "1_0")
    cluster.wait_for(lambda: cluster.jobs()["1_0"][0] == "PENDING")
    # One that is held would never start; SLURM says so a moment later.
    cluster.wait_for(lambda: again.look(40, 0) == "" and len(cluster.jobs()) == 3)
    cluster.call("scancel", "1_0")
    cluster.wait_for(lambda: len(cluster.jobs()) == 2)
    assert again.look(1, 1) == again.look(0, 2) == ""
    assert len(cluster.jobs()) == 2

    again.stop()
    cluster.wait_for(lambda: cluster.jobs() == {})
    assert said[-1] == "2 workers cancelled"


def test_workers_that_slurm_refuses_are_no_workers(cluster: SlurmCluster, tmp_path: Path) -> None:
    refused = workers_of(tmp_path, [], constraint="ib")
    assert refused.look(40, 0) == ""
    assert not refused.has_workers
    workers = workers_of(tmp_path, [])
    assert workers.look(40, 0) == ""
    assert workers.has_workers
    again = workers_of(tmp_path, [], constraint="ib", workers=4)
    assert again.look(40, 0) == ""  # more are refused, and two are there
    assert again.has_workers


def test_workers_that_have_not_started_are_cancelled_when_nothing_is_left(
        cluster: SlurmCluster, tmp_path: Path) -> None:
    said: list[str] = []
    workers = workers_of(tmp_path, said, workers=4)
    workers.look(40, 0)
    cluster.wait_for(lambda: len(cluster.running()) == 2)

    def is_said() -> bool:
        workers.look(40, 0)
        return said[-1] == "on SLURM: 2 pending (Resources), 2 running"

    cluster.wait_for(is_said)
    assert not any("None" in line for line in said)
    workers.dismiss()
    cluster.wait_for(lambda: len(cluster.jobs()) == 2)
    assert {state for state, _ in cluster.jobs().values()} == {"RUNNING"}


def test_workers_for_which_no_run_is_left_are_cancelled_after_a_while(
        cluster: SlurmCluster, tmp_path: Path) -> None:
    """With `pack: auto` on a GPU, which these nodes need not have, the first may claim all runs."""
    said: list[str] = []
    workers = workers_of(tmp_path, said, workers=4, gpus="1", cpus=1, options=["--gres=none"])
    workers.look(16, 0)
    cluster.wait_for(lambda: len(cluster.running()) == 2)
    one, two = sorted(cluster.running())
    for busy in ({}, {one: 8, two: 4}):  # some could take the rest
        for _ in range(2 * IDLE):
            assert workers.look(16, 1, busy) == ""
    for _ in range(IDLE - 1):
        assert workers.look(16, 1, {one: 8, two: 8}) == ""
        assert len(cluster.jobs()) == 4
    assert workers.look(16, 1, {one: 8, two: 8}) == ""
    cluster.wait_for(lambda: sorted(cluster.jobs()) == [one, two])  # those that waited to start
    assert said[-1] == "2 workers cancelled, as others hold all runs that are left"
    for _ in range(IDLE):
        assert workers.look(8, 2, {two: 8}) == ""
    cluster.wait_for(lambda: sorted(cluster.jobs()) == [two])  # one that worked has nothing to do
    for _ in range(2 * IDLE):
        assert workers.look(5, 3, {two: 5}) == ""
        assert workers.look(50, 3, {two: 8, "": 42}) == ""  # on machines without SLURM
    assert sorted(cluster.jobs()) == [two]
    assert workers._most == 8
    assert workers.look(9, 4, {two: 8}) == workers.look(9, 4, {two: 8}) == ""
    assert len(cluster.jobs()) == 2  # of the next stage, there are more than one can take


def test_a_worker_that_has_claimed_since_the_last_sweep_is_not_cancelled(
        cluster: SlurmCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workers = workers_of(tmp_path, [], workers=2)
    workers.look(16, 0)
    cluster.wait_for(lambda: len(cluster.running()) == 2)
    one, two = sorted(cluster.running())
    for _ in range(2 * IDLE):  # the runs are not read again
        assert workers.look(1, 1, {one: 1}, 7) == ""
    assert len(cluster.jobs()) == 2
    monkeypatch.setenv("SLURM_JOB_ID", two)
    (run := tmp_path / "runs" / "grid" / "0a").mkdir(parents=True, exist_ok=True)
    claim = take(run)
    for _ in range(2 * IDLE):
        assert workers.look(1, 1, {one: 1}) == ""
    assert len(cluster.jobs()) == 2
    claim.release()
    for _ in range(IDLE):
        assert workers.look(1, 1, {one: 1}) == ""
    cluster.wait_for(lambda: sorted(cluster.jobs()) == [one])


def test_workers_that_end_without_a_step_are_not_sent_for_ever(cluster: SlurmCluster,
                                                               tmp_path: Path) -> None:
    said: list[str] = []
    workers = workers_of(tmp_path, said, "echo no module named gan_bench; exit 1", 1)
    deadline = time.monotonic() + 60
    while not (why := workers.look(40, "the same")):
        assert time.monotonic() < deadline, said
        time.sleep(0.2)
    assert why.startswith(f"{FRUITLESS} arrays of workers have ended without a step; ")
    assert why.endswith("_0.log: no module named gan_bench")
    assert len([line for line in said if "sent" in line]) == FRUITLESS
    assert workers.look(40, "a step") == ""  # then they were of use


def test_a_root_that_the_nodes_do_not_see_is_said(cluster: SlurmCluster, tmp_path: Path) -> None:
    said: list[str] = []
    root = tmp_path / "root"
    (root / "runs" / "grid").mkdir(parents=True)
    work = f"{shlex.join([*worker_program(), 'work', 'grid', '--root', str(root)])}"
    hidden = f"mount -t tmpfs none {root}; {work}"
    workers = workers_of(root, said, f"exec srun unshare --mount sh -c '{hidden}'", 1)
    deadline = time.monotonic() + 120
    while not (why := workers.look(40, "the same")):
        assert time.monotonic() < deadline, said
        time.sleep(0.2)
    assert f"error: {root} holds no prepared experiment 'grid'; " in why


@pytest.mark.long
def test_a_scheduler_that_is_down_is_asked_again(cluster: SlurmCluster, tmp_path: Path) -> None:
    said: list[str] = []
    workers = workers_of(tmp_path, said)
    workers.look(40, 0)
    cluster.wait_for(lambda: len(cluster.running()) == 2)
    time.sleep(8)  # the controller saves its state every five seconds, and ends what it forgot
    cluster.stop_controller()
    assert workers.look(40, 0) == workers.look(40, 0) == ""
    with pytest.raises(SchedulerDown):
        workers_of(tmp_path, said).look(40, 0)
    with pytest.raises(SchedulerDown):
        workers_of(tmp_path, said).refuse_impossible()
    workers.stop()
    cluster.start_controller()
    cluster.wait_for(lambda: len(cluster.running()) == 2)
    assert workers.look(40, 0) == ""
    down, stop, up = said[-3:]
    assert "the scheduler does not answer" in down
    assert down.endswith("; training goes on, and the queue is looked at again")
    assert stop.startswith("workers may go on: squeue: the scheduler does not answer: ")
    assert f"`gan-bench stop grid --root {tmp_path}`" in stop
    assert up == "on SLURM: 2 running"
    assert len(cluster.jobs()) == 2


def test_what_slurm_would_refuse_is_refused_before_anything_is_prepared(
        cluster: SlurmCluster, tmp_path: Path) -> None:
    root = tmp_path / "root"
    workers_of(root, []).refuse_impossible()
    with pytest.raises(UserError, match="is nowhere: `sinfo -s`"):
        workers_of(root, [], partition="nowhere").refuse_impossible()
    with pytest.raises(UserError, match="is ib: `sinfo"):
        workers_of(root, [], constraint="ib").refuse_impossible()
    assert not root.exists()
    assert cluster.jobs() == {}


def test_workers_that_slurm_refuses_are_asked_for_again_a_few_times(cluster: SlurmCluster,
                                                                    tmp_path: Path) -> None:
    said: list[str] = []
    workers = workers_of(tmp_path, said, constraint="ib")
    for _ in range(FRUITLESS - 1):
        assert workers.look(40, 0) == ""
    assert len(said) == 1
    assert said[0].startswith("sbatch: ")
    assert said[0].endswith("; it is asked again")
    with pytest.raises(UserError, match="is ib: `sinfo"):
        workers.look(40, 0)
    assert workers_of(tmp_path, said).look(40, 0) == ""  # another launcher finds no obstacle
    assert len(cluster.jobs()) == 2
    assert workers.look(40, 0) == ""  # and then there are workers
    workers.refuse_impossible()


@pytest.mark.parametrize(("pack", "uses_gpu", "most"), [
    (None, True, 3), (4, True, 0), (None, False, 0)])
def test_how_many_runs_a_worker_takes_is_learnt_from_two_equal_looks(
        tmp_path: Path, pack: int | None, uses_gpu: bool, most: int) -> None:
    """And only with `pack: auto` on a GPU: else the number is known."""
    array = WorkerArray("grid", tmp_path, tmp_path, ClusterSpec.model_validate({}), 2, 1,
                        uses_gpu, pack)
    workers = SlurmWorkers(array, lambda line: None)
    learnt = []
    for held in (3, 8, 3, 2, 3, 3, 1, 1):  # 8: it ended some while their claims were read
        workers._learn({"1_0": held, "": 9})
        learnt.append(workers._most)
    assert learnt == 5 * [0] + 3 * [most]
