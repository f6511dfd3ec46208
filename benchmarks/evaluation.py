"""How fast the metrics on features are, beside torch-fidelity's own functions on the same features.

    python benchmarks/evaluation.py                the times: about ten minutes on two cores
    python benchmarks/evaluation.py --memory       the peak memory at 50,000 x 2048: much longer

Ours and theirs take turns, and each ratio is that of the medians. The last column says what it is
held to. Exits with status 1 where something falls short.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import sys
import time
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
from torch_fidelity.metric_kid import kid_features_to_metric
from torch_fidelity.metric_prc import prc_features_to_metric

from gan_bench.features import Features
from gan_bench.metrics import frechet, kernel, neighbours, score

NEIGHBOURS = (neighbours.precision, neighbours.recall, neighbours.density, neighbours.coverage)
KERNEL = (kernel.kernel_distance, kernel.kernel_distance_of_subsets,
          kernel.kernel_distance_spread)
FRECHET = (frechet.frechet_distance, frechet.frechet_distance_norm, frechet.frechet_distance_inf)
MAX_CPU_SECONDS, MAX_GIGABYTES = 8.0, 3.0


def main() -> None:
    """Measure, print, and tell by the exit status whether all of it held."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=10_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--memory", action="store_true", help="the peak memory, and nothing else")
    options = parser.parse_args()
    if options.memory:
        held = [memory()]
    else:
        held = [frechet_ratio(options.samples, options.repeats),
                pairs_ratio(options.samples, options.repeats), whole_set(options.samples)]
    sys.exit(not all(held))


def features_like_inceptions(samples: int, width: int, seed: int) -> NDArray[np.float64]:
    """Correlated, non-negative, of a falling spectrum, as the features of a network are."""
    draws = np.random.default_rng(seed)
    values = draws.standard_normal((samples, width), dtype=np.float32)
    values *= np.linspace(1, 0.05, width, dtype=np.float32)
    mixing = np.random.default_rng(0).standard_normal((width, width), dtype=np.float32)
    return np.maximum(values @ mixing / np.sqrt(width), 0).astype(np.float64)


def frechet_ratio(samples: int, repeats: int, width: int = 2048) -> bool:
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


def pairs_ratio(samples: int, repeats: int, width: int = 2048) -> bool:
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
                   ours, theirs)


def compare(what: str, target: float | None, repeats: int, ours: Callable[[], object],
            theirs: Callable[[], object]) -> bool:
    """Time the two in turn, print the ratio, and return whether it reaches the target."""
    times: tuple[list[float], list[float]] = [], []
    for _ in range(repeats):
        for taken, work in zip(times, (ours, theirs), strict=True):
            start = time.perf_counter()
            work()
            taken.append(time.perf_counter() - start)
    one, two = (statistics.median(taken) for taken in times)
    print(f"{what}: {one:.2f} s, torch-fidelity {two:.2f} s: {two / one:.1f} times as fast"
          + (f" (at least {target})" if target else ""), flush=True)
    return not target or two / one >= target


def whole_set(samples: int, width: int = 512) -> bool:
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
        score.classifier_score(None, two)
        taken = time.process_time() - start
    torch.set_num_threads(threads)
    print(f"all metrics on features, {samples:,} x {width}: {taken:.1f} CPU-seconds "
          f"(at most {MAX_CPU_SECONDS})", flush=True)
    return taken <= MAX_CPU_SECONDS


def memory(samples: int = 50_000, width: int = 2048) -> bool:
    """Every distance at the size of the published tables, the features themselves included."""
    one, two = (Features(features_like_memory(samples, width, seed), None, "x")
                for seed in (1, 2))
    for metric in (*FRECHET, *KERNEL, *NEIGHBOURS):
        start = time.perf_counter()
        value = metric(one, two)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(f"{metric.__name__}: {value:.6g}, {time.perf_counter() - start:.0f} s, peak so far "
              f"{peak:.2f} GiB", flush=True)
    print(f"peak memory, {samples:,} x {width}: {peak:.2f} GiB (under {MAX_GIGABYTES})")
    return peak < MAX_GIGABYTES


def features_like_memory(samples: int, width: int, seed: int) -> NDArray[np.float64]:
    """As above, made in parts, so that making them is not what sets the peak."""
    values = np.empty((samples, width))
    for start in range(0, samples, 5000):
        part = values[start : start + 5000]
        part[:] = features_like_inceptions(len(part), width, seed * 1000 + start)
    return values


if __name__ == "__main__":
    main()
