"""Time to quality: how many steps, and seconds, until a run's score passes a threshold.

    python analysis/convergence.py EXPERIMENT [TRACKING_URI] [--score NAME] [--threshold 20]

By default the threshold is the median final score of the baseline's runs, so that half of them
reach it. A run that does not reach it is censored, not left out: it takes longer than it was
observed. A run that diverged never reaches it. The script prints Kaplan–Meier medians with 95%
intervals, and means up to the end of the longest run. `evaluate.every` sets the resolution of the
times, because a run is measured only at these steps.
"""

from __future__ import annotations

import argparse
import math
import sys

import pandas as pd

from gan_bench import Results, UserError, load_results
from gan_bench.compare.stats.summary import summarise_scores
from gan_bench.compare.stats.time_to_quality import first_passing, time_to_quality
from gan_bench.evaluation.score_directions import directions
from gan_bench.journal.scores.score_names import DURING, score_name
from gan_bench.registry import Better, nearest


def curves(results: Results, score: str) -> list[tuple[pd.Series, pd.DataFrame]]:
    """Return each run that finished or diverged, with its measurements during training."""
    runs = results.runs[results.runs["status"].isin(["FINISHED", "DIVERGED"])]
    rows = results.history[results.history["metric"] == score_name(DURING, score)]
    return [(run, rows[rows["run"] == name].sort_values("step")) for name, run in runs.iterrows()]


def usual(found: list[tuple[pd.Series, pd.DataFrame]], baseline: str, better: Better) -> float:
    """Return the median of the baseline's last measurements; diverged runs rank last."""
    own = [(run, rows) for run, rows in found if run["variant"] == baseline and len(rows)]
    return summarise_scores({run["seed"]: rows["value"].iloc[-1] if run["status"] == "FINISHED" else
                     math.nan for run, rows in own}, better).median


def times(found: list[tuple[pd.Series, pd.DataFrame]], unit: str, threshold: float, better: Better,
          ) -> pd.DataFrame:
    """Return when each variant's runs reach the threshold, in `step` or `seconds`."""
    lines = {}
    for variant in dict.fromkeys(run["variant"] for run, _ in found):
        own = [(run, rows) for run, rows in found if run["variant"] == variant]
        # All were given the same steps; censored each after seconds of its own, a run on a quick
        # machine that never gets there would drop out early.
        longest = max(rows[unit].max() for _, rows in own)
        one = time_to_quality(
            [first_passing(rows[unit], rows["value"], threshold, better) for _, rows in own],
            [math.inf if run["status"] == "DIVERGED" else longest for run, _ in own])
        lines[variant] = {"runs": one.n, "reached": one.reached, "median": one.median.value,
                          "low": one.median.low, "high": one.median.high, "mean": one.mean,
                          "up to": one.horizon, "": one.median.note}
    return pd.DataFrame.from_dict(lines, orient="index")


def main() -> None:
    """Print the threshold, and a table in steps and in seconds."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("experiment")
    parser.add_argument("tracking_uri", nargs="?")
    parser.add_argument("--score", help="[default: a Fréchet distance, if there is one]")
    parser.add_argument("--threshold", type=float, help="[default: the baseline's median]")
    options = parser.parse_args()
    results = load_results(options.experiment, options.tracking_uri)
    measured = {*results.history["metric"]}
    ways = {name: way for name, way in directions().items()
            if way and score_name(DURING, name) in measured}
    score = options.score or min(ways, key=lambda name: not name.startswith("f"), default="")
    if score not in ways:
        raise UserError(f"during training no run has a score {score!r} with a better direction"
                        + ("; " + nearest(score, list(ways)) if ways else ""))
    found = curves(results, score)
    threshold = options.threshold
    if threshold is None:
        threshold = usual(found, results.baseline, ways[score])
    if not math.isfinite(threshold):
        raise UserError(f"half of the runs of {results.baseline} have no {score}: there is no "
                        f"usual one; give a --threshold")
    print(f"{score} {'≤' if ways[score] == 'lower' else '≥'} {threshold:.6g}")
    for unit, title in (("step", "steps"), ("seconds", "seconds since the run's start")):
        table = times(found, unit, threshold, ways[score])
        print(f"\n{title}", table.to_string(float_format="{:.4g}".format, na_rep="–"), sep="\n")
    if other := len(results.runs) - len(found):
        print(f"left out: {other} runs that are not finished, or failed")
    print(*results.notes, sep="\n")


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
