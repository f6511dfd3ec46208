"""Disturb several workers on one root at random moments; compare with one undisturbed machine.

    PYTHONPATH=tests python -m helpers.worker_faults --disturbances 200   what `make faults` runs

Real processes and signals. The locks of the file system answer ENOSYS throughout. A disturbance is
one of: SIGKILL of a worker, of a process that trains, of a worker between its claim and the first
line of that attempt; SIGSTOP of a worker and of what it trains for longer than the lease, then
SIGCONT (it wakes up as a writer that has been replaced); a disk that is full at every fsync.
In half of the storms the experiment has a search, of which half of the disturbances hit the second
stage. Afterwards `gan-bench sync` copies everything into MLflow, whose rows are counted.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import psutil
from helpers.faults import differences

from gan_bench.errors import RUNS_LEFT, UserError
from gan_bench.journal.sharing.claims import newest_claim
from gan_bench.journal.sharing.queue_file import read_queue

EXPERIMENT = """\
name: storm
dataset: {name: digits, image_size: 16}
seeds: [0, 1, 2]
base:
  model: {name: mlp, width: 64}
  batch_size: 32
  steps: 400
  log_every: 10
  sample_every: 50
variants:
  plain:
  saturating: {loss: saturating, d_optimizer: rmsprop}
evaluate: {every: 100, samples: 50, metrics: [d_accuracy]}
compute: {device: cpu}
"""
SEARCH = EXPERIMENT.replace("seeds: [0, 1, 2]\n", "").replace("d_accuracy", "fd_random") + """\
search:
  draws: 2
  space: {g_optimizer.lr: {log_uniform: [1e-5, 1e-3]}}
  select: {by: fd_random, seeds: [0]}
  confirm: {seeds: [10, 11]}
"""
# In place of the kernel's: no file can be locked, and while FULL_DISK exists nothing can be synced.
LIBRARY = """\
#include <errno.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>
int flock(int fd, int operation) { errno = ENOSYS; return -1; }
int fsync(int fd) {
  const char *full = getenv("FULL_DISK");
  if (full && access(full, F_OK) == 0) { errno = ENOSPC; return -1; }
  return syscall(SYS_fsync, fd);
}
"""
LEASE = 2.0  # seconds
STATUSES = (0, 1, 2, 3, RUNS_LEFT, -signal.SIGKILL)  # of a command
KINDS = ("worker", "training", "between", "frozen", "full disk")
PATIENCE = 600.0


class Storm:
    """Workers on one root, and who disturbs them.

    Args:
        folder: Holds the experiment.
        name: Of the root there.
        workers: How many there are at a time.
        mirrors: Whether one of them is `gan-bench run`, which mirrors.

    Attributes:
        disturbances: How many there were, by kind.
    """

    def __init__(self, folder: Path, name: str, workers: int, mirrors: bool) -> None:
        self._folder, self._root, self._mirrors = folder, folder / name, mirrors
        self._running: list[subprocess.Popen[bytes] | None] = [None] * workers
        self._command = ["work"] * workers
        self._threads: list[threading.Thread] = []
        self.disturbances: Counter[str] = Counter()

    def rage(self, number: int, draws: random.Random) -> bool:
        """Disturb so many times at most; return whether the experiment ended before that.

        Half of them come when the second stage has begun, if there is one.
        """
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            if self._replace_ended():
                return True
            begun = number if self._is_in_last_stage() else number // 2
            if self.disturbances.total() >= begun:
                time.sleep(0.1)
                continue
            time.sleep(draws.uniform(0.1, 1.2))
            self._disturb(draws.choice(KINDS), draws)
        raise AssertionError(f"{self._root.name} has not ended:\n{self.output()}")

    def _is_in_last_stage(self) -> bool:
        """Whether the queue has runs besides those of a search's first stage."""
        with suppress(UserError):  # it is not prepared yet
            queue = read_queue(self._root / "runs" / "storm")
            return len(queue.begun) > len(queue.select)
        return False

    def end(self) -> None:
        """End what is left of it."""
        for thread in self._threads:
            thread.join()
        for process in self._running:
            if process is not None:
                for each in _family(process.pid):
                    with suppress(psutil.NoSuchProcess):
                        each.kill()
                process.wait()

    def output(self) -> str:
        """Return what the workers have printed."""
        return self._root.with_suffix(".txt").read_text(errors="replace")

    def _replace_ended(self) -> bool:
        """Start workers in place of those that were killed; return whether all work is done."""
        for i, process in enumerate(self._running):
            if process is not None and (status := process.poll()) is not None:
                assert status in STATUSES, f"{status}\n{self.output()}"
                self._running[i] = None
                # On the full disk a run has failed: it is tried again by another `run`.
                self._command[i] = "run" if status in (1, RUNS_LEFT) else "work"
                if status == 0 and not i:
                    for other in self._running:
                        if other is not None:
                            assert other.wait(PATIENCE) in STATUSES, self.output()
                    return True
            if self._running[i] is None:
                is_mirror = self._mirrors and not i
                self._running[i] = self._start("run" if is_mirror else self._command[i])
        return False

    def _start(self, command: str) -> subprocess.Popen[bytes]:
        environment = {k: v for k, v in os.environ.items()
                       if not k.startswith(("MLFLOW_", "GAN_B"))}
        environment |= {"GAN_BENCH_LEASE": str(LEASE),
                        "LD_PRELOAD": str(self._folder / "faults.so"),
                        "FULL_DISK": str(self._folder / "full")}
        with self._root.with_suffix(".txt").open("ab") as output:
            return subprocess.Popen(
                [sys.executable, "-m", "gan_bench", command, "storm.yaml", "--root",
                 self._root.name, "--slots", "1", "--retries", "1000000", "--checkpoint-every",
                 "0.2"], cwd=self._folder, stdout=output, stderr=output, env=environment)

    def _disturb(self, kind: str, draws: random.Random) -> None:
        victims = [process for process in self._running if process is not None]
        victim = draws.choice(victims)
        if kind == "between":
            if (pid := self._claimed_and_silent()) is None:
                return
            _signal(pid, signal.SIGKILL)
        elif kind == "worker":
            victim.kill()
        elif kind == "training":
            if (pid := self._training(draws)) is None:
                return
            _signal(pid, signal.SIGKILL)
        elif kind == "frozen":
            frozen = [each.pid for each in _family(victim.pid)]
            for pid in frozen:
                _signal(pid, signal.SIGSTOP)
            thread = threading.Timer(LEASE * draws.uniform(1.5, 3),
                                     lambda: [_signal(pid, signal.SIGCONT) for pid in frozen])
            thread.start()
            self._threads.append(thread)
        else:
            (self._folder / "full").touch()
            time.sleep(draws.uniform(0.05, 0.5))
            (self._folder / "full").unlink()
        self.disturbances[kind] += 1

    def _training(self, draws: random.Random) -> int | None:
        """Return a process that trains a run, of whatever worker."""
        deadline = time.monotonic() + 30  # a busy machine takes long to start a process
        while time.monotonic() < deadline:
            workers = [process.pid for process in self._running if process is not None]
            found = [each.pid for pid in workers for each in _family(pid)[1:]
                     if _holds_log(each, self._root)]
            if found:
                return draws.choice(found)
            time.sleep(0.02)
        return None

    def _claimed_and_silent(self) -> int | None:
        """Return the process that has just claimed a run, before its attempt writes a line."""
        folders = list((self._root / "runs" / "storm").glob("*/"))
        known = {folder: newest_claim(folder) for folder in folders}
        deadline = time.monotonic() + 30  # a busy machine takes long to start a process
        while time.monotonic() < deadline:
            for folder, before in known.items():
                state, last = newest_claim(folder), before.attempt if before else 0
                if state is not None and state.attempt > last and state.holder is not None:
                    return state.holder.pid
            time.sleep(0.002)
        return None


