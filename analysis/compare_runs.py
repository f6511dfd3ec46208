"""The final scores of an experiment, variant by variant, in a page of pandas. Copy and change it.

    python analysis/compare_runs.py EXPERIMENT [TRACKING_URI]

Reads MLflow, so it works on a team's server as well as on `mlruns/mlflow.db`, the default.
"""

import sys

import mlflow
import pandas as pd


def final_scores(experiment: str, tracking_uri: str) -> pd.DataFrame:
    """Return one row per run: variant, seed, status, and the last value of every score."""
    mlflow.set_tracking_uri(tracking_uri)
    runs = mlflow.search_runs(experiment_names=[experiment])
    if runs.empty:
        sys.exit(f"{tracking_uri} holds no run of an experiment called {experiment!r}")
    scores = {c: c.removeprefix("metrics.eval/") for c in runs if c.startswith("metrics.eval/")}
    tags = {f"tags.{name}": name for name in ("variant", "seed", "status")}
    return runs[[*tags, *scores]].rename(columns={**tags, **scores})


def compare(runs: pd.DataFrame) -> pd.DataFrame:
    """Return mean, standard deviation and range over the seeds that finished, by variant."""
    finished = runs[runs.status == "FINISHED"].drop(columns=["seed", "status"])
    return finished.groupby("variant").agg(["count", "mean", "std", "min", "max"])


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    table = final_scores(sys.argv[1], sys.argv[2] if len(sys.argv) == 3
                         else "sqlite:///mlruns/mlflow.db")
    print(table.groupby(["variant", "status"]).size().to_string(), end="\n\n")
    print(compare(table).stack(level=0, future_stack=True).to_string(float_format="{:.4g}".format))
