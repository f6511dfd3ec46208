"""The time of a report: `gan-bench report` on synthetic runs, in a separate process.

    python benchmarks/report.py           200 runs of 1,000 points of 12 metrics
    python benchmarks/report.py --full    also 1,000 runs, which take minutes to create
    python benchmarks/report.py --quick   20 runs: whether it works, and no measurement

The runs are written directly into the tables of an MLflow database, because logging 12 million
measurements through MLflow takes an hour. 10 seeds a variant; one run in 50 diverged; each has 5
sample grids.
"""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
from overhead import GAN_BENCH
from PIL import Image
from targets import QUICK, row, say_load, say_rows

from gan_bench.journal.layout import Workspace
from gan_bench.tracking.runs.tags import ABOUT
from gan_bench.tracking.store.client import open_store

POINTS, SEEDS, NAME = (20 if QUICK else 1_000), 10, "synthetic"
SCORES = ("fd_classifier", "classifier_score", "precision_classifier", "recall_classifier")
METRICS = (*(f"eval/{score}" for score in SCORES), "train/d_loss", "train/g_loss", "train/d_real",
           "train/d_fake", "train/d_loss_real", "train/d_loss_fake", "train/g_grad_norm",
           "train/d_grad_norm")
PROTOCOL = json.dumps({"data": "digits 0", "extractor": "classifier", "generated": 2_000})
TARGETS = {20: (20.0, None), 200: (20.0, 2.0), 1_000: (90.0, None)}  # seconds, GB
SLOW = ("of 31 CPU-seconds 23 are matplotlib's, for 15 figures, spread over the cores; the others "
        "come one after the other")


def make(root: Path, runs: int) -> None:
    """Write an experiment of so many runs into a database of its own."""
    open_store(Workspace(root))
    variants = [f"variant-{i:02}" for i in range(runs // SEEDS)]
    names = [(f"{i:012x}", variants[i // SEEDS], i % SEEDS) for i in range(runs)]
    home = root.absolute() / "artifacts" / NAME
    with closing(sqlite3.connect(root / "mlflow.db")) as db, db:
        db.execute("insert into experiments (experiment_id, name, artifact_location, "
                   "lifecycle_stage) values (9, ?, ?, 'active')", (NAME, home.as_uri()))
        about = {"question": "How long does it take?", "baseline": variants[0]}
        db.execute("insert into experiment_tags values (?, ?, 9)", (ABOUT, json.dumps(about)))
        for i, (run, variant, seed) in enumerate(names):
            state = "DIVERGED" if i % 50 == 49 else "FINISHED"
            folder = home / run / "artifacts"
            db.execute(
                "insert into runs (run_uuid, name, status, start_time, end_time, lifecycle_stage, "
                "artifact_uri, experiment_id) values (?, ?, 'FINISHED', ?, ?, 'active', ?, 9)",
                (run, run, started(i), started(i) + 60_000, folder.as_uri()))
            tags = {"run_id": run, "variant": variant, "seed": str(seed), "status": state,
                    "settings": variant, "gan_bench_version": "0.1.0", "torch_version": "2.15.0",
                    **({"why": "d_loss is NaN at step 999"} if state == "DIVERGED" else {}),
                    **{f"protocol.eval/{score}": PROTOCOL for score in SCORES}}
            db.executemany("insert into tags (key, value, run_uuid) values (?, ?, ?)",
                           [(*pair, run) for pair in tags.items()])
            db.executemany("insert into params (key, value, run_uuid) values (?, ?, ?)", [
                ("loss", variant, run), ("steps", str(POINTS), run), ("data.classes", "10", run),
                *((f"model.key{k}", str(k), run) for k in range(40))])
            draw(folder / "images", i)
        for metric in METRICS:
            db.executemany("insert into metrics (key, value, timestamp, run_uuid, step, is_nan) "
                           "values (?, ?, ?, ?, ?, 0)", measurements(metric, names))


def started(i: int) -> int:
    """When a run began, in ms since 1970: the rows come in the order of the table's key."""
    return 1_790_000_000_000 + 100_000 * i


def measurements(metric: str, names: list[tuple[str, str, int]]) -> Iterator[tuple[Any, ...]]:
    """Yield the rows of a metric."""
    rng = np.random.default_rng(len(metric))
    steps = np.arange(1, POINTS + 1)
    for i, (run, _, _) in enumerate(names):
        level = 0.5 + i // SEEDS / 50 + rng.normal(0, 0.05)
        values = level * (1 + 5 * np.exp(-steps / 200)) + rng.normal(0, 0.02, POINTS)
        for step, value in zip(steps.tolist(), values.tolist(), strict=True):
            yield metric, value, started(i) + 50 * step, run, step


def draw(folder: Path, i: int) -> None:
    """Write sample grids as a run leaves them: 8 × 8 of 16 pixels, each enlarged threefold."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(i)
    for step in range(0, POINTS + 1, POINTS // 4):
        grid = np.full((146, 146, 3), 128, np.uint8)
        for y in range(2, 146, 18):
            for x in range(2, 146, 18):
                grid[y:y + 16, x:x + 16] = rng.integers(0, 256, (16, 16, 1))
        picture = Image.fromarray(grid).resize((438, 438), Image.Resampling.NEAREST)
        name = f"samples+step+{step}+timestamp+{started(i)}+{i:08x}-0000-0000-0000-000000000000.png"
        picture.save(folder / name)


def measure(root: Path, *options: str) -> tuple[float, float]:
    """Return the wall time of a report in seconds, and the peak of its memory in GB."""
    begin = time.perf_counter()
    process = subprocess.Popen([GAN_BENCH, "report", NAME, "--root", root, *options],
                               stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0, "the report failed"
    return time.perf_counter() - begin, used.ru_maxrss / 1e6


def main() -> None:
    """Measure, print a line each, and what is missed."""
    os.environ.pop("MLFLOW_TRACKING_URI", None)
    load = say_load()
    table = []
    sizes = (200, 1_000) if "--full" in sys.argv else (200,)
    for runs in (20,) if QUICK else sizes:
        with tempfile.TemporaryDirectory(dir=os.environ.get("GAN_BENCH_ROOT")) as name:
            root = Path(name)
            make(root, runs)
            found = [measure(root, *(("--format", "html") if QUICK else ()))
                     for _ in range(3 if runs == 200 else 1)]
            page = (root / "reports" / NAME / "report.html").stat().st_size / 1e6
        seconds, memory = TARGETS[runs]
        table.append(row(f"report of {runs:,} runs ({page:.1f} MB)", [s for s, _ in found], "s",
                         seconds, SLOW))
        if memory:
            table.append(row(f"report of {runs:,} runs, memory", [m for _, m in found], "GB",
                             memory))
    say_rows(table, (44, 30), load)


if __name__ == "__main__":
    main()
