"""What gan-bench costs beside the training itself, against its targets: `make bench`.

Tracking is counted in CPU-seconds by the processes of real runs of the demonstration themselves.
Two trainings differ by more than tracking costs, so training with it and without it would compare
the trainings.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DEMO, DEMO_RUNS = Path(__file__).resolve().parents[1] / "experiments" / "dcgan_vs_mlp.yaml", 20
GAN_BENCH = str(Path(sys.executable).with_name("gan-bench"))
COSTS = "OVERHEAD_COSTS"  # names the folder where the processes of a measured run leave theirs
IN_WORKER = ("journal", "pictures", "observing")
TRACKING = (*IN_WORKER, "mirroring", "starting")
GRID = """\
name: grid
dataset: {name: digits, image_size: 16}
seeds: [%s]
base: {steps: 1000, model: mlp}
matrix: {loss: [saturating, non_saturating], batch_size: [16, 32, 64, 128, 256],
  g_optimizer.lr: [%s]}
""" % (", ".join(map(str, range(10))), ", ".join(f"{i}e-5" for i in range(1, 101)))


@dataclass(frozen=True)
class Line:
    """One line of the table; `limit` is in the values' unit, None where there is no target."""

    what: str
    values: list[float]
    unit: str
    limit: float | None = None
    detail: str = ""

    @property
    def verdict(self) -> str:
        """Whether every measurement, the worst one included, is within the target."""
        return "" if self.limit is None else "met" if max(self.values) <= self.limit else "MISSED"

    def cells(self) -> list[str]:
        """What, median with range, target, verdict."""
        low, high = min(self.values), max(self.values)
        spread = f" ({low:.2f} to {high:.2f})" if len(self.values) > 1 else ""
        target = "" if self.limit is None else f"≤ {self.limit:g} {self.unit}"
        return [self.what, f"{statistics.median(self.values):.2f} {self.unit}{spread}", target,
                self.verdict]


def cpu() -> float:
    """CPU-seconds of this process and of the children that it has waited for (git)."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def count_in_worker() -> None:
    """Have a run's process count its CPU time, and how much of it goes into tracking."""
    from gan_bench import engine, evaluate, journal, run, train

    spent: dict[str, float] = defaultdict(float)
    steps: dict[bool, list[float]] = {False: [], True: []}  # by whether the step is observed
    run_one, step = run.run_one, engine.Engine.step

    def timed(owner: Any, name: str, part: str) -> None:
        original = getattr(owner, name)

        def wrapper(*args: Any, **kwargs: Any) -> Any:
            start = cpu()
            try:
                return original(*args, **kwargs)
            finally:
                spent[part] += cpu() - start

        setattr(owner, name, wrapper)

    def timed_step(self: Any, number: int, real: Any, observe: bool = False) -> Any:
        start = cpu()
        seen = step(self, number, real, observe)
        steps[observe].append(cpu() - start)
        return seen

    def counted(spec: Any, root: Path, data_root: Path) -> Any:
        outcome = run_one(spec, root, data_root)
        longer = statistics.median(steps[True]) - statistics.median(steps[False])
        spent["observing"] = longer * len(steps[True])
        spent["steps"] = sum(steps[False]) + sum(steps[True]) - spent["observing"]
        spent["all"] = cpu()
        Path(os.environ[COSTS], f"{spec.id}.json").write_text(json.dumps(spent))
        return outcome

    for name in ("start", "protocol", "metrics", "system", "image", "end"):
        timed(journal.Journal, name, "journal")
    timed(run, "facts", "journal")
    timed(train._Clock, "lap", "journal")
    timed(engine.Engine, "sample", "pictures")
    timed(train, "sample_picture", "pictures")
    timed(evaluate.Evaluator, "__call__", "measuring")
    engine.Engine.step, run.run_one = timed_step, counted  # type: ignore[method-assign]


def launch(arguments: list[str]) -> None:
    """Be `gan-bench`, and leave the launcher's CPU-seconds: before any training, and in all."""
    from gan_bench import cli, execute

    before, train_all = [], execute._train_all

    def noted(*args: Any) -> None:
        before.append(cpu())
        train_all(*args)

    execute._train_all = noted
    sys.argv = ["gan-bench", *arguments]
    try:
        cli.main()
    finally:
        Path(os.environ[COSTS], "launcher.json").write_text(json.dumps([*before, cpu()]))


def tracked(folder: Path, *overrides: str) -> tuple[dict[str, float], float]:
    """Run the demonstration in a fresh root; return the mean CPU-seconds of a run, and the wall's.

    All that the launcher does counts as tracking: what it does until the training begins
    ("starting": imports, a new database) is shared by the demonstration's 20 runs.
    """
    folder.mkdir()
    start = time.perf_counter()
    subprocess.run([sys.executable, __file__, "launch", "run", DEMO, "--root", folder, *overrides],
                   check=True, stdout=subprocess.DEVNULL, env={**os.environ, COSTS: str(folder)})
    wall = time.perf_counter() - start
    before, total = json.loads((folder / "launcher.json").read_text())
    (folder / "launcher.json").unlink()
    runs = [json.loads(file.read_text()) for file in folder.glob("*.json")]
    mean = {part: statistics.mean(run[part] for run in runs) for part in runs[0]}
    mean |= {"starting": before / DEMO_RUNS, "mirroring": (total - before) / len(runs)}
    mean["tracking"] = sum(mean[part] for part in TRACKING)
    mean["rest"] = mean["all"] - sum(mean[part] for part in IN_WORKER)
    return mean, wall


