"""How fast a grid trains on two cores, beside the script that a user would otherwise write.

    python benchmarks/step.py           the speed: about ten minutes
    python benchmarks/step.py --long    mlp, 20,000 steps in the faster precision: 12 to 20 minutes
    python benchmarks/step.py --quick   whether it works, and no measurement

naive.py uses both cores and the number of workers that makes it fastest. Ours is what `gan-bench
run` does on two cores: two runs of one thread at once; their steps/s are added. The two alternate
(A B A B) in separate processes, and each ratio compares neighbours in time. GAN_BENCH_DATA names
the folder of MNIST, without which this benchmark measures nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil
import torch
from overhead import cpu
from targets import QUICK, say_missed
from workload import dataset, engine_of, flops_of, matmul_peak, spec_of, timed, trainer

from gan_bench.components import data
from gan_bench.hardware import cpu_has_bfloat16, cpu_name
from gan_bench.launcher import worker

AT_ONCE = 1 if QUICK else 2
NAIVE = Path(__file__).with_name("naive.py")
# Steps: how many are timed, and how many come before.
NAIVE_STEPS = {"mlp": (2, 1) if QUICK else (200, 20), "dcgan_upsample": (10, 2)}
WORKERS = (0,) if QUICK else (0, 1, 2)
TARGETS = {"float32": 3.0, "bfloat16": 10.0}
# What torch's profiler has found, on a processor without AMX.
KNOWN = {
    ("mlp", "float32"): "82 % of a step is products, at the speed that they have here",
    ("mlp", "bfloat16"): "of the rest, casts take 10 % of a step, Adam 5 %",
    ("dcgan_upsample", "bfloat16"): "the backward passes of the two upsampling convolutions take "
    "47 % of a step, at 0.8 and 0.95 of the speed of their forward passes (20 %); batch norm, "
    "LeakyReLU and copies, which are limited by memory bandwidth, 12 %",
}
BUSY = 0.05  # of the machine: where others take more, nothing is held to a target
EARLY, LATE, WINDOW, DRIFT = 1_000, 20_000, 1_000, 3.0
LINE = "{:16}{:10}{:24}{:24}{:24}{:8}{:8}{:>8}"


def naive(model: str, source: str, workers: int, shrink: float) -> float:
    """Return the steps/s of the script, which has all cores."""
    threads = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    environment = {k: v for k, v in os.environ.items() if k not in threads}
    timed_steps, before = NAIVE_STEPS[model]
    said = subprocess.check_output(
        [sys.executable, NAIVE, "--model", model, "--data", source, "--warmup", str(before),
         "--steps", str(max(2, round(timed_steps * shrink))), "--workers", str(workers)],
        env=environment, text=True)
    return float(said.split()[0])


def at_once(*arguments: object) -> list[dict[str, Any]]:
    """Let two single-threaded processes do the same from the same moment; return what they found.
    """
    command = [sys.executable, __file__, "part", *map(str, arguments)]
    variables = {**os.environ, **worker.process_environment(1)}
    variables.pop("PYTHONSAFEPATH", None)  # this script imports those beside it
    parts = [subprocess.Popen(command, env=variables, text=True,
                              stdin=subprocess.PIPE, stdout=subprocess.PIPE)
             for _ in range(AT_ONCE)]
    try:
        for part in parts:
            assert part.stdout is not None
            if part.stdout.readline() != "ready\n":
                raise RuntimeError(f"{' '.join(map(str, arguments[:3]))} failed: see above")
        for part in parts:
            assert part.stdin is not None
            print(file=part.stdin, flush=True)
        found = [json.loads(part.communicate()[0]) for part in parts]
    finally:
        for part in parts:
            part.kill()
            part.wait()
    return found


def wait_for_the_other() -> None:
    """Say that this process is warm, and wait until the others are."""
    print("ready", flush=True)
    sys.stdin.readline()


def part_train(model: str, precision: str, seconds: str, folder: str) -> dict[str, float]:
    """Train in this process: steps/s, and the operations of a step."""
    advance, flops = _prepared(model, precision, Path(folder))
    _, step = timed(advance, 0, float(seconds) / 4)
    wait_for_the_other()
    return {"rate": timed(advance, step, float(seconds))[0], "flops": flops}


def part_long(model: str, precision: str, late: str, folder: str) -> dict[str, list[float]]:
    """Train for long in this process: steps/s and MB in memory, early and late.

    Steps/s are the median of ten stretches, so that what disturbs one of them does not count.
    """
    advance, _ = _prepared(model, precision, Path(folder))
    wait_for_the_other()
    rates, memory, step = [], [], 0
    for begin in (EARLY, int(late)):
        _, step = timed(advance, step, 0, least=begin - step)
        stretches = []
        for _ in range(10):
            rate, step = timed(advance, step, 0, least=WINDOW // 10)
            stretches.append(rate)
        rates.append(statistics.median(stretches))
        memory.append(psutil.Process().memory_info().rss / 1e6)
    return {"rates": rates, "memory": memory}


def part_matmul(precision: str, seconds: str) -> dict[str, float]:
    """Multiply matrices in this process: FLOP/s."""
    torch.set_num_threads(1)
    matmul_peak(precision, "cpu", 0.2, 1024)
    wait_for_the_other()
    return {"peak": matmul_peak(precision, "cpu", float(seconds), 2048)}


def _prepared(model: str, precision: str, folder: Path) -> tuple[Any, int]:
    spec = spec_of(model, precision, "cpu")
    images = data.load(spec.dataset, folder, folder, "cpu", facts=spec.data).train.images
    flops = flops_of(spec, images)
    return trainer(engine_of(spec), spec, images), flops


def spread(values: list[float], unit: str = "") -> str:
    """Return the median and the range."""
    return (f"{statistics.median(values):.2f}{unit}"
            + (f" ({min(values):.2f} to {max(values):.2f})" if len(values) > 1 else ""))


def compare(options: argparse.Namespace, folder: Path, source: str) -> list[str]:
    """Print the table of speeds; return the targets missed, each with how near it is."""
    precisions = [p for p in options.precisions if p in here()]
    peak = {p: sum(found["peak"] for found in at_once("matmul", p, options.seconds / 4))
            for p in precisions}
    print("matrix products of both cores: " + ", ".join(
        f"{p} {peak[p] / 1e9:,.0f} GFLOP/s" for p in precisions))
    print(LINE.format("model", "", "naive, steps/s", "ours, steps/s", "ratio", "target", "",
                      "of peak"), flush=True)
    missed = [f"{p}: this processor has none" for p in options.precisions if p not in here()]
    for model in options.models:
        # The output shows that no other number of workers is faster.
        tried = {n: naive(model, source, n, options.seconds / 24) for n in WORKERS}
        workers = max(tried, key=lambda n: tried[n])
        print(f"{model}: naive with {', '.join(map(str, WORKERS))} workers of its DataLoader: "
              + ", ".join(f"{rate:.2f}" for rate in tried.values()) + " steps/s")
        theirs: list[float] = []
        before = used()
        ours: dict[str, list[float]] = {p: [] for p in precisions}
        flops = {}
        for _ in range(options.repeats):
            theirs.append(naive(model, source, workers, options.seconds / 12))
            for p in precisions:
                found = at_once("train", model, p, options.seconds, folder)
                ours[p].append(sum(one["rate"] for one in found))
                flops[p] = found[0]["flops"]
        for p in precisions:
            ratios = [our / their for our, their in zip(ours[p], theirs, strict=True)]
            share = statistics.median(ours[p]) * flops[p] / peak[p]
            met, others = min(ratios) >= TARGETS[p], others_since(before)
            verdict = "busy" if others > BUSY else "met" if met else "MISSED"
            print(LINE.format(model, p, spread(theirs), spread(ours[p]), spread(ratios),
                              f"≥ {TARGETS[p]:g}", verdict, f"{share:.0%}"), flush=True)
            if verdict == "busy":
                missed.append(f"{model}, {p}: not judged, for other programs took {others:.0%} of "
                              f"the machine; naive's threads wait for each other, and suffer most")
            elif not met:
                limit = peak[p] / flops[p] / statistics.median(theirs)
                missed.append(f"{model}, {p}: {spread(ratios)} times naive; a step has "
                              f"{flops[p] / 1e9:.2f} GFLOP, of which the matrix products of this "
                              f"machine would make {limit:.1f} times naive"
                              + (f"; {KNOWN[model, p]}" if (model, p) in KNOWN else ""))
    return missed


def after_long(late: int, folder: Path) -> list[str]:
    """Print steps/s and memory of a long training; return the targets missed."""
    missed, p = [], here()[-1]
    found = at_once("long", "mlp", p, late, folder)
    early, then = (sum(one["rates"][i] for one in found) for i in (0, 1))
    change, grown = 100 * (then / early - 1), [one["memory"] for one in found]
    memory = max(100 * (after / before - 1) for before, after in grown)
    print(f"mlp, {p}: {early:.2f} steps/s after {EARLY:,} steps, {then:.2f} after {late:,}: "
          f"{change:+.1f} % (within {DRIFT:g} %); memory "
          + ", ".join(f"{before:.0f} to {after:.0f} MB" for before, after in grown)
          + " (flat: within 1 %)", flush=True)
    if abs(change) > DRIFT:
        missed.append(f"mlp, {p}: steps/s changed by {change:+.1f} %")
    if memory > 1:
        missed.append(f"mlp, {p}: memory grew by {memory:.1f} %")
    return missed


def here() -> tuple[str, ...]:
    """The precisions that this processor has."""
    return ("float32", "bfloat16") if cpu_has_bfloat16() else ("float32",)


def used() -> tuple[float, float, float]:
    """Return the time, and the CPU-seconds of the whole machine and of what is done here."""
    times = psutil.cpu_times()
    return time.perf_counter(), sum(times) - times.idle - times.iowait, cpu()


def others_since(before: tuple[float, float, float]) -> float:
    """Return what share of the machine other programs have had since then."""
    wall, whole, own = (now - then for now, then in zip(used(), before, strict=True))
    return max(0.0, whole - own) / (wall * (os.cpu_count() or 1))


def machine() -> str:
    """Name the processor."""
    amx = "amx_bf16" in Path("/proc/cpuinfo").read_text()
    return (f"{cpu_name()} {'with' if amx else 'without'} AMX, "
            f"{len(os.sched_getaffinity(0))} cores, torch {torch.__version__}, "
            f"load average {os.getloadavg()[0]:.2f}")


def main() -> None:
    """Measure, print the table, and what is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", choices=NAIVE_STEPS, default=list(NAIVE_STEPS))
    parser.add_argument("--precisions", nargs="+", choices=TARGETS, default=list(TARGETS))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=12, help="of each measurement, about")
    parser.add_argument("--long", action="store_true", help="long training, and nothing else")
    parser.add_argument("--late", type=int, default=LATE, help="the steps of a long training")
    parser.add_argument("--quick", action="store_true",
                        help="few steps of one model: whether it works, and no measurement")
    options = parser.parse_args()
    if options.quick:
        options.models, options.precisions, options.repeats = ["mlp"], ["float32"], 1
        options.seconds, options.late = 0.2, 20
    source = os.environ.get("GAN_BENCH_DATA", "")
    if not Path(source, "MNIST").exists():
        say_missed(["skipped: GAN_BENCH_DATA names no folder with MNIST"])
        return
    print(machine())
    with tempfile.TemporaryDirectory() as name:
        data.prepare_data(dataset(), Path(source), Path(name))
        missed = (after_long(options.late, Path(name)) if options.long else
                  compare(options, Path(name), source))
    say_missed(missed)


if __name__ == "__main__":
    if sys.argv[1:2] == ["part"]:
        part: Any = {"train": part_train, "long": part_long, "matmul": part_matmul}[sys.argv[2]]
        print(json.dumps(part(*sys.argv[3:])))
    else:
        main()
