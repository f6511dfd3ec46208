"""The cost of losing nothing: checkpoints, and the start of a large experiment that is resumed.

    python benchmarks/resume.py        a minute on two cores, nothing else running
    python benchmarks/resume.py --quick   whether it works, and no measurement

A checkpoint is timed with the journal's flush, waits for the disk included, on networks that have
trained a few steps. The start is that of a command whose experiment has 200 finished runs and one
more seed: from its launch to the first record of the new run, which comes right before its first
step; the file system's cache is warm.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

import torch
from overhead import GAN_BENCH
from targets import QUICK, row, say_load, say_rows

from gan_bench.config.experiment import load_experiment
from gan_bench.journal import reading
from gan_bench.journal.writing import Journal
from gan_bench.training import checkpoint
from gan_bench.training.checkpoint import EVERY, Checkpoint
from gan_bench.training.step.engine import Engine
from gan_bench.training.step.step_batch import StepBatch

RUNS, TIMES, STARTS = (2, 1, 1) if QUICK else (200, 9, 3)
MODELS = {
    "mlp, digits at 16 pixels (the demonstration)": ("mlp", "{name: digits, image_size: 16}", 64),
    "dcgan, width 32, the same": ("{name: dcgan, width: 32}", "{name: digits, image_size: 16}", 64),
    "dcgan_upsample, 32 pixels": ("dcgan_upsample", "{name: digits, image_size: 32}", 16),
    "dcgan, width 128, 64 pixels": ("dcgan", "{name: digits, image_size: 64}", 4),
}
STUDY = """\
name: study
dataset: {{name: {dataset}}}
seeds: {seeds}
base: {{model: {model}, batch_size: {batch}, steps: 1, ema: 0.999}}
variants: {{plain: {{}}}}
evaluate: {{samples: 50, metrics: [nearest_train_mse]}}
compute: {{device: cpu}}
"""


def checkpoint_rows(folder: Path) -> list[list[str]]:
    """Time checkpoints of several models: seconds, and the share of training at the cadence."""
    rows = []
    models = list(MODELS.items())[: 1 if QUICK else None]
    for number, (what, (model, dataset, batch)) in enumerate(models):
        file = folder / "study.yaml"
        file.write_text(STUDY.format(dataset=dataset.removeprefix("{name: ").removesuffix("}"),
                                     seeds=[0], model=model, batch=batch))
        spec = load_experiment(file, folder, []).runs[0]
        home = folder / str(number)
        home.mkdir()
        engine, record = Engine(spec, "cpu"), Journal(home)
        for step in range(1, 3):  # so that the optimizers have their moments
            engine.step(step, StepBatch([torch.zeros(batch, *spec.data.shape)]))
        taken = []
        for step in range(TIMES):
            record.metrics(step, {"train/d_loss": 1.0})
            begin = time.perf_counter()
            checkpoint.write(home, Checkpoint(step, record.flush(), {}, engine.state()))
            taken.append(time.perf_counter() - begin)
        record.close()
        size = (home / checkpoint.FILE).stat().st_size / 1e6
        # The pause until the next one grows with the cost, so that it is never more.
        shares = [100 * t / (max(EVERY, t / checkpoint.SHARE) + t) for t in taken]
        rows.append(row(f"{what}: {size:.0f} MB, {statistics.median(taken):.3f} s", shares, "%", 1))
    return rows


def start_row(folder: Path) -> list[str]:
    """Time the start of a command that finds 200 of 201 runs finished."""
    file, root, taken = folder / "study.yaml", folder / "root", []
    for seeds in (RUNS, *range(RUNS + 1, RUNS + 1 + STARTS)):
        file.write_text(STUDY.format(dataset="digits", seeds=[*range(seeds)],
                                     model="{name: mlp, width: 16}", batch=16))
        begin = time.time()
        subprocess.check_output([GAN_BENCH, "run", file, "--root", root])
        newest = load_experiment(file, folder, []).runs[-1]
        records, _ = reading.read_records(newest.folder(root))
        if seeds > RUNS:
            taken.append(records[0]["t"] / 1000 - begin)
    return row(f"start of a command with {RUNS} finished runs", taken, "s", 5,
               "most of it is importing torch, 2.3 s, with MLflow beside it on another core")


def main() -> None:
    """Measure, print a line each, and what is missed."""
    load = say_load()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(dir=os.environ.get("GAN_BENCH_ROOT")) as name:
        rows = [*checkpoint_rows(Path(name)), start_row(Path(name))]
    say_rows(rows, (62, 26), load)


if __name__ == "__main__":
    main()
