"""`run --on ray` on a real cluster of two nodes, which cannot see each other's processes."""

from __future__ import annotations

import json
import os
import platform
import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from helpers.doc_blocks import ROOT, blocks_of, commands_of
from helpers.faults import differences
from helpers.launching import GAN_BENCH, gan_bench, new_root
from helpers.ray_cluster import RayCluster
from helpers.runs import write_experiment
from helpers.studies import here
from rich.console import Console

from gan_bench.config.experiment import load_experiment
from gan_bench.errors import RUNS_LEFT
from gan_bench.journal.layout import Execution, Workspace, checkpoint_files, make_root
from gan_bench.journal.segments import segments
from gan_bench.journal.sharing.claims import Holder, holder_of, newest_claim
from gan_bench.journal.sharing.lock import preparing
from gan_bench.launcher.clusters.on_ray import RayWorkers
from gan_bench.launcher.preparation import LaunchSettings, prepare_study
from gan_bench.launcher.reporters import PlainLines

pytestmark = pytest.mark.process

GRID = """\
name: storm
dataset: {name: digits, image_size: 16}
seeds: [0, 1, 2]
base: {model: {name: mlp, width: 64}, batch_size: 32, steps: 300, log_every: 10, sample_every: 100}
variants: {plain: {}, saturating: {loss: saturating}}
evaluate: {every: 200, samples: 50, metrics: [d_accuracy]}
compute: {device: cpu}
"""
PAGE_COMMAND, = [words for block in blocks_of(ROOT / "docs" / "ray.md") if block.language == "bash"
                 for words in commands_of(block.text) if "--on" in words]
LEASE = {"GAN_BENCH_LEASE": "3"}  # seconds until the runs of a lost node are taken up


@pytest.fixture(scope="module")
def cluster() -> Iterator[RayCluster]:
    cluster = RayCluster(LEASE)
    yield cluster
    cluster.remove()


def start(tmp_path: Path, cluster: RayCluster, text: str, *options: str,
          ) -> subprocess.Popen[str]:
    """Start the launcher of an experiment in the root `ray`, with the page's command."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW_", "GAN_B"))}
    root = new_root(tmp_path).rename(tmp_path / "ray")
    replaced = {"study.yaml": write_experiment(tmp_path, text), "/shared/mlruns": root,
                "ray": options[0]}
    words = [str(replaced.get(word, word)) for word in PAGE_COMMAND[1:]]
    return subprocess.Popen(
        [*GAN_BENCH, *words, "--checkpoint-every", "0.2", *options[1:]],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
        env={**clean, **cluster.environment, **LEASE},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler))


def held(root: Path) -> dict[Path, Holder]:
    """Return who works on which run."""
    found = {folder: holder_of(folder) for folder in root.glob("runs/*/*/")}
    return {folder: holder for folder, holder in found.items() if holder is not None}


def wait_for_checkpoint(process: subprocess.Popen[str], root: Path, node: str) -> Path:
    """Return the folder of a run that a node works on, once it has a checkpoint."""
    deadline = time.monotonic() + 300
    while True:
        for folder, holder in held(root).items():
            if holder.boot.endswith(f"/{node}") and checkpoint_files(folder):
                return folder
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, held(root)
        time.sleep(0.05)


@pytest.mark.parametrize("number", [6, pytest.param(40, marks=pytest.mark.long)])
def test_the_runs_of_a_lost_node_are_taken_up_elsewhere_to_the_same_bits(
        tmp_path: Path, cluster: RayCluster, number: int) -> None:
    node = cluster.add_node()
    text = GRID.replace("[0, 1, 2]", str([*range(number // 2)]))
    process = start(tmp_path, cluster, text, "ray")
    root = tmp_path / "ray"
    lost = wait_for_checkpoint(process, root, cluster.namespace(node))
    before = newest_claim(lost)
    cluster.lose(node)
    out, _ = process.communicate(timeout=40 * number)
    assert process.returncode == 0, out
    assert f"{number} of {number} runs are done" in out
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
    alone = here("run", tmp_path / "tiny.yaml", "--root", tmp_path / "alone")
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


@pytest.mark.parametrize("number", [
    signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.long)])
def test_stopping_lets_all_workers_write_checkpoints(
        tmp_path: Path, cluster: RayCluster, number: int) -> None:
    process = start(tmp_path, cluster, GRID, cluster.client, "--set", "base.steps=1000000")
    root = tmp_path / "ray"
    run = wait_for_checkpoint(process, root, cluster.namespace(cluster.head))
    os.killpg(process.pid, number)  # as a terminal does, and `timeout`
    begin = time.monotonic()
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 128 + number, out
    assert time.monotonic() - begin < 40  # less than a client waits whose launcher was killed
    assert "the same command resumes" in out
    assert "0 of 6 runs are done" in out
    assert held(root) == {}
    state = newest_claim(run)
    assert state is not None
    assert state.release == "done"
    assert checkpoint_files(run)


@pytest.mark.long
def test_a_cluster_that_is_busy_for_longer_than_rays_client_waits_is_asked_again(
        tmp_path: Path, cluster: RayCluster) -> None:
    """Its head stands still for longer than the 24 s after which Ray's client gives up."""
    cluster.signal_head(signal.SIGSTOP)
    try:
        process = start(tmp_path, cluster, GRID, cluster.client, "--set", "base.steps=2")
        said = next(line for line in iter(process.stdout.readline, "") if "asked again" in line)
    finally:
        cluster.signal_head(signal.SIGCONT)
    assert "no Ray cluster answers at ray://127.0.0.1:" in said
    assert "(ray client connection timeout)" in said
    out, _ = process.communicate(timeout=240)
    assert process.returncode == 0, out
    assert "6 of 6 runs are done" in out
    assert "asked again" not in out


