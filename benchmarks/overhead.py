"""What gan-bench costs beside the training itself, against its targets: `make bench`.

Tracking is counted in CPU-seconds by the processes of real runs of the demonstration themselves.
Two trainings differ by more than tracking costs, so training with it and without it would compare
the trainings.
"""

from __future__ import annotations

import atexit
import json
import os
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
GRID = f"""\
name: grid
dataset: {{name: digits, image_size: 16}}
seeds: {[*range(10)]}
base: {{model: mlp, steps: 1000}}
matrix: {{batch_size: [16, 32, 64, 128, 256], loss: [saturating, non_saturating],
  g_optimizer.lr: {[i / 1e5 for i in range(1, 101)]}}}
"""


@dataclass(frozen=True)
class Line:
    """One line of the table; a target is met when the worst of the values is within it."""

    what: str
    values: list[float]
    unit: str
    target: float
    detail: str = ""

    def cells(self) -> tuple[str, str, str, str]:
        low, middle, high = min(self.values), statistics.median(self.values), max(self.values)
        spread = f" ({low:.2f} to {high:.2f})" if low < high else ""
        return (self.what, f"{middle:.2f} {self.unit}{spread}", f"≤ {self.target:g} {self.unit}",
                "MISSED" if high > self.target else "met")


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
            result = original(*args, **kwargs)
            spent[part] += cpu() - start
            return result

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
        spent["of these steps"] = sum(steps[False]) + sum(steps[True]) - spent["observing"]
        spent["all"] = cpu()
        Path(os.environ[COSTS], f"run-{spec.id}.json").write_text(json.dumps(spent))
        return outcome

    for name in ("start", "protocol", "metrics", "system", "image", "end"):
        timed(journal.Journal, name, "journal")
    timed(run, "facts", "journal")
    timed(train._Clock, "lap", "journal")
    timed(engine.Engine, "sample", "pictures")
    timed(train, "sample_picture", "pictures")
    timed(evaluate.Evaluator, "__call__", "and measuring")
    engine.Engine.step, run.run_one = timed_step, counted  # type: ignore[method-assign]


def launch() -> None:
    """Be `gan-bench`, and leave the launcher's CPU-seconds: before any training, and in all."""
    from gan_bench import cli, execute

    counts, train_all = [], execute._train_all

    def noted(*args: Any) -> None:
        counts.append(cpu())
        train_all(*args)

    execute._train_all = noted
    file = Path(os.environ[COSTS], "launcher.json")
    atexit.register(lambda: file.write_text(json.dumps([*counts, cpu()])))
    cli.main()


def tracked(root: Path, *overrides: str) -> tuple[dict[str, float], float]:
    """Run the demonstration in a fresh root; return the CPU-seconds of a run, and the wall time.

    All that the launcher does counts as tracking; what it does before the training ("starting":
    imports, a new database) is shared by the demonstration's 20 runs.
    """
    root.mkdir()
    start = time.perf_counter()
    subprocess.run([sys.executable, __file__, "run", DEMO, "--root", root, *overrides],
                   check=True, stdout=subprocess.DEVNULL, env={**os.environ, COSTS: str(root)})
    wall = time.perf_counter() - start
    before, total = json.loads((root / "launcher.json").read_text())
    runs = [json.loads(file.read_text()) for file in root.glob("run-*.json")]
    mean = {part: statistics.mean(run[part] for run in runs) for part in runs[0]}
    mean |= {"starting": before / DEMO_RUNS, "mirroring": (total - before) / len(runs)}
    mean["others"] = mean["all"] - sum(mean[part] for part in IN_WORKER)
    return mean, wall


def tracking(what: str, means: list[dict[str, float]]) -> Line:
    """Return tracking's share of all the other CPU time of the runs."""
    shares = [100 * sum(mean[part] for part in TRACKING) / mean["others"] for mean in means]
    parts = ", ".join(f"{part} {statistics.median(mean[part] for mean in means):.3f}"
                      for part in (*TRACKING, "others", "of these steps", "and measuring"))
    return Line(f"tracking, {what}", shares, "%", 2, f"CPU-seconds of a run: {parts}")


