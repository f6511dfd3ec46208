"""How a score depends on the number of samples, and its value for infinitely many samples.

    python analysis/fid_bias.py EXPERIMENT [TRACKING_URI] [--score fd_classifier] [--run ID]

A Fréchet distance of N samples is too large by about a constant over N. The constant differs
between generators, so even at equal N two generators may be ranked in the wrong order. Chong and
Forsyth (2020, "Effectively unbiased FID and Inception Score and where to find them") fit a line
over 1/N; its value at 1/N = 0 is the score of infinitely many samples. Here every point has
separate samples and the weight N, because its variance falls with 1/N. The script needs the run's
weights in --root; by default the run is the baseline's first finished run.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from gan_bench import METRICS, UserError, draw, load_generator, load_results
from gan_bench.compare.stats.summary import t_quantile
from gan_bench.components import data as datasets
from gan_bench.components.value_range import to_uint8
from gan_bench.evaluation.evaluator import prepare_metrics
from gan_bench.evaluation.scorer import Scorer
from gan_bench.journal.layout import Workspace
from gan_bench.report.figures import save

REPEATS = 3  # measurements of each number of samples


def measure(folder: Path, score: str, counts: list[int], data_root: Path, cache: Path,
            ) -> pd.DataFrame:
    """Return columns `n` and `score`, a row for each measurement."""
    spec, generator = load_generator(folder)
    data = datasets.load(spec.dataset, data_root, cache, "cpu", facts=spec.data)
    prepare_metrics([score], data, cache, say=lambda line: print(line, file=sys.stderr))
    rows = []
    for n in counts:
        scorer = Scorer([METRICS[score]], n, spec.dataset, data, cache)
        for _ in range(REPEATS):
            samples = draw(spec, generator, n, seed=len(rows))
            made = to_uint8(samples) if samples.dim() == 4 else samples
            rows.append({"n": n, "score": scorer(made)[score]})
    return pd.DataFrame(rows)


def fit(points: pd.DataFrame) -> tuple[float, float, float]:
    """Return slope over 1/N, score at 1/N = 0, and how far its 95% interval reaches."""
    line, covariance = np.polyfit(1 / points["n"], points["score"], 1, w=points["n"]**0.5, cov=True)
    return *line, t_quantile(len(points) - 2) * covariance[1, 1]**0.5


def plot(points: pd.DataFrame, slope: float, limit: float, half: float, title: str) -> Figure:
    """Return a figure of the points over 1/N, the line, and its end with a 95% interval."""
    figure = Figure(figsize=(6, 3.8), layout="constrained")
    axes = figure.subplots()
    axes.plot(1 / points["n"], points["score"], "o", alpha=0.6, label="measured")
    end = 1 / points["n"].min()
    axes.plot([0, end], [limit, limit + slope * end], color="C1", label="line over 1/N")
    axes.errorbar([0], [limit], [half], fmt="s", color="C1", capsize=4, label="extrapolated, 95%")
    counts = points["n"].unique()
    axes.set_xticks([0, *1 / counts], ["∞", *counts], rotation=45)
    axes.set(title=title, xlabel="samples N, evenly in 1/N")
    axes.legend()
    return figure


def main() -> None:
    """Print the scores by N and the extrapolation; write the figure."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("experiment")
    parser.add_argument("tracking_uri", nargs="?")
    parser.add_argument("--score", default="fd_classifier", help="[default: %(default)s]")
    parser.add_argument("--run", default="", help="how its id begins")
    parser.add_argument("--counts", default="1000,1400,2000,3000,5000,10000")
    parser.add_argument("--root", type=Path, default=Path("mlruns"))
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--out", type=Path, help="figure [default: fid_bias-EXPERIMENT.svg]")
    options = parser.parse_args()
    counts = [int(n) if n.strip().isdecimal() else 0 for n in options.counts.split(",")]
    if len({*counts}) < 2 or min(counts) < 2:
        raise UserError(f"a line takes two --counts, as in 1000,5000, not {options.counts!r}")
    facts = METRICS[options.score].facts
    if facts.extractor == "discriminator" or facts.asked:
        raise UserError(f"{options.score} asks {'for labels' if facts.asked else 'D'}: give "
                        f"a --score of samples alone")
    results = load_results(options.experiment, options.tracking_uri, options.root)
    runs = results.runs[results.runs["status"] == "FINISHED"]
    runs = runs[runs.index.str.startswith(options.run) if options.run else
                runs["variant"] == results.baseline]
    if runs.empty:
        raise UserError(f"no finished run of {results.experiment} is "
                        f"{options.run or results.baseline}: name another with --run")
    run, variant, seed = runs.index[0], runs["variant"].iloc[0], runs["seed"].iloc[0]
    points = measure(options.root / "runs" / results.experiment / run, options.score, counts,
                     options.data, Workspace(options.root).cache)
    slope, limit, half = fit(points)
    title = f"{options.score} of {variant}, seed {seed}"
    print(title, points.groupby("n")["score"].agg(["mean", "min", "max"]).to_string(), sep="\n")
    print(f"N → ∞: {limit:.5g} [{limit - half:.5g}, {limit + half:.5g}]; at N: {slope:+.5g} / N")
    out = options.out or Path(f"fid_bias-{results.experiment}.svg")
    save(plot(points, slope, limit, half, title), out)
    print(*results.notes, f"figure: {out}", sep="\n")


if __name__ == "__main__":
    try:
        main()
    except (UserError, OSError) as error:
        print(error, file=sys.stderr)
        sys.exit(2)
