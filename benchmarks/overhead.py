"""The cost of gan-bench besides the training itself, compared with its targets: `make bench`.

    python benchmarks/overhead.py --quick   whether it works, and no measurement

The processes of real runs of the demonstration count the CPU-seconds of tracking. A comparison of
runs with and without tracking would not show them: two trainings differ by more.
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
import timeit
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from targets import QUICK, row, say_load, say_rows

DEMO, DEMO_RUNS = Path(__file__).resolve().parents[1] / "experiments" / "dcgan_vs_mlp.yaml", 20
GAN_BENCH = str(Path(sys.executable).with_name("gan-bench"))
# By the profiles of `gan-bench run --profile`, on two cores without AMX.
WHY_SO_LONG = ("nearly all of it is steps on batches of 64, of which products and convolutions, "
               "at 60 to 90 % of the speed of large products, take 7 in 10 parts, and the launch "
               "of some 600 small operations 2")
QUICK_DEMO = ("--set", "seeds=[0]", "--set", "base.steps=4", "--set", "base.log_every=2",
              "--set", "evaluate.samples=20")
COSTS = "OVERHEAD_COSTS"  # names the folder where the processes of a measured run leave theirs
IN_WORKER = ("journal", "pictures", "observing")
TRACKING = (*IN_WORKER, "mirroring", "starting")
GRID = f"""\
name: grid
dataset: {{name: digits, image_size: 16}}
seeds: {[*range(10)]}
base: {{model: mlp, steps: 1000}}
matrix: {{batch_size: [16, 32, 64, 128, 256], loss: [saturating, non_saturating],
  g_optimizer.lr: {[i / 1e5 for i in range(1, 3 if QUICK else 101)]}}}
"""


def cpu() -> float:
    """CPU-seconds of this process and of the children that it has waited for (git)."""
    both = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(used.ru_utime + used.ru_stime for used in both)


def count_in_worker(put: Callable[[Any, str, Any], None] = setattr) -> None:
    """Have a run's process count its CPU time, and how much of it goes into tracking.

    Args:
        put: Gives the program's functions their replacements.
    """
    from gan_bench.evaluation import evaluator
    from gan_bench.journal import writing
    from gan_bench.training import loop, run, single_run
    from gan_bench.training.step import engine

    spent: dict[str, float] = defaultdict(float)
    steps: dict[bool, list[float]] = {False: [], True: []}  # by whether the step is observed
    run_together, step = run.run_together, engine.Engine.step

    def timed(owner: Any, name: str, part: str) -> None:
        original = getattr(owner, name)

        def wrapper(*args: Any, **kwargs: Any) -> Any:
            start = cpu()
            result = original(*args, **kwargs)
            spent[part] += cpu() - start
            return result

        put(owner, name, wrapper)

    def timed_step(self: Any, number: int, batch: Any, observe: bool = False) -> Any:
        start = cpu()
        seen = step(self, number, batch, observe)
        steps[observe].append(cpu() - start)
        return seen

    def counted(specs: Any, *args: Any, **kwargs: Any) -> None:
        run_together(specs, *args, **kwargs)
        longer = statistics.median(steps[True]) - statistics.median(steps[False])
        spent["observing"] = longer * len(steps[True])
        spent["of these steps"] = sum(steps[False]) + sum(steps[True]) - spent["observing"]
        spent["all"] = cpu()
        # On the CPU, where this is measured, a process has one run.
        Path(os.environ[COSTS], f"run-{specs[0].id}.json").write_text(json.dumps(spent))

    for name in ("start", "protocol", "metrics", "system", "image", "end"):
        timed(writing.Journal, name, "journal")
    timed(single_run, "facts", "journal")
    timed(loop._Clock, "lap", "journal")
    timed(engine.Engine, "sample", "pictures")
    timed(loop, "sample_picture", "pictures")
    timed(evaluator.Evaluator, "__call__", "and measuring")
    put(engine.Engine, "step", timed_step)
    put(run, "run_together", counted)


def launch() -> None:
    """Be `gan-bench`, and leave the launcher's CPU-seconds: before any training, and in all."""
    from gan_bench.cli import app
    from gan_bench.launcher import launch

    counts, work_on = [], launch.work_on

    def noted(*args: Any, **kwargs: Any) -> str:
        counts.append(cpu())
        return work_on(*args, **kwargs)

    launch.work_on = noted
    atexit.register(lambda: Path(os.environ[COSTS], "launcher.json").write_text(
        json.dumps([*counts, cpu()])))
    app.main()


