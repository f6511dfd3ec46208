"""The Kubernetes job and the ssh loop of the documentation: what they start is run here."""

from __future__ import annotations

import os
import shlex
import sqlite3
import subprocess
from pathlib import Path
from typing import Any

import pytest
from helpers.doc_blocks import ROOT, blocks_of
from helpers.launching import GAN_BENCH, gan_bench, new_root
from helpers.runs import DIGITS
from ruamel.yaml import YAML

from gan_bench.errors import RUNS_LEFT
from gan_bench.journal.sharing.claims import newest_claim
from gan_bench.launcher.clusters.on_ray import ENDS

PAGE = ROOT / "docs" / "ray.md"

pytestmark = pytest.mark.process


def block(language: str, word: str) -> str:
    """Return the page's block that has a word in it."""
    text, = (block.text for block in blocks_of(PAGE)
             if block.language == language and word in block.text)
    return text


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    """What all machines see: an experiment, and a root that a command need not migrate."""
    (tmp_path / "study.yaml").write_text(DIGITS.replace("name: tiny", "name: study"))
    new_root(tmp_path).rename(tmp_path / "mlruns")
    return tmp_path


def all_is_done(root: Path) -> None:
    folders = [file.parent for file in root.glob("runs/study/*/spec.json")]
    assert len(folders) == 4
    assert all((folder / "final.safetensors").exists() for folder in folders)
    states = [newest_claim(folder) for folder in folders]
    assert [(state.attempt, state.release) for state in states if state] == [(1, "done")] * 4


def test_the_kubernetes_job_is_what_it_says_and_its_command_does_the_work(shared: Path) -> None:
    job: dict[str, Any] = YAML(typ="safe", pure=True).load(block("yaml", "kind: Job"))
    spec, pod = job["spec"], job["spec"]["template"]["spec"]
    assert (job["apiVersion"], spec["completionMode"]) == ("batch/v1", "Indexed")
    assert (spec["podReplacementPolicy"], pod["restartPolicy"]) == ("Failed", "Never")
    assert spec["backoffLimitPerIndex"] > 0
    assert spec["completions"] == spec["parallelism"] > 1
    ignored, final = spec["podFailurePolicy"]["rules"]
    assert ignored["onPodConditions"] == [{"type": "DisruptionTarget", "status": "True"}]
    container, = pod["containers"]
    assert final["onExitCodes"]["containerName"] == container["name"]
    assert set(final["onExitCodes"]["values"]) == {1, 2, RUNS_LEFT} == ENDS - {0}
    mount, = container["volumeMounts"]
    volume, = pod["volumes"]
    assert (mount["name"], mount["mountPath"]) == (volume["name"], "/shared")
    assert container["command"][0] == "gan-bench"
    words = [word.replace("/shared", str(shared)) for word in container["command"][1:]]
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW_", "GAN_B"))}
    pods = [subprocess.Popen([*GAN_BENCH, *words], env=clean, text=True, stdout=subprocess.PIPE,
                             stderr=subprocess.STDOUT) for _ in range(2)]
    said = [pod.communicate(timeout=240)[0] for pod in pods]
    assert [pod.returncode for pod in pods] == [0, 0], said
    all_is_done(shared / "mlruns")
    done = gan_bench("sync", "--root", shared / "mlruns")
    assert done.returncode == 0, done.stderr
    assert "4 runs, 4 brought up to date" in done.stdout


def test_the_loop_over_ssh_shares_the_work(shared: Path) -> None:
    """The host's shell is this machine's; a stand-in for ssh does as `ssh -f` does."""
    programs = shared / "bin"
    programs.mkdir()
    for name, text in (("ssh", 'shift; host=$1; shift; sh -c "$*" & echo $! >> pids'),
                       ("gan-bench", f'exec {shlex.join(GAN_BENCH)} "$@"')):
        (programs / name).write_text(f"#!/bin/sh\n{text}\n")
        (programs / name).chmod(0o755)
    script = block("bash", "ssh -f").replace("/shared", str(shared))
    assert len(script.strip().splitlines()) == 2
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW_", "GAN_B"))}
    done = subprocess.run(["bash", "-c", script + "\nstatus=$?; tail --pid=$(sed -n 1p pids) -f "
                           "/dev/null; tail --pid=$(sed -n 2p pids) -f /dev/null; exit $status"],
                          cwd=shared, capture_output=True, text=True, check=False, timeout=240,
                          env={**clean, "PATH": f"{programs}:{os.environ['PATH']}"})
    assert done.returncode == 0, done.stdout + done.stderr
    assert "4 of 4 runs are done" in done.stdout
    all_is_done(shared / "mlruns")
    for host in ("node1", "node2"):
        said = (shared / f"{host}.log").read_text()
        assert "that waited are over" in said, said
    with sqlite3.connect(shared / "mlruns" / "mlflow.db") as db:
        assert db.execute("select count(*) from tags where key = 'run_id'").fetchone() == (4,)
