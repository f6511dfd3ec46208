"""That the cluster of tests/helpers/slurm_cluster.py does what one of many machines does."""

from __future__ import annotations

import time

import pytest
from helpers.slurm_cluster import NODES, SlurmCluster
from helpers.slurm_cluster import slurm_cluster as slurm_cluster

pytestmark = pytest.mark.process


@pytest.mark.long
def test_a_job_runs_on_each_node_and_an_urgent_one_drives_it_away(slurm_cluster: SlurmCluster,
                                                                  ) -> None:
    # A process that ends at the first signal has ended by itself for SLURM, and is not requeued.
    array = slurm_cluster.submit("exec srun bash -c 'trap \"\" TERM; sleep 600'", "--array=0-1",
                                 "--requeue")
    slurm_cluster.wait_for(lambda: len(slurm_cluster.running()) == 2)
    assert sorted(slurm_cluster.running().values()) == list(NODES)

    slurm_cluster.preempt("n2")
    victim = next(job for job, node in slurm_cluster.running().items() if node == "n2")
    slurm_cluster.wait_for(lambda: slurm_cluster.jobs()[victim][0] == "PENDING")
    slurm_cluster.wait_for(lambda: slurm_cluster.jobs()[victim][0] == "RUNNING")
    assert victim.startswith(f"{array}_")

    slurm_cluster.call("scancel", array)
    slurm_cluster.wait_for(lambda: slurm_cluster.jobs() == {})


@pytest.mark.long
def test_the_job_of_a_lost_node_goes_on_there_and_begins_again_elsewhere(
        slurm_cluster: SlurmCluster) -> None:
    file = slurm_cluster.folder / "beats"
    job = slurm_cluster.submit(f"while sleep 0.2; do echo $SLURM_RESTART_COUNT $SLURMD_NODENAME "
                               f">> {file}; done", "--requeue", "--nodelist=n1")
    slurm_cluster.wait_for(file.exists)
    slurm_cluster.lose_node("n1")
    slurm_cluster.wait_for(lambda: slurm_cluster.jobs()[job][0] == "PENDING")
    lines = file.read_text().count("\n")
    time.sleep(1)
    assert file.read_text().count("\n") > lines  # nobody has ended it


def test_nothing_of_a_cluster_is_left_when_it_is_removed() -> None:
    cluster = SlurmCluster()
    expected = {"munged", "slurmctld", "slurmd", "slurmstepd", "sleep"}
    try:
        cluster.submit("sleep 600")
        cluster.wait_for(lambda: {process.name().removesuffix("-wlm")
                                  for process in cluster.processes()} >= expected)
    finally:
        cluster.remove()
    assert cluster.processes() == []
    assert not cluster.folder.exists()
