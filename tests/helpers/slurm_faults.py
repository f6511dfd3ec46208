"""Disturb a grid on a real SLURM as clusters do; compare with one undisturbed machine.

    PYTHONPATH=tests python -m helpers.slurm_faults --rounds 3    what `make slurm-faults` runs

The disturbances: preemption by a job of a higher partition, `scontrol requeue`, a time limit, a
node's daemon that is killed while its job goes on, or stands still for longer than the lease and
then goes on, a controller that is down for a while, and a launcher that is killed and started
again. Each happens so many times at least. The processes of each node are a namespace.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil
from helpers.faults import differences
from helpers.slurm_cluster import NODES, SlurmCluster

from gan_bench.journal.sharing.claims import LEASE_VARIABLE, ClaimState, newest_claim

EXPERIMENT = """\
name: storm
dataset: {{name: digits, image_size: 16}}
seeds: [{seeds}]
base:
  model: {{name: mlp, width: 64}}
  batch_size: 32
  steps: {steps}
  log_every: 10
  sample_every: 50
variants:
  plain:
  saturating: {{loss: saturating, d_optimizer: rmsprop}}
evaluate: {{every: 100, samples: 50, metrics: [d_accuracy]}}
compute: {{device: cpu}}
cluster: {{workers: {workers}, partition: batch, time: '{time}'}}
"""
KINDS = ("preemption", "requeue", "lost node", "frozen node", "controller", "launcher")
TIME_LIMIT = "time limit"
# What SLURM and the workers say of them.
SEEN = {"preemption": "DUE TO PREEMPTION", "lost node": "srun: error: Node failure on",
        TIME_LIMIT: "its time is over; requeued"}
PATIENCE = 1800.0
LEASE = 30.0  # seconds without a sign of life, after which a worker is lost
OUTAGE = 8.0  # seconds without a controller
VISIT = 5.0  # seconds between two visits of an administrator


def write_storm(folder: Path, runs: int, steps: int, time_limit: str = "4:00:00",
                workers: int = 2) -> None:
    """Write the experiment of so many runs."""
    seeds = ", ".join(map(str, range(runs // 2)))
    (folder / "storm.yaml").write_text(EXPERIMENT.format(
        seeds=seeds, steps=steps, time=time_limit, workers=workers))


def launch(folder: Path, name: str, *options: str, env: dict[str, str] | None = None,
           ) -> subprocess.Popen[bytes]:
    """Start `gan-bench run` of the experiment in a root."""
    clean = {key: value for key, value in (os.environ if env is None else env).items()
             if not key.startswith(("MLFLOW_", "GAN_B"))}
    clean[LEASE_VARIABLE] = str(LEASE)
    with (folder / f"{name}.txt").open("ab") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "gan_bench", "run", "storm.yaml", "--root", name,
             "--checkpoint-every", "0.5", "--retries", "100", *options],
            cwd=folder, stdout=output, stderr=output, env=clean)


class Storm:
    """A grid that workers on SLURM train, and what disturbs it.

    Attributes:
        counts: How often each disturbance has happened.
    """

    def __init__(self, cluster: SlurmCluster, folder: Path, name: str) -> None:
        self.counts: Counter[str] = Counter()
        self._cluster, self._folder, self._root = cluster, folder, folder / name
        self._launcher, self._next_visit = self._launch(), 0.0

    def _launch(self) -> subprocess.Popen[bytes]:
        return launch(self._folder, self._root.name, "--on", "slurm", env=self._cluster.environment)

    @property
    def is_over(self) -> bool:
        """Whether the launcher has ended."""
        return self._launcher.poll() is not None

    def text(self) -> str:
        """Return what the launcher and the workers have printed."""
        files = [self._root.with_suffix(".txt"), *self._root.glob("runs/storm/slurm/*.log")]
        return "\n".join(f"{file}:\n{file.read_text(errors='replace')}" for file in files)

    def training(self) -> dict[str, str]:
        """Return the node of each job that holds a claim now."""
        busy = {state.holder.job for _, state in self._claims() if state.holder is not None}
        return {job: node for job, node in self._cluster.running().items() if job in busy}

    def _claims(self) -> list[tuple[Path, ClaimState]]:
        """Return the claims that are not released, each with the file of its run."""
        files = list(self._root.glob("runs/storm/*/spec.json"))
        states = [(file, newest_claim(file.parent)) for file in files]
        return [(file, state) for file, state in states if state is not None and not state.is_gone]

    def wait_for_training(self, workers: int = 1) -> bool:
        """Wait until so many workers train; return whether they do, and the grid is not over."""
        self._wait(lambda: len(self.training()) >= workers)
        return not self.is_over

    def disturb(self, kind: str) -> None:
        """Let something happen to a worker that trains, and wait until SLURM has noticed."""
        if not self.wait_for_training():
            return
        job, node = next(iter(self.training().items()), ("", ""))
        if not job:
            return
        if kind == "preemption":
            self._cluster.preempt(node)
            self._wait(lambda: self._cluster.jobs().get(job, ("", ""))[0] != "RUNNING")
        elif kind == "requeue":
            self._cluster.call("scontrol", "requeue", job)
            self._wait(lambda: self._cluster.jobs().get(job, ("", ""))[0] != "RUNNING")
        elif kind == "lost node":
            self._cluster.lose_node(node)
            self._wait(lambda: self._cluster.jobs().get(job) != ("RUNNING", node))
            self._cluster.start_node(node)
        elif kind == "frozen node":
            if not self._freeze(job, node):
                return
        elif kind == "controller":
            self._cluster.stop_controller()
            time.sleep(OUTAGE)
            self._cluster.start_controller()
        else:
            self._launcher.send_signal(signal.SIGKILL)
            self._launcher.wait()
            self._launcher = self._launch()
        self.counts[kind] += 1

    def _freeze(self, job: str, node: str) -> bool:
        """Lose a node whose worker stands still until another has taken its run, and then goes on.

        Returns:
            Whether it was so; the worker may be between two runs.
        """
        held = [(file.parent, state.attempt) for file, state in self._claims()
                if state.holder is not None and state.holder.job == job]
        if not held:
            return False
        folder, attempt = held[0]
        self._cluster.lose_node(node)
        stopped = self._cluster.left_behind(node)
        for process in stopped:
            with suppress(psutil.NoSuchProcess):
                process.suspend()
        # A worker has to see the claim for the length of the lease, between two time limits.
        self._wait(lambda: getattr(newest_claim(folder), "attempt", 0) > attempt, PATIENCE)
        for process in stopped:
            with suppress(psutil.Error):
                process.resume()
        self._cluster.start_node(node)
        return not self.is_over

    def finish(self) -> list[str]:
        """Wait for the end of the grid, and return in what it differs from the undisturbed one."""
        self._wait(lambda: False, PATIENCE)
        status = self._launcher.wait()
        text = self.text()
        assert status == 0, f"status {status}\n{text}\n{self._cluster.logs()}"
        assert "Traceback" not in text, text
        for kind, words in SEEN.items():  # what has happened, and not what was meant to
            self.counts[kind] = len(re.findall(words, text))
        return differences(self._folder / "undisturbed", self._root)

    def interrupt(self) -> None:
        """Stop the launcher as Ctrl-C does."""
        self._launcher.send_signal(signal.SIGINT)

    def status(self) -> int:
        """Return the launcher's exit status when it has ended."""
        return self._launcher.wait(PATIENCE)

    def end(self) -> None:
        """End the launcher, whatever happened."""
        with suppress(ProcessLookupError):
            self._launcher.kill()
        self._launcher.wait()

    def _wait(self, condition: Callable[[], object], patience: float = 300) -> None:
        def is_so() -> bool:
            if time.monotonic() > self._next_visit:
                self._cluster.heal()
                self._next_visit = time.monotonic() + VISIT
            return bool(self.is_over or condition())

        self._cluster.wait_for(is_so, patience)


