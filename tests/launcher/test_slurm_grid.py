"""A grid on a real SLURM: preempted, requeued, and the same to the bit. `make slurm-faults`: more.
"""

from __future__ import annotations

import os
import re
import shutil
import time
from pathlib import Path

import pytest
from helpers.doc_blocks import blocks_of
from helpers.slurm_cluster import CREDENTIAL, SlurmCluster
from helpers.slurm_faults import Storm, launch, write_storm

from gan_bench.journal import reading
from gan_bench.journal.layout import checkpoint_files
from gan_bench.journal.sharing.claims import newest_claim
from gan_bench.launcher.clusters.slurm import job_name, worker_program
from gan_bench.tracking.store import client

DOCS = Path(__file__).parents[2] / "docs"
pytestmark = pytest.mark.process


def documented(folder: Path) -> str:
    """Return the file for sbatch that the documentation shows, for the grid of this test."""
    root, (block,) = folder / "slurm", (
        block for block in blocks_of(DOCS / "machines.md") if block.text.startswith("#!/bin/bash"))
    text = block.text.replace("study", "storm").replace("/shared/data", f"{folder}/data")
    text = text.replace("gan-bench work", f"{' '.join(worker_program())} work")
    text = text.replace("gan-bench.storm.9ad5a7", job_name("storm", root))
    return text.replace("/shared/mlruns", str(root))


def test_a_grid_that_slurm_preempts_and_requeues_ends_with_the_same_bits(tmp_path: Path) -> None:
    cluster = SlurmCluster(grace=3, kill_wait=3)
    for name in ("undisturbed", "slurm"):
        (tmp_path / name).mkdir()
        client._create_sqlite(tmp_path / name / "mlflow.db", tmp_path / name / "artifacts")
    write_storm(tmp_path, 6, 300)
    storm = Storm(cluster, tmp_path, "slurm")
    try:
        assert storm.wait_for_training(2), storm.text()
        file = tmp_path / "slurm/runs/storm/slurm/workers.sbatch"
        sent = file.read_text()  # a worker in the place of a lost one is another array
        (requeued, _), (_, node) = sorted(storm.training().items(), key=lambda item: item[1])
        cluster.preempt(node)
        cluster.call("scontrol", "requeue", requeued)
        assert launch(tmp_path, "undisturbed").wait(240) == 0
        assert storm.finish() == []
        assert sent == documented(tmp_path)
        assert len(re.findall(r"job \d+: waits for SLURM to end it", storm.text())) == 2
    finally:
        storm.end()
        cluster.remove()


@pytest.mark.long
def test_workers_outlive_a_launcher_that_detaches_and_end_with_ctrl_c(tmp_path: Path) -> None:
    cluster = SlurmCluster()
    write_storm(tmp_path, 4, 100_000)
    try:
        detached = launch(tmp_path, "slurm", "--on", "slurm", "--detach", env=cluster.environment)
        assert detached.wait(120) == 0, (tmp_path / "slurm.txt").read_text()
        assert len(cluster.jobs()) == 2
        storm = Storm(cluster, tmp_path, "slurm")
        try:
            assert storm.wait_for_training(2), storm.text()
            cluster.wait_for(lambda: "on SLURM: 2 running" in storm.text())
            assert sorted(cluster.jobs()) == ["2_0", "2_1"]  # none was sent again
            storm.interrupt()
            assert storm.status() == 130, storm.text()
        finally:
            storm.end()
        cluster.wait_for(lambda: cluster.jobs() == {})
        time.sleep(CREDENTIAL + 4)  # so long a requeued job would wait
        assert cluster.jobs() == {}
    finally:
        cluster.remove()
    text = storm.text()
    assert "2 workers cancelled" in text
    assert "RUNNING plain" not in text  # the launcher has waited for their ends
    assert "Traceback" not in text
    folders = [file.parent for file in (tmp_path / "slurm").glob("runs/storm/*/journal.jsonl")]
    assert len(folders) == 2
    for folder in folders:
        last, claim = reading.last(folder), newest_claim(folder)
        assert last is not None
        assert claim is not None
        assert (last["status"], last["why"]) == ("KILLED", "stopped by the user")
        assert claim.release is not None
        assert checkpoint_files(folder)


@pytest.mark.long
def test_a_launcher_does_not_detach_from_workers_that_slurm_has_refused(tmp_path: Path) -> None:
    """As with a limit of jobs, which `--test-only` does not see."""
    cluster = SlurmCluster()
    programs, sbatch = tmp_path / "bin", shutil.which("sbatch", path=cluster.environment["PATH"])
    programs.mkdir()
    (programs / "sbatch").write_text(
        f'#!/bin/sh\n[ "$1" = --test-only ] && exec {sbatch} "$@"\n'
        f"echo 'sbatch: error: Job violates accounting/QOS policy (job submit limit)' >&2\n"
        f"exit 1\n")
    (programs / "sbatch").chmod(0o755)
    write_storm(tmp_path, 4, 20)
    path = f"{programs}{os.pathsep}{cluster.environment['PATH']}"
    try:
        done = launch(tmp_path, "slurm", "--on", "slurm", "--detach",
                      env={**cluster.environment, "PATH": path})
        assert done.wait(120) == 2
        text = (tmp_path / "slurm.txt").read_text()
        assert "workers on other machines go on" not in text
        assert "policy (job submit limit); " in text.splitlines()[-1]
        assert cluster.jobs() == {}
    finally:
        cluster.remove()
