"""Kill an experiment at random moments, repeat the command, compare with one nobody disturbed.

    PYTHONPATH=tests python -m helpers.faults --kills 200    what `make faults` runs: 15 minutes

Real processes, real SIGKILL. A third of the kills of a worker waits until a checkpoint is being
written, and a third of those of a launcher until the journal is ahead of what MLflow has.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from helpers.checkpoints import files
from helpers.journals import repeatable

from gan_bench.journal import reading
from gan_bench.tracking.runs import cursor

EXPERIMENT = """\
name: storm
dataset: {name: digits, image_size: 16}
seeds: [0]
base:
  model: {name: mlp, width: 64}
  batch_size: 32
  steps: 1000
  log_every: 10
  sample_every: 50
  d_steps: 2
  ema: 0.99
variants:
  plain:
  saturating:
    loss: saturating
    d_optimizer: rmsprop
    augmentation: [flip, {name: ada, transforms: [color], kimg: 20}]
  styled:
    model: {name: stylegan2, width: 4, latent_dim: 8, mapping_layers: 2, group: null}
    penalties: [{name: r1, every: 4, own_step: true}, {name: path_length, every: 2, own_step: true}]
    augmentation: [{name: ada, transforms: [color], kimg: 20}]
    ema: {half_life: 500}
    batch_size: 8
    d_steps: 1
    steps: 200
evaluate: {every: 100, samples: 50, metrics: [d_accuracy, nearest_train_mse]}
compute: {device: cpu}
"""
JOURNAL = re.compile(r"/journal(\.[0-9]+)?\.jsonl$")  # any segment
MODES = ("worker", "launcher", "both")
PATIENCE = 300.0


@dataclass
class Figures:
    """What a storm did.

    Attributes:
        kills: How often processes were killed.
        in_checkpoint: How many of these while a checkpoint was being written.
        before_mlflow: How many while the journal was ahead of MLflow.
        finished: How many experiments came to their end.
        differences: In what they differ from the undisturbed one.
    """

    kills: int = 0
    in_checkpoint: int = 0
    before_mlflow: int = 0
    finished: int = 0
    differences: list[str] = field(default_factory=list)


def run_undisturbed(folder: Path, steps: int = 1000) -> Path:
    """Run the experiment; return its root."""
    (folder / "storm.yaml").write_text(EXPERIMENT.replace("steps: 1000", f"steps: {steps}"))
    launcher = _launch(folder, "undisturbed")
    assert launcher.wait(PATIENCE) == 0, (folder / "undisturbed.txt").read_text()
    return folder / "undisturbed"


def storm(folder: Path, mode: str, kills: int, draws: random.Random) -> Figures:
    """Kill so many times, and compare every experiment that ends with the undisturbed one.

    Args:
        folder: Holds the undisturbed experiment.
        mode: Who is killed: `worker`, `launcher`, or `both` at once.
        kills: How often at least.
        draws: Where the moments come from.
    """
    figures, number = Figures(), 0
    while figures.kills < kills:
        name = f"{mode}-{number}"
        while (launcher := _launch(folder, name)) and not _disturb(
                launcher, folder / name, mode, kills, figures, draws):
            pass
        figures.finished += 1
        figures.differences += differences(folder / "undisturbed", folder / name)
        number += 1
    return figures


def differences(one: Path, two: Path) -> list[str]:
    """Return in what two roots differ that must be equal; nothing if they are alike."""
    found = []
    left, right = _left(one), _left(two)
    if left.keys() != right.keys():
        found.append(f"{two.name}: other runs")
    for run in left.keys() & right.keys():
        found += [f"{two.name}/{run}: {what} differ" for what in left[run]
                  if left[run][what] != right[run][what]]
    return found


def _left(root: Path) -> dict[str, dict[str, Any]]:
    """What a root's runs have left behind: on the disk, and in MLflow."""
    database = sqlite3.connect(f"{(root / 'mlflow.db').as_uri()}?mode=ro", uri=True)
    left: dict[str, dict[str, Any]] = {}
    for folder in (f.parent for f in root.glob("runs/storm/*/spec.json")):
        records = reading.read_records(folder)[0]
        left[folder.name] = {
            "journals": repeatable(records),
            "measurements": [r["step"] for r in records if r["kind"] == "system"],
            "weights": (folder / "final.safetensors").read_bytes(),
            "pictures": {p.name: p.read_bytes() for p in (folder / "samples").iterdir()},
            "files": files(folder),
            **_in_mlflow(database, root, folder.name),
        }
    database.close()
    return left


def _in_mlflow(database: sqlite3.Connection, root: Path, run: str) -> dict[str, Any]:
    """All metrics of the run by key, step and value; a measurement's value and all times aside."""
    ids = database.execute(
        "select r.run_uuid, r.status from runs r join tags t on t.run_uuid = r.run_uuid "
        "where t.key = 'run_id' and t.value = ? and r.lifecycle_stage = 'active'",
        (run,)).fetchall()
    if len(ids) != 1:
        return {"MLflow runs": ids}
    (uuid, status), = ids
    rows = database.execute("select key, step, is_nan, value from metrics where run_uuid = ?",
                            (uuid,)).fetchall()
    pictures = root.glob(f"artifacts/storm/{uuid}/artifacts/images/*")
    return {
        "MLflow runs": status,
        "MLflow metrics": sorted((key, step, nan, 0 if key.startswith("system/") else value)
                                 for key, step, nan, value in rows),
        "MLflow pictures": sorted(re.sub(r"timestamp\+\d+", "", p.name) for p in pictures),
    }