def main() -> None:
    """Disturb grids until each thing has happened often enough; status 1 if anything differs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3, help="how often each thing happens")
    parser.add_argument("--runs", type=int, default=40)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--folder", type=Path, help="keeps what is made; an undisturbed grid in it "
                        "is used again")
    options = parser.parse_args()
    counts: Counter[str] = Counter()
    found: list[str] = []
    grids = 0
    with tempfile.TemporaryDirectory(prefix="slurm-faults-") as temporary:
        folder, begin = options.folder or Path(temporary), time.monotonic()
        write_storm(folder, options.runs, options.steps, "3")
        assert launch(folder, "undisturbed").wait(PATIENCE) == 0  # at once if it is there
        print(f"undisturbed: {options.runs} runs, {time.monotonic() - begin:.0f} s", flush=True)
        while grids == 0 or min(counts[kind] for kind in (*KINDS, TIME_LIMIT)) < options.rounds:
            begin, grids = time.monotonic(), grids + 1
            if min(counts[kind] for kind in KINDS) >= options.rounds:
                # What is left is the time limit, which two quick workers do not reach.
                write_storm(folder, options.runs, options.steps, "3", workers=1)
            cluster = SlurmCluster(apart=True)
            storm = Storm(cluster, folder, f"storm-{grids}")
            try:
                while not storm.is_over and min(
                        counts[kind] + storm.counts[kind] for kind in KINDS) < options.rounds:
                    for kind in KINDS:
                        storm.disturb(kind)
                        print(f"{time.monotonic() - begin:.0f} s: {kind}, "
                              f"{dict(storm.counts)}", flush=True)
                here = storm.finish()
            finally:
                storm.end()
                cluster.remove()
            counts += storm.counts
            found += here
            print(f"grid {grids}: {dict(storm.counts)}, {len(here)} differences, "
                  f"{time.monotonic() - begin:.0f} s", flush=True)
    print(f"{grids} grids of {options.runs} runs on {len(NODES)} nodes: {dict(counts)}; "
          f"{len(found)} differences")
    for difference in found:
        print(f"  {difference}")
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
