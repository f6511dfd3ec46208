"""The speed of the metrics on features, compared with torch-fidelity on the same features.

    python benchmarks/evaluation.py                the times: five minutes on two cores
    python benchmarks/evaluation.py --memory       the peak memory at 50,000 x 2048: fifteen
    python benchmarks/evaluation.py --during       measuring in the demonstration's training: two
    python benchmarks/evaluation.py --quick        whether it works, and no measurement

Ours and theirs alternate, and each ratio is that of the medians. Targets are in brackets, and the
last lines name the missed targets.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from targets import UNKNOWN, say_missed
from threadpoolctl import threadpool_limits
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
from torch_fidelity.metric_kid import kid_features_to_metric
from torch_fidelity.metric_prc import prc_features_to_metric

from gan_bench.config.experiment import load_experiment
from gan_bench.evaluation.evaluator import Evaluator
from gan_bench.evaluation.features.base import Features
from gan_bench.evaluation.metrics import frechet, inception_score, kernel, precision_recall
from gan_bench.training import run
from gan_bench.training.step.engine import Engine

NEIGHBOURS = (precision_recall.precision, precision_recall.recall, precision_recall.density,
              precision_recall.coverage)
KERNEL = (kernel.kernel_distance, kernel.kernel_distance_of_subsets,
          kernel.kernel_distance_spread)
FRECHET = (frechet.frechet_distance, frechet.frechet_distance_norm, frechet.frechet_distance_inf)
MAX_CPU_SECONDS, MAX_GIGABYTES, MAX_SHARE = 8.0, 3.0, 0.1
DEMO = Path(__file__).resolve().parents[1] / "experiments" / "dcgan_vs_mlp.yaml"


def main() -> None:
    """Measure, print, and say what is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=10_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--memory", action="store_true", help="the peak memory, and nothing else")
    parser.add_argument("--during", action="store_true",
                        help="the share of measuring in training, and nothing else")
    parser.add_argument("--quick", action="store_true",
                        help="few samples and steps: whether it works, and no measurement")
    options = parser.parse_args()
    if options.memory:
        missed = memory(1_200, 64) if options.quick else memory()
    elif options.during:
        missed = during(20, ["base.steps=4"]) if options.quick else during()
    elif options.quick:
        missed = [*frechet_ratio(1_200, 1, 64), *pairs_ratio(1_200, 1, 64),
                  *whole_set(1_200, 64)]
    else:
        missed = [*frechet_ratio(options.samples, options.repeats),
                  *pairs_ratio(options.samples, options.repeats), *whole_set(options.samples)]
    say_missed(missed)


def features_like_inceptions(samples: int, width: int, seed: int) -> NDArray[np.float64]:
    """Correlated, non-negative, of a falling spectrum, as the features of a network are."""
    draws = np.random.default_rng(seed)
    values = draws.standard_normal((samples, width), dtype=np.float32)
    values *= np.linspace(1, 0.05, width, dtype=np.float32)
    mixing = np.random.default_rng(0).standard_normal((width, width), dtype=np.float32)
    return np.maximum(values @ mixing / np.sqrt(width), 0).astype(np.float64)


def frechet_ratio(samples: int, repeats: int, width: int = 2048) -> list[str]:
    """Fréchet distance from features, the reference's Gaussian and statistics at hand."""
    real, fake = (features_like_inceptions(samples, width, seed) for seed in (1, 2))
    reference = Features(real, None, "x")
    assert len(reference.gaussian.mean) == width
    known, other = (fid_features_to_statistics(torch.from_numpy(v)) for v in (real, fake))
    compare(f"Fréchet from features, {samples:,} x {width}", None, repeats,
            lambda: frechet.frechet_distance(reference, Features(fake, None, "x")),
            lambda: fid_statistics_to_metric(
                known, fid_features_to_statistics(torch.from_numpy(fake)), verbose=False))
    return compare(
        f"Fréchet from means and covariances, {width}", 3.0, repeats,
        lambda: frechet.distance_between(reference.gaussian, other["mu"], other["sigma"]),
        lambda: fid_statistics_to_metric(known, other, verbose=False))


def pairs_ratio(samples: int, repeats: int, width: int = 2048) -> list[str]:
    """KID with its subsets, P/R and D/C, nothing at hand; theirs has no D/C, and KID on subsets."""
    real, fake = (features_like_inceptions(samples, width, seed) for seed in (1, 2))

    def ours() -> None:
        one, two = Features(real, None, "x"), Features(fake, None, "x")
        for metric in (*KERNEL, *NEIGHBOURS):
            metric(one, two)

    def theirs() -> None:
        one, two = torch.from_numpy(real), torch.from_numpy(fake)
        kid_features_to_metric(two, one, kid_subsets=100, kid_subset_size=1000, verbose=False)
        prc_features_to_metric(two, one, prc_neighborhood=3, verbose=False)

    return compare(f"KID + P/R + D/C against KID + P/R, {samples:,} x {width}", 2.5, repeats,
                   ours, theirs, "of our 18.4 CPU-seconds at 10,000 x 2048, 16 are products of "
                   "matrices at the speed that the processor has")