@pytest.mark.long
def test_a_client_that_ends_is_replaced_and_all_runs_end(
        tmp_path: Path, cluster: RayCluster) -> None:
    """Ray's library ends the client's process when the head has not answered for a while."""
    process = start(tmp_path, cluster, GRID, "ray")
    wait_for_checkpoint(process, tmp_path / "ray", cluster.namespace(cluster.head))
    for child in psutil.Process(process.pid).children(recursive=True):
        if "gan_bench.launcher.clusters.ray_driver" in child.cmdline():
            child.kill()
    out, _ = process.communicate(timeout=240)
    assert process.returncode == 0, out
    assert out.count("; it is asked again, for at most 180 s") == 1
    assert out.count(" claims runs") == 2
    assert "6 of 6 runs are done" in out
    assert held(tmp_path / "ray") == {}


@pytest.mark.long
def test_a_queue_that_is_written_anew_keeps_no_worker_out(
        tmp_path: Path, cluster: RayCluster) -> None:
    """As a second `run` writes it, which joins the first."""
    process = start(tmp_path, cluster, GRID, "ray", "--slots", "2", "--set", "base.steps=1000000")
    root = tmp_path / "ray"
    wait_for_checkpoint(process, root, cluster.namespace(cluster.head))
    file = root / "runs" / "storm" / "queue.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "retries": 3}))
    node = cluster.add_node()
    try:
        wait_for_checkpoint(process, root, cluster.namespace(node))
    finally:
        os.killpg(process.pid, signal.SIGINT)
        out, _ = process.communicate(timeout=60)
        cluster.lose(node)
    assert process.returncode == 130, out
    assert out.count(" claims runs") == 2
    assert "another folder" not in out


@pytest.mark.long
def test_workers_end_gently_after_their_launcher_was_killed(
        tmp_path: Path, cluster: RayCluster) -> None:
    process = start(tmp_path, cluster, GRID, "ray", "--set", "base.steps=1000000")
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


@pytest.mark.long
def test_a_node_that_does_not_see_the_root_says_so(tmp_path: Path, cluster: RayCluster) -> None:
    process = start(tmp_path, cluster, GRID, "ray", "--set", "base.steps=2", "--slots",
                    "2")
    node = cluster.add_node(setup=f"mount -t tmpfs none {tmp_path}")
    out, _ = process.communicate(timeout=120)
    cluster.lose(node)
    assert process.returncode == 0, out  # the other node does it all
    assert f"does not see {tmp_path / 'ray' / 'runs' / 'storm'} (No such file" in out
    assert "share it, or choose another --root" in out
    assert "6 of 6 runs are done" in out


@pytest.mark.long
def test_a_root_that_no_node_sees_is_a_line(tmp_path: Path, cluster: RayCluster) -> None:
    """What is mounted here now, nodes with mounts of their own do not see."""
    subprocess.run(["mount", "-t", "tmpfs", "none", tmp_path], check=True)
    try:
        process = start(tmp_path, cluster, GRID, "ray")
        out, _ = process.communicate(timeout=120)
        assert process.returncode == 2, out
        assert re.search(rf"worker 1 on \S+: \S+ does not see {tmp_path}/ray/runs/storm "
                         rf"\(No such file or directory\); every node needs the root", out)
        assert held(tmp_path / "ray") == {}
    finally:
        subprocess.run(["umount", "--lazy", tmp_path], check=True)


def devices_of_workers(node: subprocess.Popen[bytes]) -> set[str]:
    """Return what the workers on a node have as CUDA_VISIBLE_DEVICES."""
    devices = set()
    for process in psutil.Process(node.pid).children(recursive=True):
        with suppress(psutil.Error):
            if {"gan_bench", "work"} <= set(process.cmdline()):
                devices.add(process.environ()["CUDA_VISIBLE_DEVICES"])
    return devices