def _family(pid: int) -> list[psutil.Process]:
    """Return a process and all that it has started."""
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _holds_log(process: psutil.Process, root: Path) -> bool:
    """Whether it is a process that trains: its output goes to the log of a run."""
    with suppress(psutil.Error, OSError):
        return os.readlink(f"/proc/{process.pid}/fd/1").startswith(str(root / "runs"))
    return False


def _signal(pid: int, number: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def prepare(folder: Path, text: str = EXPERIMENT) -> None:
    """Write the experiment, compile the faults, and run it undisturbed with a launcher."""
    (folder / "storm.yaml").write_text(text)
    (folder / "faults.c").write_text(LIBRARY)
    compiler = shutil.which("cc") or shutil.which("gcc")
    assert compiler is not None
    subprocess.run([compiler, "-shared", "-fPIC", "-o", folder / "faults.so",
                    folder / "faults.c"], check=True)
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW_", "GAN_B"))}
    done = subprocess.run([sys.executable, "-m", "gan_bench", "run", "storm.yaml", "--root",
                           "undisturbed"], cwd=folder, env=environment, capture_output=True,
                          text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def storm(folder: Path, name: str, workers: int, number: int, draws: random.Random,
          mirrors: bool) -> tuple[Counter[str], list[str]]:
    """Let workers finish the experiment in a storm; return the disturbances and the differences."""
    weather = Storm(folder, name, workers, mirrors)
    try:
        weather.rage(number, draws)
    finally:
        weather.end()
    # Python's own server that forks may lose a line of its own when it is killed.
    assert "/gan_bench/" not in weather.output().replace(str(folder), ""), weather.output()
    done = subprocess.run([sys.executable, "-m", "gan_bench", "sync", "--root", name], cwd=folder,
                          capture_output=True, text=True, check=False,
                          env={**os.environ, "GAN_BENCH_LEASE": str(LEASE)})
    assert done.returncode == 0, done.stdout + done.stderr
    found = [line for line in differences(folder / "undisturbed", folder / name)
             if not line.endswith("files differ")]
    return weather.disturbances, found


def main() -> None:
    """Run storms until there were so many disturbances; status 1 if anything differs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--disturbances", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    draws, bad, total, number = random.Random(options.seed), 0, Counter[str](), 0
    with tempfile.TemporaryDirectory() as temporary:
        folders = {text: Path(temporary, name)
                   for name, text in (("grid", EXPERIMENT), ("search", SEARCH))}
        for text, folder in folders.items():
            folder.mkdir()
            prepare(folder, text)
        while total.total() < options.disturbances:
            workers, mirrors = (2, 8)[number % 2], number % 4 < 2
            text = (EXPERIMENT, SEARCH)[number // 4 % 2]
            begin = time.monotonic()
            # Two workers and eight in turn, whatever a busy machine lets happen in one storm.
            most = min(options.disturbances - total.total(), max(1, options.disturbances // 8))
            seen, found = storm(folders[text], f"storm-{number}", workers, most, draws, mirrors)
            total += seen
            print(f"{workers} workers{', one mirrors' if mirrors else ''}"
                  f"{', a search' if text == SEARCH else ''}: {dict(seen)}, "
                  f"{len(found)} differences, {time.monotonic() - begin:.0f} s", flush=True)
            print("".join(f"  {line}\n" for line in found), end="", flush=True)
            bad += len(found)
            number += 1
    print(f"{total.total()} disturbances {dict(total)}: {bad} differences")
    sys.exit(bool(bad))


if __name__ == "__main__":
    main()