def tracked(root: Path, *overrides: str) -> tuple[dict[str, float], float]:
    """Run the demonstration in a fresh root; return the CPU-seconds of a run, and the wall time.

    All that the launcher does counts as tracking. What it does before any training ("starting":
    imports, a new database) is shared by the 20 runs of the whole demonstration.
    """
    root.mkdir()
    environment = {**os.environ, COSTS: str(root)}
    command = [sys.executable, __file__, "run", DEMO, "--root", root, *overrides]
    wall = timeit.timeit(lambda: subprocess.check_output(command, env=environment), number=1)
    before, total = json.loads((root / "launcher.json").read_text())
    runs = [json.loads(file.read_text()) for file in root.glob("run-*.json")]
    mean = {part: statistics.mean(run[part] for run in runs) for part in runs[0]}
    mean |= {"starting": before / DEMO_RUNS, "mirroring": (total - before) / len(runs)}
    mean["others"] = mean["all"] - sum(mean[part] for part in IN_WORKER)
    return mean, wall


def share(what: str, means: list[dict[str, float]]) -> list[str]:
    """Return the line about tracking's share of all the other CPU time of the runs."""
    shares = [100 * sum(mean[part] for part in TRACKING) / mean["others"] for mean in means]
    parts = ", ".join(f"{part} {statistics.median(mean[part] for mean in means):.3f}"
                      for part in (*TRACKING, "others", "of these steps", "and measuring"))
    print(f"{what}, CPU-seconds of a run: {parts}", flush=True)
    return row(f"{what}: tracking", shares, "%", 2, f"CPU-seconds of a run: {parts}")


def wall_times(*arguments: object, times: int) -> list[float]:
    """Return the wall times of a whole process; a first one, with cold caches, is not counted."""
    command = [GAN_BENCH, *map(str, arguments)]
    repeats = 1 if QUICK else times + 1
    return timeit.repeat(lambda: subprocess.check_output(command), number=1,
                         repeat=repeats)[-times:]


def print_growth(source: str, root: Path) -> None:
    """Print by how many MB MNIST, all its pages touched, makes this process grow."""
    import psutil
    import torch

    from gan_bench.components import data
    from gan_bench.registry import DATASETS

    part = DATASETS.parse({"name": "mnist", "image_size": 32})
    data.prepare_data(part, Path(source), root)
    torch.zeros(1000)[::512].max()
    before = psutil.Process().memory_info().rss
    mnist = data.load(part, Path(source), root, "cpu")
    for tensor in (mnist.train.images, mnist.train.labels, mnist.test.images, mnist.test.labels):
        tensor.reshape(-1)[::512].max()  # reads every page
    print((psutil.Process().memory_info().rss - before) / 1e6)


def main() -> None:
    """Measure all, print the table, and what is missed."""
    load, source = say_load(), os.environ.get("GAN_BENCH_DATA", "")
    os.environ.pop("MLFLOW_TRACKING_URI", None)  # what is measured is the database in the root
    studies: dict[str, tuple[tuple[str, ...], int]] = {
        "one seed of the demo": (("--set", "seeds=[0]"), 3), "the whole demo": ((), 1)}
    if QUICK:
        studies = {"the demo in short": (QUICK_DEMO, 1)}
    with tempfile.TemporaryDirectory() as name:
        folder, grid = Path(name), Path(name, "grid.yaml")
        grid.write_text(GRID)
        rows = [row("gan-bench --help", wall_times("--help", times=7), "s", 0.5),
                row("plan of 10,000 runs (1,000 × 10)", wall_times("plan", grid, times=5), "s", 3)]
        if Path(source, "MNIST").exists():
            probe = [sys.executable, __file__, "memory", source, name]
            # The first decodes the data, which leaves memory behind.
            grown = [float(subprocess.check_output(probe)) for _ in range(1 if QUICK else 4)]
            rows.append(row("MNIST at 32 pixels, in a run's memory", grown[-3:], "MB", 300))
        else:
            print("memory: skipped, GAN_BENCH_DATA names no folder with MNIST", flush=True)
        for what, (overrides, times) in list(studies.items())[: 2 if "--full" in sys.argv else 1]:
            ran = [tracked(folder / f"{what} {i}", *overrides) for i in range(times)]
            rows.append(share(what, [mean for mean, _ in ran]))
            if not overrides:
                rows.append(row(f"{what}: wall time", [wall for _, wall in ran], "s", 180,
                                WHY_SO_LONG))
            again = wall_times("run", DEMO, "--root", folder / f"{what} 0", *overrides, times=3)
            rows.append(row(f"{what}: again when finished", again, "s", 10))
    say_rows(rows, (40, 32), load)


if COSTS in os.environ:  # the launcher of a measured run, or a process that its fork server made
    {"__main__": launch, "__mp_main__": count_in_worker}[__name__]()
elif __name__ == "__main__" and sys.argv[1:2] == ["memory"]:
    print_growth(sys.argv[2], Path(sys.argv[3]))
elif __name__ == "__main__":
    main()