def wall_times(*arguments: object, times: int) -> list[float]:
    """Return the wall times of a whole process; a first one, with cold caches, is not counted."""
    taken = []
    for _ in range(times + 1):
        start = time.perf_counter()
        subprocess.run([GAN_BENCH, *map(str, arguments)], check=True, stdout=subprocess.DEVNULL)
        taken.append(time.perf_counter() - start)
    return taken[1:]


def tracking(folder: Path, repeats: int, full: bool) -> list[Line]:
    """What tracking costs, and how long the same command takes when all is finished."""
    runs = [tracked(folder / f"{i}", "--set", "seeds=[0]")[0] for i in range(repeats)]
    again = wall_times("run", DEMO, "--root", folder / "0", "--set", "seeds=[0]", times=3)
    lines = [share("tracking, 4 runs", runs)]
    lines.append(Line("the same, of the training steps alone",
                      [100 * run["tracking"] / run["steps"] for run in runs], "%"))
    lines.append(Line("run again, 4 runs finished", again, "s", 10))
    if full:
        run, wall = tracked(folder / "full")
        again = wall_times("run", DEMO, "--root", folder / "full", times=3)
        lines += [share("tracking, the demonstration's 20 runs", [run]),
                  Line("run again, 20 runs finished", again, "s", 10),
                  Line("the demonstration, from an empty root", [wall], "s", 300)]
    return lines


def share(what: str, runs: list[dict[str, float]]) -> Line:
    """Return tracking's share of all the other CPU time that the runs took."""
    parts = ", ".join(f"{part} {statistics.median(run[part] for run in runs):.3f}"
                      for part in (*TRACKING, "rest"))
    return Line(what, [100 * run["tracking"] / run["rest"] for run in runs], "%", 2,
                f"CPU-seconds of a run: {parts}")


def print_growth(root: Path) -> None:
    """Print by how many MB MNIST, all its pages touched, makes this process grow."""
    import psutil
    import torch

    from gan_bench import data
    from gan_bench.registry import DATASETS

    mnist, source = DATASETS.parse({"name": "mnist"}), Path(os.environ["GAN_BENCH_DATA"])
    mnist = DATASETS.parse({"name": "mnist", "image_size": 32})
    data.prepare(mnist, source, root)
    torch.zeros(1000)[::512].max()
    before = psutil.Process().memory_info().rss
    loaded = data.load(mnist, source, root, "cpu")
    for split in (loaded.train, loaded.test):
        for tensor in (split.images, split.labels):
            assert tensor is not None
            tensor.reshape(-1)[::512].max()  # reads every page
    print((psutil.Process().memory_info().rss - before) / 1e6)


def memory(folder: Path) -> list[Line]:
    """How much of a run's memory is MNIST; nothing where there is none."""
    if not (Path(os.environ.get("GAN_BENCH_DATA", "-")) / "MNIST").exists():
        print("memory: skipped, GAN_BENCH_DATA names no folder with MNIST")
        return []
    grown = [float(subprocess.run([sys.executable, __file__, "memory", folder], check=True,
                                  stdout=subprocess.PIPE, text=True).stdout) for _ in range(4)]
    # The first decodes the data, which leaves memory behind.
    return [Line("MNIST at 32 pixels in a run's memory", grown[1:], "MB", 300)]


def main() -> None:
    """Measure all, print the table, then what is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--full", action="store_true", help="run the whole demonstration too")
    parser.add_argument("--repeats", type=int, default=3, help="how often tracking is measured")
    options = parser.parse_args()
    load = os.getloadavg()[0]
    print(f"{platform.platform()}, {os.cpu_count()} cores, load average {load:.2f} at the start")
    if load > 0.5:
        print("something else is running: wall times come out too long")
    with tempfile.TemporaryDirectory() as name:
        folder, grid = Path(name), Path(name, "grid.yaml")
        grid.write_text(GRID)
        lines = [Line("gan-bench --help", wall_times("--help", times=7), "s", 0.5),
                 Line("plan of 10,000 runs (1,000 variants)",
                      wall_times("plan", grid, "--root", folder, times=5), "s", 3),
                 *memory(folder), *tracking(folder, options.repeats, options.full)]
    rows = [["what", "median (range)", "target", ""], *(line.cells() for line in lines)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)))
    for line in lines:
        if line.detail:
            print(f"{line.what}: {line.detail}")
    missed = [line for line in lines if line.verdict == "MISSED"]
    print("missed:" if missed else "missed: nothing")
    for line in missed:
        print(f"- {line.what}: {max(line.values):.2f} {line.unit} at worst. {line.detail}")


if __name__ == "__mp_main__" and COSTS in os.environ:
    count_in_worker()  # in a process that the fork server of `launch` made
elif __name__ == "__main__":
    if sys.argv[1:2] == ["launch"]:
        launch(sys.argv[2:])
    elif sys.argv[1:2] == ["memory"]:
        print_growth(Path(sys.argv[2]))
    else:
        main()
