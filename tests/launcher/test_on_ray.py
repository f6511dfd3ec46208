"""`run --on ray` on a real cluster of two nodes, which cannot see each other's processes."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.faults import differences
from helpers.launching import GAN_BENCH, gan_bench, new_root
from helpers.ray_cluster import RayCluster
from helpers.runs import write_experiment

from gan_bench.journal.claims import Holder, holder_of, newest_claim
from gan_bench.journal.layout import checkpoint_files
from gan_bench.journal.segments import segments

pytestmark = pytest.mark.process

GRID = """\
name: storm
dataset: {name: digits, image_size: 16}
seeds: [0, 1, 2]
base: {model: {name: mlp, width: 64}, batch_size: 32, steps: 600, log_every: 10, sample_every: 100}
variants: {plain: {}, saturating: {loss: saturating}}
evaluate: {every: 200, samples: 50, metrics: [d_accuracy]}
compute: {device: cpu}
"""
LEASE = {"GAN_BENCH_LEASE": "3"}  # seconds until the runs of a lost node are taken up


@pytest.fixture(scope="module")
def cluster() -> Iterator[RayCluster]:
    cluster = RayCluster(LEASE)
    yield cluster
    cluster.remove()


def start(tmp_path: Path, cluster: RayCluster, text: str, *options: str,
          ) -> subprocess.Popen[str]:
    """Start the launcher of an experiment in the root `ray`."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW_", "GAN_B"))}
    root = new_root(tmp_path).rename(tmp_path / "ray")
    return subprocess.Popen(
        [*GAN_BENCH, "run", write_experiment(tmp_path, text), "--root", root,
         "--checkpoint-every", "0.2", *options], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, start_new_session=True, env={**clean, **cluster.environment, **LEASE},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler))


def held(root: Path) -> dict[Path, Holder]:
    """Return who works on which run."""
    found = {folder: holder_of(folder) for folder in root.glob("runs/*/*/")}
    return {folder: holder for folder, holder in found.items() if holder is not None}


def wait_for_checkpoint(process: subprocess.Popen[str], root: Path, node: str) -> Path:
    """Return the folder of a run that a node works on, once it has a checkpoint."""
    deadline = time.monotonic() + 120
    while True:
        for folder, holder in held(root).items():
            if holder.boot.endswith(f"/{node}") and checkpoint_files(folder):
                return folder
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, held(root)
        time.sleep(0.05)


def test_the_runs_of_a_lost_node_are_taken_up_elsewhere_to_the_same_bits(
        tmp_path: Path, cluster: RayCluster) -> None:
    node = cluster.add_node()
    process = start(tmp_path, cluster, GRID, "--on", "ray")
    root = tmp_path / "ray"
    lost = wait_for_checkpoint(process, root, cluster.namespace(node))
    before = newest_claim(lost)
    cluster.lose(node)
    out, _ = process.communicate(timeout=240)
    assert process.returncode == 0, out
    assert "6 of 6 runs are done" in out
    assert "Ray has 2 nodes, with room for 2 workers" in out
    assert out.count(" claims runs") == 2  # and none waits for a node in vain
    assert "is lost (" in out
    after = newest_claim(lost)
    assert before is not None
    assert after is not None
    assert after.attempt == before.attempt + 1
    assert after.holder is not None
    assert before.holder is not None
    assert after.holder.boot != before.holder.boot
    assert segments(lost) == [1, 2]  # the lost process could have gone on writing
    assert held(root) == {}
    alone = gan_bench("run", tmp_path / "tiny.yaml", "--root", tmp_path / "alone")
    assert alone.returncode == 0, alone.stdout + alone.stderr
    different = [line for line in differences(tmp_path / "alone", root)
                 if not line.endswith("files differ")]  # of claims and segments
    assert different == []
    assert count_rows(root) == count_rows(tmp_path / "alone")


def count_rows(root: Path) -> list[int]:
    """Return how many runs, params, tags and metrics MLflow has."""
    with sqlite3.connect(root / "mlflow.db") as db:
        return [db.execute(f"select count(*) from {table}").fetchone()[0]
                for table in ("runs", "params", "metrics")]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopping_lets_all_workers_write_checkpoints(
        tmp_path: Path, cluster: RayCluster, number: int) -> None:
    process = start(tmp_path, cluster, GRID, "--on", cluster.client, "--set", "base.steps=1000000")
    root = tmp_path / "ray"
    run = wait_for_checkpoint(process, root, cluster.namespace(cluster.head))
    os.killpg(process.pid, number)  # as a terminal does, and `timeout`
    begin = time.monotonic()
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 128 + number, out
    assert time.monotonic() - begin < 12
    assert "the same command resumes" in out
    assert out.count("stopped by the user") == 2  # a line when it happens, and under the table
    assert held(root) == {}
    state = newest_claim(run)
    assert state is not None
    assert state.release == "done"
    assert checkpoint_files(run)


def test_workers_end_gently_after_their_launcher_was_killed(
        tmp_path: Path, cluster: RayCluster) -> None:
    process = start(tmp_path, cluster, GRID, "--on", "ray", "--set", "base.steps=1000000")
    root = tmp_path / "ray"
    run = wait_for_checkpoint(process, root, cluster.namespace(cluster.head))
    process.kill()
    process.wait()
    deadline = time.monotonic() + 60
    while held(root):
        assert time.monotonic() < deadline, held(root)
        time.sleep(0.1)
    state = newest_claim(run)
    assert state is not None
    assert state.release == "done"


def test_a_node_that_does_not_see_the_root_says_so(tmp_path: Path, cluster: RayCluster) -> None:
    process = start(tmp_path, cluster, GRID, "--on", "ray", "--set", "base.steps=2", "--slots",
                    "2")
    node = cluster.add_node(setup=f"mount -t tmpfs none {tmp_path}")
    out, _ = process.communicate(timeout=120)
    cluster.lose(node)
    assert process.returncode == 0, out  # the other node does it all
    assert f"does not see {tmp_path / 'ray' / 'runs' / 'storm'} (No such file" in out
    assert "share it, or choose another --root" in out
    assert "6 of 6 runs are done" in out


def test_ray_that_is_not_installed_is_a_line(tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(
        "import sys\nsys.modules['ray'] = None\n")  # as if there were none
    done = gan_bench("run", write_experiment(tmp_path), "--root", tmp_path / "root", "--on", "ray",
                     env={"PYTHONPATH": f"{tmp_path / 'site'}:{os.environ.get('PYTHONPATH', '')}"})
    assert (done.returncode, done.stdout) == (2, "")
    assert "Ray is not installed for" in done.stderr
    assert "install gan_bench[ray]" in done.stderr
    assert not (tmp_path / "root").exists()


@pytest.mark.parametrize(("place", "environment", "line"), [
    ("ray", {"RAY_ADDRESS": "127.0.0.1:1"}, "no Ray cluster answers at 127.0.0.1:1 ("),
    ("ray://127.0.0.1:1", {}, "no Ray cluster answers at ray://127.0.0.1:1 ("),
    ("sun", {}, "--on sun: is no engine; write ray, or ray://HOST:PORT")])
def test_an_address_without_a_cluster_is_a_line(
        tmp_path: Path, place: str, environment: dict[str, str], line: str) -> None:
    pytest.importorskip("ray")
    done = gan_bench("run", write_experiment(tmp_path), "--root", new_root(tmp_path), "--on",
                     place, env=environment)
    assert done.returncode == 2, done.stdout + done.stderr
    assert line in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert done.stdout == ""