def _launch(folder: Path, name: str) -> subprocess.Popen[bytes]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW_", "GAN_B"))}
    with (folder / f"{name}.txt").open("ab") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "gan_bench", "run", "storm.yaml", "--root", name,
             "--slots", "1", "--retries", "1000000", "--checkpoint-every", "0.1"],
            cwd=folder, stdout=output, stderr=output, env=environment)


def _disturb(launcher: subprocess.Popen[bytes], root: Path, mode: str, kills: int,
             figures: Figures, draws: random.Random) -> bool:
    """Kill until there have been enough; return whether the experiment has ended, in order."""
    while True:
        aim = draws.choice(("any", "any", "checkpoint" if mode != "launcher" else "mlflow"))
        delay, seen = draws.uniform(0, 1.0), dict[int, float]()  # since when each is known
        victim = next(
            (worker for worker in _workers(launcher, root) if figures.kills < kills and _is_time(
                aim, seen.setdefault(worker, time.monotonic()) + delay, worker, root)), None)
        if victim is None:
            status = launcher.wait(PATIENCE)
            text = root.with_suffix(".txt").read_text()
            assert status == 0, text
            assert "Traceback" not in text, text
            assert "KILLED at step" not in text, text  # it goes on, and is at no end
            return True
        figures.in_checkpoint += aim == "checkpoint"
        figures.before_mlflow += _is_ahead(root)
        figures.kills += 1
        for pid in {"worker": [victim], "launcher": [launcher.pid],
                    "both": [launcher.pid, victim]}[mode]:
            os.kill(pid, signal.SIGKILL)
        if mode != "worker":
            launcher.wait()
            return False
        _wait_for(lambda victim=victim: victim not in _training(launcher, root))


def _is_time(aim: str, moment: float, worker: int, root: Path) -> bool:
    """Whether to kill now; a worker caught in a checkpoint's write is left standing in it."""
    if aim == "any":
        return time.monotonic() > moment
    if aim == "mlflow":
        return time.monotonic() > moment and _is_ahead(root)
    if not _writes_checkpoint(root):
        return False
    os.kill(worker, signal.SIGSTOP)
    if _writes_checkpoint(root):  # still, and it stands
        return True
    os.kill(worker, signal.SIGCONT)
    return False


def _workers(launcher: subprocess.Popen[bytes], root: Path) -> Iterator[int]:
    """The process that trains, whenever there is one, until the launcher ends."""
    deadline = time.monotonic() + PATIENCE
    known: list[int] = []
    while launcher.poll() is None:
        assert time.monotonic() < deadline, root.with_suffix(".txt").read_text()
        if known and psutil.pid_exists(known[0]):
            yield known[0]
            time.sleep(0.001)
        else:  # looking for it is work, and the machine has better things to do
            time.sleep(0.05)
            known = _training(launcher, root)


def _training(launcher: subprocess.Popen[bytes], root: Path) -> list[int]:
    """The processes that have a journal of this root open, the launcher's own reading aside."""
    found = []
    try:
        for process in psutil.Process(launcher.pid).children(recursive=True):
            try:
                if process.status() != psutil.STATUS_ZOMBIE and any(
                        JOURNAL.search(file.path) for file in process.open_files()):
                    found.append(process.pid)
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue
    except psutil.NoSuchProcess:
        pass
    return found


def _writes_checkpoint(root: Path) -> bool:
    return any(root.glob("runs/storm/*/.checkpoint*.tmp"))


def _is_ahead(root: Path) -> bool:
    """Whether a journal holds more than MLflow has been told."""
    for folder in (file.parent for file in root.glob("runs/storm/*/spec.json")):
        try:
            cursors = json.loads((folder / cursor.FILE).read_text())
            if any(c["offset"] < reading.length(folder) for c in cursors.values()):
                return True
        except OSError:
            return True
    return False


def _wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def main() -> None:
    """Run a storm of each kind, and print what it did; status 1 if anything differs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=200, help="in all; half of them of workers")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    shares = dict(zip(MODES, (options.kills // 2, options.kills // 4, options.kills // 4),
                      strict=True))
    draws, bad = random.Random(options.seed), 0
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        run_undisturbed(folder)
        for mode, kills in shares.items():
            begin = time.monotonic()
            figures = storm(folder, mode, kills, draws)
            print(f"{mode}: {figures.kills} kills ({figures.in_checkpoint} inside a checkpoint's "
                  f"write, {figures.before_mlflow} with MLflow behind the journal), "
                  f"{figures.finished} experiments finished, {len(figures.differences)} "
                  f"differences, {time.monotonic() - begin:.0f} s", flush=True)
            for difference in figures.differences:
                print(f"  {difference}")
            bad += len(figures.differences)
    sys.exit(bool(bad))


if __name__ == "__main__":
    main()