def compare(what: str, target: float | None, repeats: int, ours: Callable[[], object],
            theirs: Callable[[], object], why: str = UNKNOWN) -> list[str]:
    """Time the two in turn and print the ratio; return that it misses the target, and why."""
    times: tuple[list[float], list[float]] = [], []
    cpu: tuple[list[float], list[float]] = [], []
    for _ in range(repeats):
        for i, work in enumerate((ours, theirs)):
            start = time.perf_counter(), time.process_time()
            work()
            times[i].append(time.perf_counter() - start[0])
            cpu[i].append(time.process_time() - start[1])
    one, two = map(statistics.median, times)
    print(f"{what}: {one:.2f} s, torch-fidelity {two:.2f} s: {two / one:.1f} times as fast"
          + (f" (at least {target})" if target else "")
          + "; CPU-seconds {:.1f} and {:.1f}".format(*map(statistics.median, cpu)), flush=True)
    return short(what, f"{two / one:.2f} times as fast", f"at least {target}", why,
                 target is None or two / one >= target)


def short(what: str, found: str, target: str, why: str, met: bool) -> list[str]:
    """Return the line about a target that is missed, or none."""
    return [] if met else [f"{what}: {found}, target {target}; {why}"]


def whole_set(samples: int, width: int = 512) -> list[str]:
    """Every metric on features at the embedded classifier's width, in seconds of CPU time.

    In one thread, as a run measures: threads that wait for each other would count as work.
    """
    real, fake = (features_like_inceptions(samples, width, seed) for seed in (1, 2))
    logits = np.random.default_rng(3).standard_normal((samples, 10))
    one, two = Features(real, None, "x"), Features(fake, logits, "x")
    assert len(one.gaussian.mean) == width
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with threadpool_limits(1, user_api="blas"):
        start = time.process_time()
        for metric in (*FRECHET, *KERNEL, *NEIGHBOURS):
            metric(one, two)
        inception_score.classifier_score(None, two)
        taken = time.process_time() - start
    torch.set_num_threads(threads)
    what = f"all metrics on features, {samples:,} x {width}"
    print(f"{what}: {taken:.1f} CPU-seconds (at most {MAX_CPU_SECONDS})", flush=True)
    return short(what, f"{taken:.1f} CPU-seconds", f"at most {MAX_CPU_SECONDS}", UNKNOWN,
                 taken <= MAX_CPU_SECONDS)


def memory(samples: int = 50_000, width: int = 2048) -> list[str]:
    """Every distance at the size of the published tables, the features themselves included."""
    one, two = (Features(features_like_memory(samples, width, seed), None, "x")
                for seed in (1, 2))
    for metric in (*FRECHET, *KERNEL, *NEIGHBOURS):
        start = time.perf_counter()
        value = metric(one, two)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
        print(f"{metric.__name__}: {value:.6g}, {time.perf_counter() - start:.0f} s, peak so far "
              f"{peak:.2f} GB", flush=True)
    what = f"peak memory, {samples:,} x {width}"
    print(f"{what}: {peak:.2f} GB (under {MAX_GIGABYTES})")
    return short(what, f"{peak:.2f} GB", f"under {MAX_GIGABYTES}",
                 f"the features alone have {2 * samples * width * 8 / 1e9:.2f}",
                 peak < MAX_GIGABYTES)


def features_like_memory(samples: int, width: int, seed: int) -> NDArray[np.float64]:
    """As above, made in parts, so that making them is not what sets the peak."""
    values = np.empty((samples, width))
    for start in range(0, samples, 5000):
        part = values[start : start + 5000]
        part[:] = features_like_inceptions(len(part), width, seed * 1000 + start)
    return values


def during(samples: int = 5000, overrides: Sequence[str] = ()) -> list[str]:
    """The demonstration, one run of each variant, measured on more samples than it asks for.

    CPU time of the measurements during training, that is without the one after the last step, over
    that of the steps; held to the target are all the runs together.
    """
    steps, measurements = cpu_times(Engine, "step"), cpu_times(Evaluator, "__call__")
    periodic, training = 0.0, 0.0
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        experiment = load_experiment(DEMO, root, ["seeds=[0]", f"evaluate.samples={samples}",
                                                   *overrides])
        run.prepare(experiment, root, root, print)
        for spec in experiment.runs:
            steps.clear()
            measurements.clear()
            run.run_one(spec, root, root)
            *between, last = measurements
            print(f"{spec.variant}: {sum(steps):.1f} CPU-seconds of {len(steps):,} steps, "
                  f"{sum(between):.2f} of {len(between)} measurements on {samples:,} samples, "
                  f"{sum(between) / sum(steps):.1%}; the last one {last:.2f}", flush=True)
            periodic += sum(between)
            training += sum(steps)
    what, found = "measuring during the demonstration's training", periodic / training
    print(f"{what}: {found:.1%} of its time (at most {MAX_SHARE:.0%})")
    return short(what, f"{found:.1%} of its time", f"at most {MAX_SHARE:.0%}",
                 "of 0.5 CPU-seconds, features take 0.22 and samples 0.12 to 0.23; an MLP's steps "
                 "are cheap beside them", found <= MAX_SHARE)


def cpu_times(owner: type, name: str) -> list[float]:
    """Have each call of a method append its CPU-seconds to the list that is returned."""
    taken: list[float] = []
    original = getattr(owner, name)

    def timed(*args: Any, **kwargs: Any) -> Any:
        start = time.process_time()
        result = original(*args, **kwargs)
        taken.append(time.process_time() - start)
        return result

    setattr(owner, name, timed)
    return taken


if __name__ == "__main__":
    main()
