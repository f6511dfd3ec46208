"""What sharing a root costs: claims, a late worker, and many workers at once.

    python benchmarks/workers.py        three minutes on two cores, nothing else running
    python benchmarks/workers.py --quick   whether it works, and no measurement

No run is trained: a simulated worker claims runs as `gan-bench work` does, computes for a fixed
time of the processor, and records the start and the end of the run. Its ideal is the same work in
two processes that share nothing.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from targets import QUICK, row, say_load, say_rows

from gan_bench.config.experiment import load_experiment
from gan_bench.config.spec import RunSpec
from gan_bench.journal import reading
from gan_bench.journal.layout import WEIGHTS, Execution, Workspace
from gan_bench.journal.sharing.queue_file import (
    OverIndex,
    open_runs,
    read_queue,
    specs_of,
    write_queue,
    write_specs,
)
from gan_bench.journal.status import Progress
from gan_bench.journal.writing import Journal
from gan_bench.launcher.grid import Grid

CLAIMS, FINISHED, RUNS, WORKERS = (5, 20, 40, 4) if QUICK else (200, 10_000, 2_000, 64)
CPU = 0.05  # seconds of the processor that a simulated run computes
STUDY = """\
name: study
dataset: digits
seeds: {seeds}
base: {{model: {{name: mlp, width: 16}}, batch_size: 16, steps: 1, log_every: 1, sample_every: 1}}
variants: {{a: {{}}}}
evaluate: {{metrics: [d_accuracy], samples: 10}}
"""


def prepare(folder: Path, name: str, runs: int) -> tuple[Path, list[RunSpec]]:
    """Prepare an experiment of so many runs; return its folder and its runs."""
    file, root = folder / f"{name}.yaml", folder / name
    file.write_text(STUDY.format(seeds=[*range(runs)]))
    specs = list(load_experiment(file, folder).runs)
    for spec in specs:
        spec.write(root)
    home = root / "runs" / "study"
    progress = [Progress(spec, spec.folder(root)) for spec in specs]
    begun = write_specs(progress, root)
    write_queue(home, progress, begun, Execution(Workspace(root, folder)), 2, 1)
    return home, specs


def compute(seconds: float) -> None:
    """Use the processor."""
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


def record(book: Journal, seconds: float) -> None:
    """Record a run that computes for so long."""
    book.start({"versions": {}})
    compute(seconds)
    (book.folder / WEIGHTS).write_bytes(b"weights")
    book.metrics(1, {"train/d_loss": 1.0})
    book.end("FINISHED")


def work(home: Path) -> None:
    """Claim and record runs until none is left, as a worker does."""
    queue = read_queue(home)
    root = home.parents[1]
    runs = [Progress(spec, spec.folder(root)) for spec in specs_of(open_runs(queue, home), home)]
    grid = Grid(runs, queue.begun, queue.retries, None, lambda run: None, OverIndex(home).add)
    while grid.open:
        for run, claim in grid.claim(1):
            record(Journal(run.folder, claim), CPU)
            claim.release()
            run.follow()
            grid.note_end(run)
        if grid.elsewhere and len(grid.elsewhere) == len(grid.open):
            time.sleep(0.5)
            grid.follow()


def work_alone(folders: Sequence[Path]) -> None:
    """Record runs one after the other."""
    for folder in folders:
        with closing(Journal(folder)) as book:
            record_alone(book)


def record_alone(book: Journal) -> None:
    """Record a run without closing its journal."""
    book.start({"versions": {}})
    compute(CPU)
    (book.folder / WEIGHTS).write_bytes(b"weights")
    book.metrics(1, {"train/d_loss": 1.0})
    book.flush()


def claim_row(folder: Path) -> list[str]:
    """Time claims, each with its fsync."""
    home, specs = prepare(folder, "claims", CLAIMS)
    grid = Grid([Progress(spec, home / spec.id) for spec in specs], {}, 2, None, lambda run: None)
    taken = []
    for _ in specs:
        begin = time.perf_counter()
        (_, claim), = grid.claim(1)
        taken.append(1000 * (time.perf_counter() - begin))
        claim.release()
    return row("a claim", taken, "ms", 50)


def late_rows(folder: Path) -> list[list[str]]:
    """Time a worker that starts when all runs but one have finished, with and without the index."""
    home, specs = prepare(folder, "late", FINISHED + 1)
    for spec in specs[:-1]:
        line = {"t": 1, "kind": "start", "step": 0, "facts": {}}
        end = {"t": 2, "kind": "end", "step": 1, "status": "FINISHED", "why": "", "weights": None}
        (home / spec.id / reading.FILE).write_text(json.dumps(line) + "\n" + json.dumps(end) + "\n")
        (home / spec.id / WEIGHTS).touch()
    found = []
    for what in ("without an index", "with it"):
        times = []
        for _ in range(1 if what == "without an index" else 5):
            begin = time.perf_counter()
            queue = read_queue(home)
            last, = specs_of(open_runs(queue, home), home)
            grid = Grid([Progress(last, home / last.id)], queue.begun, 2, None, lambda run: None)
            (_, claim), = grid.claim(1)
            times.append(time.perf_counter() - begin)
            claim.release()
        found.append(row(f"the next run after {FINISHED:,} finished ones, {what}", times, "s", 2))
    return found


def crowd_row(folder: Path) -> list[str]:
    """Time many workers on one root against two processes that share nothing."""
    home, _ = prepare(folder, "crowd", RUNS)
    _, alone = prepare(folder, "ideal", RUNS)
    folders = [spec.folder(folder / "ideal") for spec in alone]
    context = multiprocessing.get_context("fork")
    ideal = wall([context.Process(target=work_alone, args=(folders[i::2],)) for i in range(2)])
    crowd = wall([context.Process(target=work, args=(home,)) for _ in range(WORKERS)])
    attempts = Counter(len(list(path.glob("attempt.*"))) for path in home.glob("*/"))
    assert attempts == {1: RUNS}, attempts
    print(f"{WORKERS} workers: {crowd:.1f} s; two processes that share nothing: {ideal:.1f} s; "
          f"each of {RUNS:,} runs was claimed once")
    return row(f"{WORKERS} workers on {RUNS:,} runs, times of the ideal", [crowd / ideal], "", 1.3)


def wall(processes: Sequence[multiprocessing.process.BaseProcess]) -> float:
    """Return how long processes take that start at once."""
    begin = time.perf_counter()
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    return time.perf_counter() - begin


def main() -> None:
    """Measure, print a line each, and what is missed."""
    load = say_load()
    with tempfile.TemporaryDirectory(dir=os.environ.get("GAN_BENCH_ROOT")) as name:
        rows = [claim_row(Path(name)), *late_rows(Path(name)), crowd_row(Path(name))]
    say_rows(rows, (62, 26), load)


if __name__ == "__main__":
    main()
