"""The file for sbatch, what SLURM says to it, and how a worker leaves its job: a real SLURM."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

import pytest
from helpers.slurm_cluster import CREDENTIAL, SlurmCluster
from helpers.slurm_cluster import slurm_cluster as slurm_cluster

from gan_bench.config.cluster import ClusterSpec
from gan_bench.errors import UserError
from gan_bench.launcher.clusters import slurm, slurm_job
from gan_bench.launcher.clusters.slurm import SchedulerDown, WorkerArray

HOME = Path(__file__).parents[2]


def cluster_spec(**keys: object) -> ClusterSpec:
    return ClusterSpec.model_validate(keys)


def array(root: Path, workers: int = 1, **keys: object) -> WorkerArray:
    return WorkerArray("grid", root, root / "data", cluster_spec(**keys), workers)


def options(asked: WorkerArray) -> list[str]:
    lines = asked.text().split("\n")
    return [line.removeprefix("#SBATCH ") for line in lines if line.startswith("#SBATCH ")]


def test_the_file_asks_for_what_the_experiment_and_the_user_ask_for(tmp_path: Path) -> None:
    asked = WorkerArray("grid", tmp_path, Path("/data"), cluster_spec(
        partition="gpu", account="lab", time="4:00:00", gpus="a100:2", cpus=6, constraint="ib",
        options=["--exclude=n17"], setup=["module load cuda"]), 8)
    name = slurm.job_name("grid", tmp_path)
    assert options(asked) == [
        f"--job-name={name}", "--array=0-7", "--ntasks=1", "--cpus-per-task=6", "--partition=gpu",
        "--account=lab", "--time=4:00:00", "--constraint=ib", "--gres=gpu:a100:2", "--requeue",
        "--open-mode=append", "--signal=USR1@120", f"--output={tmp_path}/runs/grid/slurm/%A_%a.log",
        "--exclude=n17"]
    module, command = asked.text().split("\n")[-3:-1]
    assert module == "module load cuda"
    assert command == (f"exec srun --cpus-per-task=6 {' '.join(slurm.worker_program())} work grid "
                       f"--root {tmp_path} --data-root /data")
    assert "grid" in name
    assert slurm.job_name("grid", tmp_path / "other") != name


def test_what_nobody_asks_for_is_left_to_the_cluster(tmp_path: Path) -> None:
    asked = array(tmp_path)
    for absent in ("partition", "account", "time", "gres", "constraint"):
        assert f"--{absent}" not in asked.text()
    assert asked.command().endswith("--slots 1")


@pytest.mark.parametrize(("keys", "threads", "uses_gpu", "pack", "gpus", "cpus", "slots"), [
    ({}, 1, False, None, "", 1, 1),
    ({}, 2, False, 4, "", 2, 1),
    ({"cpus": 6}, 2, False, None, "", 6, 3),
    ({}, 1, True, None, "1", 4, 1),
    ({}, 1, True, 1, "1", 4, 1),
    ({}, 1, True, 3, "1", 4, 3),
    ({"cpus": 16}, 1, True, 1, "1", 16, 1),
    ({"gpus": 0}, 1, True, 4, "", 1, 1),
    ({"gpus": "a100:0"}, 1, True, None, "", 1, 1),
    ({"gpus": 2, "cpus": 8}, 1, False, None, "2", 8, 2),
    ({"gpus": "a100:2"}, 1, True, 4, "a100:2", 4, 8),
])
def test_cores_and_gpus_of_a_worker(keys: dict[str, object], threads: int, uses_gpu: bool,
                                    pack: int | None, gpus: str, cpus: int, slots: int) -> None:
    asked = WorkerArray("grid", Path("/r"), Path("/d"), cluster_spec(**keys), 1, threads, uses_gpu,
                        pack)
    assert (asked.gpus, asked.cpus, asked.slots) == (gpus, cpus, slots)
    assert ("--slots" in asked.command()) == (not gpus)


@pytest.mark.parametrize(("time_limit", "warning"), [
    ("1", 15), ("2:00", 30), ("0:02:00", 30), ("8", 120), ("1-0", 120), (None, 120)])
def test_the_warning_leaves_most_of_a_short_time_limit_to_training(
        time_limit: str | None, warning: int) -> None:
    asked = array(Path("/r"), time=time_limit)
    assert f"--signal=USR1@{warning}" in options(asked)


@pytest.mark.parametrize(("runs", "slots", "limit", "workers"), [
    (40, 1, None, 8), (40, 1, 1001, 8), (5, 1, 1001, 5), (40, 1, 3, 3), (5, 2, None, 3),
    (0, 1, 9, 0),
])
def test_no_more_workers_than_have_something_to_do(runs: int, slots: int, limit: int | None,
                                                   workers: int) -> None:
    assert slurm.workers_needed(cluster_spec(), runs, slots, limit) == workers


@pytest.mark.parametrize(("state", "where", "is_alive"), [
    ("RUNNING", "sheldon01", True), ("RUNNING", "held", True), ("PENDING", "(Resources)", True),
    ("PENDING", "(ReqNodeNotAvail, UnavailableNodes:sheldon[01-02])", True), ("PENDING", "", True),
    ("PENDING", "(JobHeldUser)", False), ("PENDING", "(JobHeldAdmin)", False),
    ("PENDING", "(JobHoldMaxRequeue)", False), ("PENDING", "(launch failed requeued held)", False),
    ("PENDING", "(job requeued in held state)", False),
    ("PREEMPTED", "sheldon01", False), ("COMPLETING", "n1", False)])
def test_a_worker_is_missing_if_it_ends_or_is_held(state: str, where: str, is_alive: bool) -> None:
    assert slurm.Job("1_0", state, where).is_alive == is_alive


@contextmanager
def talking_to(cluster: SlurmCluster) -> Iterator[None]:
    with patch.dict(os.environ, cluster.environment):
        yield


@pytest.mark.process
def test_an_array_is_sent_looked_for_and_cancelled(slurm_cluster: SlurmCluster, tmp_path: Path,
                                                   ) -> None:
    asked = array(tmp_path / "a root, 100%", 2, setup=["exec sleep 600"])
    with talking_to(slurm_cluster):
        assert slurm.max_array_size() == 1001
        assert slurm.jobs_of("grid", asked.root) == []
        number = slurm.submit(asked)
        jobs = slurm.jobs_of("grid", asked.root)
        assert [job.id for job in jobs] == [f"{number}_0", f"{number}_1"]
        assert slurm.jobs_of("grid", tmp_path / "another") == []
        slurm_cluster.wait_for(lambda: len(slurm_cluster.running()) == 2)
        assert {job.where for job in slurm.jobs_of("grid", asked.root)} == {"n1", "n2"}
        slurm_cluster.wait_for(lambda: len(list(asked.folder.glob(f"{number}_[01].log"))) == 2)
        slurm.cancel(jobs)
        slurm_cluster.wait_for(lambda: slurm.jobs_of("grid", asked.root) == [])


@pytest.mark.process
def test_a_job_that_is_sent_from_another_takes_nothing_over(slurm_cluster: SlurmCluster,
                                                            tmp_path: Path) -> None:
    inner = {"SLURM_MEM_PER_CPU": "7", "SLURM_RESTART_COUNT": "3", "GAN_BENCH_X": "kept"}
    with talking_to(slurm_cluster), patch.dict(os.environ, inner):
        slurm.submit(array(tmp_path, setup=[f"env > {tmp_path}/all; mv {tmp_path}/all "
                                            f"{tmp_path}/env; exec sleep 0"]))
        slurm_cluster.wait_for((tmp_path / "env").exists)
    lines = (tmp_path / "env").read_text().splitlines()
    assert "GAN_BENCH_X=kept" in lines
    assert f"SLURM_CONF={slurm_cluster.environment['SLURM_CONF']}" in lines
    assert not [line for line in lines if line.startswith(("SLURM_MEM_", "SLURM_RESTART_"))]


@pytest.mark.process
def test_what_slurm_refuses_is_said_in_a_line_with_a_cure(slurm_cluster: SlurmCluster,
                                                          tmp_path: Path) -> None:
    with talking_to(slurm_cluster):
        with pytest.raises(UserError, match=r"^sbatch: .*partition.*; cluster.partition \(--slurm-"
                                            r"partition\) is nowhere: `sinfo -s`"):
            slurm.submit(array(tmp_path, partition="nowhere"))
        with pytest.raises(UserError, match=r"^sbatch: .*; cluster.constraint \(.*\) is a100: "):
            slurm.submit(array(tmp_path, constraint="a100"))
        with pytest.raises(UserError, match=r"^sbatch: .*--no-such.*; correct the `cluster`"):
            slurm.submit(array(tmp_path, options=["--no-such-option"]))
        slurm_cluster.stop_controller()
        for call in (lambda: slurm.jobs_of("grid", tmp_path),
                     lambda: slurm.submit(array(tmp_path))):
            with pytest.raises(SchedulerDown, match=r"^\w+: the scheduler does not answer: .*; "
                                                    r"repeat the command when it is back"):
                call()
        slurm_cluster.start_controller()
        assert slurm.jobs_of("grid", tmp_path) == []


def test_without_slurm_the_line_says_where_to_go(tmp_path: Path) -> None:
    with patch.dict(os.environ, {"PATH": str(tmp_path)}):
        with pytest.raises(UserError, match=r"^sbatch: there is no such command: .* --dry-run"):
            slurm.submit(array(tmp_path))
        with pytest.raises(UserError, match=r"^squeue: there is no such command"):
            slurm.jobs_of("grid", tmp_path)


# What stands for a worker: it notes each start, and leaves as a worker does.
WORKER = f"""\
import os, signal, sys, time
sys.path.insert(0, {str(HOME)!r})
from gan_bench.launcher.clusters.slurm_job import leave_job
seen = set()
for number in (signal.SIGTERM, signal.SIGUSR1):
    signal.signal(number, lambda number, frame: seen.add(number))
