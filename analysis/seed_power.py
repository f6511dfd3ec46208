"""The smallest difference that a number of seeds detects, and the sources of the scatter.

    python analysis/seed_power.py EXPERIMENT [TRACKING_URI] [--seeds 3,5,10,20,50]

For every score: the difference from the baseline that a two-sided t-test detects with 80% power, at
Holm's strictest level, given the scatter so far; in units of the score, and as a share of the
baseline's mean. Then, if runs were measured on several sets of latents (`latent_sets`), the scatter
from the training seed and from the samples: more seeds reduce the first, more samples the second.
"""

from __future__ import annotations

import argparse
import sys

import pandas as pd

from gan_bench import Results, UserError, load_results
from gan_bench.compare.rows import final_scores
from gan_bench.compare.seeds import needs, strictest
from gan_bench.compare.stats.noise import measure_noise
from gan_bench.compare.stats.power import detectable
from gan_bench.compare.stats.summary import mean_of, survivors
from gan_bench.config.declared import Amount
from gan_bench.journal.scores.score_names import AGAIN


def differences(results: Results, seeds: list[int]) -> pd.DataFrame:
    """Return for every score and variant what each number of seeds finds, and its share in %."""
    declared, runs = results.declared, results.ended()
    effects = {n: detectable(n, strictest(declared), paired=declared.paired) for n in seeds}
    lines = []
    for one in needs(declared, runs, Amount(0.05, relative=True)):
        baseline = final_scores(runs, one.score, [one.against])[one.against]
        centre = abs(mean_of(survivors(baseline)).value)
        lines.append({"score": one.score, "variant": one.variant, "sd": one.sd} | {
            f"n = {n}": f"{effect * one.sd:.3g} ({effect * one.sd / centre:.0%})"
            for n, effect in effects.items() if one.sd > 0 and centre > 0} | {"": one.note})
    return pd.DataFrame(lines).set_index(["score", "variant"])


def sources(results: Results) -> pd.DataFrame:
    """Return the two standard deviations of every score and variant; no lines if not measured."""
    finished = results.runs[results.runs["status"] == "FINISHED"]
    again = results.history[results.history["metric"].str.startswith(AGAIN)]
    names = again["metric"].astype(str).str.split("/", n=2).str[2]
    lines = []
    for score, rows in again.groupby(names):
        for variant, runs in finished.groupby("variant", observed=True):
            sets = {row["seed"]: [row[f"score.{score}"], *rows["value"][rows["run"] == run]]
                    for run, row in runs.iterrows()}
            one = measure_noise(sets)
            lines.append({"score": score, "variant": variant, "runs": one.runs,
                          "sets": max(map(len, sets.values())), "seed sd": one.seed,
                          "sampling sd": one.sampling, "": one.note})
    return pd.DataFrame(lines)


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("experiment")
    parser.add_argument("tracking_uri", nargs="?")
    parser.add_argument("--seeds", default="3,5,10,20,50", help="[default: %(default)s]")
    options = parser.parse_args()
    seeds = [int(n) if n.strip().isdecimal() else 0 for n in options.seeds.split(",")]
    if min(seeds) < 2:
        raise UserError(f"--seeds: numbers from 2 on with commas between, not {options.seeds!r}")
    results = load_results(options.experiment, options.tracking_uri)
    found, table = differences(results, seeds), sources(results)
    print(f"Detectable difference from {results.baseline}, 80% power, two-sided at "
          f"{strictest(results.declared):.2g}{', paired' * results.declared.paired}")
    print(found.to_string(float_format="{:.3g}".format, na_rep="–"))
    print("\nSeed against sampling noise" if len(table) else
          "\nNo run was measured on several sets of latents: set evaluate.latent_sets")
    if len(table):
        print(table.to_string(index=False, float_format="{:.3g}".format, na_rep="–"))
    print(*results.notes, sep="\n")


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