def wall_times(*arguments: object, times: int) -> list[float]:
    """Return the wall times of a whole process; a first one, with cold caches, is not counted."""
    taken = []
    for _ in range(times + 1):
        start = time.perf_counter()
        subprocess.run([GAN_BENCH, *map(str, arguments)], check=True, stdout=subprocess.DEVNULL)
        taken.append(time.perf_counter() - start)
    return taken[1:]


def print_growth(source: str, root: Path) -> None:
    """Print by how many MB MNIST, all its pages touched, makes this process grow."""
    import psutil
    import torch

    from gan_bench import data
    from gan_bench.registry import DATASETS

    mnist = DATASETS.parse({"name": "mnist", "image_size": 32})
    data.prepare(mnist, Path(source), root)
    torch.zeros(1000)[::512].max()
    before = psutil.Process().memory_info().rss
    loaded = data.load(mnist, Path(source), root, "cpu")
    for split in (loaded.train, loaded.test):
        for tensor in (split.images, split.labels):
            assert tensor is not None
            tensor.reshape(-1)[::512].max()  # reads every page
    print((psutil.Process().memory_info().rss - before) / 1e6)


def main() -> None:
    """Measure all, print the table, and what is missed."""
    load, mnist = os.getloadavg()[0], os.environ.get("GAN_BENCH_DATA", "")
    print(f"{os.cpu_count()} cores, load average {load:.2f}" + (
        ": something else is running, and wall times come out too long" if load > 0.5 else ""))
    with tempfile.TemporaryDirectory() as name:
        folder, small = Path(name), ("--set", "seeds=[0]")
        (folder / "grid.yaml").write_text(GRID)
        lines = [Line("gan-bench --help", wall_times("--help", times=7), "s", 0.5),
                 Line("plan of 10,000 runs, 1,000 variants",
                      wall_times("plan", folder / "grid.yaml", times=5), "s", 3)]
        if Path(mnist, "MNIST").exists():
            probe = [sys.executable, __file__, "memory", mnist, name]
            grown = [float(subprocess.check_output(probe)) for _ in range(4)]
            # The first one decoded the data, which leaves memory behind.
            lines.append(Line("MNIST at 32 pixels, in a run's memory", grown[1:], "MB", 300))
        else:
            print("memory: skipped, GAN_BENCH_DATA names no folder with MNIST")
        means = [tracked(folder / f"{i}", *small)[0] for i in range(3)]
        again = wall_times("run", DEMO, "--root", folder / "0", *small, times=3)
        lines += [tracking("one seed of the demo, 4 runs", means),
                  Line("one seed of the demo, again when finished", again, "s", 10)]
        if "--full" in sys.argv:
            mean, wall = tracked(folder / "full")
            again = wall_times("run", DEMO, "--root", folder / "full", times=3)
            lines += [tracking("the whole demo, 20 runs", [mean]),
                      Line("the whole demo, from an empty root", [wall], "s", 300),
                      Line("the whole demo, again when finished", again, "s", 10)]
    rows = [("what", "median (range)", "target", ""), *(line.cells() for line in lines)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)))
    print(*(f"{line.what}: {line.detail}" for line in lines if line.detail), sep="\n")
    missed = [f"- {line.what}: {max(line.values):.2f} {line.unit} at worst; {line.detail}"
              for line in lines if "MISSED" in line.cells()]
    print("missed:", *(missed or ["nothing"]), sep="\n" if missed else " ")


if __name__ == "__mp_main__" and COSTS in os.environ:
    count_in_worker()  # in a process that the fork server of `launch` made
elif __name__ == "__main__" and COSTS in os.environ:
    launch()
elif __name__ == "__main__" and sys.argv[1:2] == ["memory"]:
    print_growth(sys.argv[2], Path(sys.argv[3]))
elif __name__ == "__main__":
    main()