with open("starts", "a") as file:
    file.write(os.environ.get("SLURM_RESTART_COUNT", "0") + "\\n")
while not seen:
    time.sleep(0.1)
leave_job(seen, sys.argv[1] == "work", lambda line: open("said", "a").write(line + "\\n"))
open("left", "a").write("by itself\\n")
"""


class Worker:
    """A job that does as a worker does, in a folder of its own."""

    def __init__(self, cluster: SlurmCluster, folder: Path, work: str = "work") -> None:
        self.cluster, self.folder = cluster, folder
        (folder / "worker.py").write_text(WORKER)
        self.job = cluster.submit(
            f"exec srun {sys.executable} worker.py {work}", "--requeue", f"--chdir={folder}",
            "--open-mode=append", "--array=0-0", "--nodelist=n1") + "_0"
        self.wait_for_starts(1)

    def lines(self, name: str) -> list[str]:
        file = self.folder / name
        return file.read_text().splitlines() if file.exists() else []

    def wait_for_starts(self, count: int) -> None:
        self.cluster.wait_for(lambda: len(self.lines("starts")) >= count)

    def wait_for_end(self) -> None:
        self.cluster.wait_for(lambda: self.job not in self.cluster.jobs())


@pytest.mark.long
@pytest.mark.process
def test_a_worker_whose_time_is_over_requeues_itself(slurm_cluster: SlurmCluster, tmp_path: Path,
                                                     ) -> None:
    worker = Worker(slurm_cluster, tmp_path)
    slurm_cluster.call("scancel", "--signal=USR1", worker.job)  # as the time limit sends it
    worker.wait_for_starts(2)
    assert worker.lines("starts") == ["0", "1"]
    assert "its time is over; requeued" in worker.lines("said")[0]
    assert worker.lines("left") == []


@pytest.mark.long
@pytest.mark.process
def test_a_preempted_worker_waits_and_is_requeued_and_a_cancelled_one_is_not(
        slurm_cluster: SlurmCluster, tmp_path: Path) -> None:
    worker = Worker(slurm_cluster, tmp_path)
    slurm_cluster.preempt("n1")
    worker.wait_for_starts(2)
    assert worker.lines("starts") == ["0", "1"]
    slurm_cluster.call("scancel", worker.job)
    worker.wait_for_end()
    assert len(worker.lines("said")) == 2
    time.sleep(CREDENTIAL + 4)  # so long a requeued one would wait
    assert worker.lines("starts") == ["0", "1"]
    assert worker.lines("left") == []


@pytest.mark.process
def test_a_worker_without_work_leaves_by_itself(slurm_cluster: SlurmCluster, tmp_path: Path,
                                                ) -> None:
    worker = Worker(slurm_cluster, tmp_path, work="none")
    slurm_cluster.call("scancel", "--signal=USR1", worker.job)
    worker.wait_for_end()
    assert worker.lines("left") == ["by itself"]
    assert worker.lines("said") == []


def test_outside_of_slurm_a_worker_leaves_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(slurm_job.JOB, raising=False)
    began, said = time.monotonic(), list[str]()
    slurm_job.leave_job({15}, True, said.append)
    assert time.monotonic() - began < 1
    assert said == []


def test_a_refused_requeue_is_said_and_the_worker_leaves(tmp_path: Path,
                                                         monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(slurm_job.JOB, "7")
    monkeypatch.setenv("PATH", str(tmp_path))
    said: list[str] = []
    slurm_job.leave_job({10}, True, said.append)
    assert said == ["job 7: its time is over, and it cannot be requeued (scontrol: No such file or "
                    "directory); `gan-bench run … --on slurm` sends another worker"]