@pytest.mark.long
def test_a_worker_has_the_gpu_that_ray_gives_it(
        tmp_path: Path, cluster: RayCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray counts two GPUs, which the machine need not have: the runs use the CPU."""
    for name, value in {**cluster.environment, **LEASE}.items():
        monkeypatch.setenv(name, value)
    file = write_experiment(tmp_path, GRID)
    spec = load_experiment(file, tmp_path, ["base.steps=1000000"])
    settings = LaunchSettings(Execution(Workspace(tmp_path / "root", tmp_path)), None, "")
    make_root(tmp_path / "root")
    with preparing(tmp_path / "root", str) as lease:
        prepare_study(spec, settings, PlainLines(Console(quiet=True)), lease)
    said: list[str] = []
    node = cluster.add_node("--num-gpus=2", "--num-cpus=0")
    said: list[str] = []
    compute = spec.runs[0].compute.model_copy(update={"device": "auto"})
    workers = RayWorkers("ray", tmp_path / "root/runs/storm", compute, None, said.append)
    workers.refuse_impossible()
    try:
        deadline, seen = time.monotonic() + 120, set[str]()
        while len(seen) < 2:
            assert workers.look(6, 0, {}, 0) == "", said
            assert time.monotonic() < deadline, said
            time.sleep(0.1)
            seen = devices_of_workers(node)
        assert seen == {"0", "1"}
        assert "Ray has 2 nodes, with room for 2 workers" in said[0]
    finally:
        workers.stop()
        cluster.lose(node)


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
    ("ray", {"RAY_ADDRESS": "127.0.0.1:1"},
     "no Ray cluster answers at 127.0.0.1:1 (Connection refused); start one with `ray start"),
    ("ray://127.0.0.1:1", {}, "no Ray cluster answers at ray://127.0.0.1:1 (Connection refused)"),
    ("sun", {}, "--on sun: is no place; write here, slurm, ray, or ray://HOST:PORT")])
def test_an_address_without_a_cluster_is_a_line(
        tmp_path: Path, place: str, environment: dict[str, str], line: str) -> None:
    pytest.importorskip("ray")
    done = here("run", write_experiment(tmp_path), "--root", tmp_path / "root", "--on", place,
                env=environment)
    assert (done.returncode, done.stdout) == (2, "")
    assert line in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "root").exists()


# The versions of a cluster, as its head keeps them: read, and replaced by those of a file.
VERSIONS = """
import json, sys
from pathlib import Path
from ray._common.usage.usage_constants import CLUSTER_METADATA_KEY
from ray._private.ray_constants import KV_NAMESPACE_CLUSTER as SPACE
from ray._raylet import GcsClient
head = GcsClient(address=sys.argv[1])
before = json.loads(head.internal_kv_get(CLUSTER_METADATA_KEY, SPACE))
after = json.dumps({**before, **json.loads(sys.argv[2])}).encode()
head.internal_kv_put(CLUSTER_METADATA_KEY, after, True, SPACE)
print(json.dumps(before))
"""


def set_versions(cluster: RayCluster, values: str) -> str:
    """Let the cluster be of other versions; return those that it was of."""
    done = subprocess.run([sys.executable, "-c", VERSIONS, cluster.address, values], check=True,
                          capture_output=True, text=True)
    return done.stdout.splitlines()[-1]


@pytest.mark.long
def test_a_cluster_of_other_versions_is_a_line(tmp_path: Path, cluster: RayCluster) -> None:
    before = set_versions(cluster, '{"ray_version": "2.9.0", "python_version": "3.9.1"}')
    process = start(tmp_path, cluster, GRID, "ray")
    out, _ = process.communicate(timeout=120)
    set_versions(cluster, before)
    assert process.returncode == 2, out
    assert f"cluster at {cluster.address} has Ray 2.9.0 and Python 3.9.1, and this is Ray " in out
    assert f"and Python {platform.python_version()}: use the same versions on all machines" in out
    assert held(tmp_path / "ray") == {}


@pytest.mark.long
def test_a_head_that_is_lost_harms_no_run(tmp_path: Path, cluster: RayCluster) -> None:
    """The last test: it ends the cluster."""
    node = cluster.add_node()
    process = start(tmp_path, cluster, GRID, "ray", "--set", "base.steps=1000000")
    root = tmp_path / "ray"
    run = wait_for_checkpoint(process, root, cluster.namespace(node))
    cluster.lose(cluster.head)
    out, _ = process.communicate(timeout=120)
    assert process.returncode == RUNS_LEFT, out
    assert "left: Ray's client has ended: the cluster's head is gone, or does not answer" in out
    deadline = time.monotonic() + 90
    while holder_of(run) is not None:  # its node leaves a cluster without a head
        assert time.monotonic() < deadline, held(root)
        time.sleep(0.1)
    state = newest_claim(run)
    assert state is not None
    assert state.release == "done"
