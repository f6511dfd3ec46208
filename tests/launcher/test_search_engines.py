"""A search on SLURM and on Ray, followed or left alone: both stages end as on one machine."""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from helpers.launching import GAN_BENCH, new_root
from helpers.ray_cluster import RayCluster
from helpers.searches import SEARCH, load_search, outcome_of, write_search
from helpers.slurm_cluster import SlurmCluster

from gan_bench.journal.sharing.claims import holder_of
from gan_bench.journal.sharing.queue_file import read_queue

pytestmark = [pytest.mark.process, pytest.mark.long]

CLUSTER = "cluster: {workers: 2, partition: batch}\n"
CONFIRMED = re.compile(r"4 runs confirm draw \d of unpenalised, draw \d of r1")


@contextmanager
def launched(folder: Path, environment: dict[str, str], *options: object,
             ) -> Iterator[subprocess.Popen[str]]:
    """Start the command that runs the search in the folder's root."""
    clean = {k: v for k, v in environment.items() if not k.startswith(("MLFLOW_", "GAN_B"))}
    with subprocess.Popen(
            [*GAN_BENCH, "run", str(folder / "tuned.yaml"), "--root", str(folder / "root"),
             *map(str, options)],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=clean) as process:
        try:
            yield process
        finally:
            process.kill()


def outcome(folder: Path, environment: dict[str, str], *options: object) -> tuple[int, str]:
    """Run that command to its end; return its status and what it prints."""
    with launched(folder, environment, *options) as process:
        out, _ = process.communicate(timeout=300)
    return process.returncode, out


def wait_for(condition: Callable[[], bool], seconds: float = 240) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.2)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the experiment and a root."""
    new_root(tmp_path)
    write_search(tmp_path, SEARCH + CLUSTER)
    return tmp_path


@pytest.fixture(scope="module")
def slurm() -> Iterator[SlurmCluster]:
    cluster = SlurmCluster()
    yield cluster
    cluster.remove()


@pytest.fixture(scope="module")
def ray_cluster() -> Iterator[RayCluster]:
    cluster = RayCluster({})
    cluster.add_node()
    yield cluster
    cluster.remove()


def check_whole(folder: Path, searched: Path, out: str) -> None:
    assert "10 of 10 runs are done" in out
    assert "Traceback" not in out
    assert outcome_of(folder / "root") == outcome_of(searched / "root")


def test_on_slurm(slurm: SlurmCluster, folder: Path, searched: Path) -> None:
    status, out = outcome(folder, slurm.environment, "--on", "slurm")
    assert status == 0, out
    assert CONFIRMED.search(out)
    check_whole(folder, searched, out)
    slurm.wait_for(lambda: slurm.jobs() == {})


def test_on_slurm_left_alone(slurm: SlurmCluster, folder: Path, searched: Path) -> None:
    """The workers choose and confirm; whoever comes back finds all done, and mirrors it."""
    status, out = outcome(folder, slurm.environment, "--on", "slurm", "--detach")
    assert status == 0, out
    assert "workers on other machines go on" in out
    slurm.wait_for(lambda: slurm.jobs() == {}, 240)
    assert outcome_of(folder / "root") == outcome_of(searched / "root")
    status, out = outcome(folder, slurm.environment, "--on", "slurm")
    assert status == 0, out
    assert "sent to SLURM" not in out
    check_whole(folder, searched, out)


def test_on_ray(ray_cluster: RayCluster, folder: Path, searched: Path) -> None:
    environment = {**os.environ, **ray_cluster.environment}
    status, out = outcome(folder, environment, "--on", "ray")
    assert status == 0, out
    assert CONFIRMED.search(out)
    assert out.count(" claims runs") == 2
    check_whole(folder, searched, out)


def test_a_worker_on_ray_that_is_lost_in_the_second_stage(
        ray_cluster: RayCluster, folder: Path, searched: Path) -> None:
    """Its launcher is killed while a chosen draw is confirmed; the same command goes on."""
    environment = {**os.environ, **ray_cluster.environment}
    home, select = folder / "root" / "runs" / "tuned", {run.id for run in load_search(folder).runs}
    write_search(folder, SEARCH + CLUSTER)
    with launched(folder, environment, "--on", "ray") as process:
        wait_for(lambda: any(holder_of(home / run) is not None
                             for run in ({*read_queue(home).begun} - select
                                         if (home / "queue.json").exists() else ())))
        process.kill()
    wait_for(lambda: all(holder_of(run) is None for run in home.glob("*/")))
    status, out = outcome(folder, environment, "--on", "ray")
    assert status == 0, out
    check_whole(folder, searched, out)
