"""Where `gan-bench run` trains, as its options say."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.runs import DIGITS, write_experiment
from helpers.studies import here

from gan_bench.config.cluster import ClusterSpec
from gan_bench.errors import UserError
from gan_bench.launcher.clusters.slurm import job_name, worker_program

CLUSTER = "cluster: {partition: batch, time: 90, workers: 3, constraint: ib}\n"


def test_a_dry_run_prints_the_file_and_makes_nothing(tmp_path: Path) -> None:
    file, root = write_experiment(tmp_path, DIGITS + CLUSTER), tmp_path / "root"
    done = here("run", file, "--on", "slurm", "--dry-run", "--root", root, "--data-root",
                tmp_path / "data", "--slurm-time", "2-0", "--slurm-cpus", "2")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line.removeprefix("#SBATCH ") for line in lines if line.startswith("#SBATCH")] == [
        f"--job-name={job_name('tiny', root)}", "--array=0-1", "--ntasks=1", "--cpus-per-task=2",
        "--partition=batch", "--time=2-0", "--constraint=ib", "--requeue", "--open-mode=append",
        "--signal=USR1@120", f"--output={root}/runs/tiny/slurm/%A_%a.log"]  # 4 runs, 2 at once
    assert lines[-1] == (f"exec srun --cpus-per-task=2 {' '.join(worker_program())} work tiny "
                         f"--root {root} --data-root {tmp_path}/data --slots 2")
    assert not root.exists()


@pytest.mark.parametrize(("options", "says"), [
    (["--detach"], "--detach: is for workers on a cluster; give --on slurm"),
    (["--slurm-cpus", "3"], "--slurm-cpus: is for workers on a cluster; give --on slurm"),
    (["--dry-run"], "--dry-run: is for workers on a cluster; give --on slurm; `gan-bench plan` "
                    "shows what would be run"),
    (["--on", "slurm", "--slots", "2"], "--slots: is of this machine, which trains nothing"),
    (["--on", "slurm", "--profile"], "--profile: is for runs of this machine"),
    (["--on", "slurm", "--slurm-time", "soon"], "--slurm-time soon: a time limit is minutes, "),
    (["--on", "slurm", "--slurm-gpus", "x"], "--slurm-gpus x: a number of GPUs, or a type and"),
    (["--on", "slurm", "--slurm-workers", "0"], "--slurm-workers 0: "),
    (["--on", "ray", "--detach"], "--detach: is for --on slurm; --slots is the number of workers"),
    (["--on", "ray", "--slurm-time", "3"], "--slurm-time: is for --on slurm; --slots is the"),
    (["--on", "ray", "--profile"], "--profile: is for runs of this machine"),
    (["--on", "sun"], "--on sun: is no place; write here, slurm, ray, or ray://HOST:PORT"),
    (["--on", "slurm"], "squeue: there is no such command: run this where SLURM's commands are"),
])
def test_what_makes_no_sense_is_refused_in_a_line(tmp_path: Path, options: list[str], says: str,
                                                  monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    done = here("run", write_experiment(tmp_path), "--root", tmp_path / "root", *options)
    assert done.returncode == 2
    assert done.stdout == ""
    line, = done.stderr.splitlines()
    assert line.startswith(f"error: {says}")
    assert not (tmp_path / "root").exists()


def test_options_override_the_section_of_the_file() -> None:
    from gan_bench.cli.run_options import cluster_with

    spec = ClusterSpec.model_validate({"partition": "a", "workers": 3, "gpus": 1})
    asked = cluster_with(spec, {"partition": "b", "gpus": "2"})
    assert (asked.partition, asked.workers, asked.gpus) == ("b", 3, "2")
    assert cluster_with(spec, {}) == spec
    with pytest.raises(UserError, match="--slurm-cpus 0: "):
        cluster_with(spec, {"cpus": 0})
