"""The final scores of an experiment, variant by variant, and in words which variant did better.

    python analysis/compare_runs.py EXPERIMENT [TRACKING_URI]

Reads MLflow, so it works on a team's server as well as on `mlruns/mlflow.db`, the default. This is
the core of `gan-bench report` in one page of pandas, to copy and change.
"""

from __future__ import annotations

import sys

import pandas as pd

from gan_bench import Results, UserError, load_results
from gan_bench.compare.rows import Row, summarise
from gan_bench.compare.stats.summary import Estimate
from gan_bench.report.digits import OUT_OF_BOUNDS
from gan_bench.report.terminal import table_notes


def statuses(results: Results) -> pd.DataFrame:
    """Return the number of runs of each variant by status; failed runs are counted, not dropped."""
    return pd.crosstab(results.runs["variant"], results.runs["status"])


def table(rows: list[Row]) -> pd.DataFrame:
    """Return a line for every score and variant: n, mean with its 95% t-interval, spread, ends."""
    return pd.DataFrame([{
        "score": row.metric, "variant": row.variant,
        "n": row.summary.n, "diverged": row.summary.diverged, "absent": row.absent,
        "mean": row.summary.mean.value, "low": row.summary.mean.low,
        "high": row.summary.mean.high, "sd": row.summary.sd,
        "median": row.summary.median, "best": row.summary.best, "worst": row.summary.worst,
        "": row.refused or _mark(row.summary.mean),
    } for row in rows]).set_index(["score", "variant"])


def _mark(mean: Estimate) -> str:
    return OUT_OF_BOUNDS if mean.out_of_bounds else mean.note


def verdicts(rows: list[Row]) -> list[str]:
    """Return a sentence for every comparison with the baseline."""
    return [f"{row.metric}: {row.comparison.sentence}" for row in rows if row.comparison]


def main() -> None:
    """Print the question, how the runs ended, the table, the verdicts, and what to know of them."""
    if len(sys.argv) not in (2, 3) or sys.argv[1].startswith("-"):
        raise UserError("usage: python analysis/compare_runs.py EXPERIMENT [TRACKING_URI]")
    results = load_results(*sys.argv[1:])
    rows = summarise(results.ended(), results.declared)
    print(results.declared.question or results.experiment, end="\n\n")
    print(statuses(results).to_string(), end="\n\n")
    if not rows:
        raise UserError(f"no run of {results.experiment} has a final score yet: there is nothing "
                        f"to compare")
    print(table(rows).to_string(float_format="{:.4g}".format, na_rep="–"), end="\n\n")
    for line in [*verdicts(rows), *table_notes(rows, results.baseline), *results.notes]:
        print(line)


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
