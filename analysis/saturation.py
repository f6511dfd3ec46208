"""Why the saturating loss fails early: the gradient that reaches G, by loss, over the first steps.

    python analysis/saturation.py EXPERIMENT [TRACKING_URI] [--steps 300] [--out FILE.svg]

If D recognises fakes, D(G(z)) is near 0. The saturating loss log(1 − D(G(z))) (Goodfellow et
al. 2014, equation 1) is flat there, and its gradient fades with D(G(z)); −log D(G(z)) of their
section 3 is steep. `experiments/saturation.yaml` is meant for this: it logs every step, and D
learns five times as often as G. The script prints median and range over seeds at a few steps, and
draws all steps.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from gan_bench import Results, UserError, load_results
from gan_bench.report.figures import save, styles

METRICS = {"train/g_grad_norm": "norm of G's gradient", "train/d_fake": "D(G(z))"}


def first_steps(results: Results, steps: int) -> pd.DataFrame:
    """Return the finite values of both metrics up to a step, with each run's loss beside them."""
    rows = results.history[results.history["metric"].isin(list(METRICS))]
    rows = rows[(rows["step"] <= steps) & np.isfinite(rows["value"])]
    if rows.empty:
        raise UserError(f"{results.experiment} has no {' or '.join(METRICS)} up to step {steps}; "
                        f"a larger --steps, or runs with a smaller log_every, would have")
    loss = rows["run"].astype(str).map(results.runs["params.loss"])
    return rows.assign(loss=loss, metric=rows["metric"].cat.remove_unused_categories())


def table(rows: pd.DataFrame) -> pd.DataFrame:
    """Return median [least, greatest] (number of seeds) at steps spaced as 1, 3, 10, 30, …"""
    logged = np.unique(rows["step"])
    wanted = np.geomspace(logged[0], logged[-1], 7)
    rows = rows[rows["step"].isin(logged[np.abs(logged[:, None] - wanted).argmin(0)])]
    by = rows.groupby(["loss", "variant", "step", "metric"], observed=True)["value"]
    cells = by.agg(lambda x: f"{x.median():.3g} [{x.min():.3g}, {x.max():.3g}] ({len(x)})")
    return cells.unstack("metric").reindex(columns=list(METRICS)).rename(columns=METRICS)


def draw(rows: pd.DataFrame, results: Results) -> Figure:
    """Return a panel for each metric: thin lines for seeds, thick for their median."""
    figure = Figure(figsize=(8, 3.6), layout="constrained")
    figure.suptitle(f"The first steps of {results.experiment}: median of seeds, and each seed")
    looks = styles(results.variants)
    for axes, (metric, title) in zip(figure.subplots(1, 2), METRICS.items(), strict=True):
        own = rows[rows["metric"] == metric]
        for (loss, variant), group in own.groupby(["loss", "variant"], observed=True):
            style = {"color": looks[variant].colour, "linestyle": looks[variant].line}
            for _, seed in group.groupby("run", observed=True):
                axes.plot(seed["step"], seed["value"], alpha=0.35, linewidth=0.6, **style)
            median = group.groupby("step")["value"].median()
            axes.plot(median.index, median, linewidth=2, label=f"{variant} ({loss})", **style)
        axes.set(title=title, xlabel="training step", yscale="log")
        axes.yaxis.set_major_formatter("{x:g}")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure


def main() -> None:
    """Print the table, and write the figure."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("experiment")
    parser.add_argument("tracking_uri", nargs="?")
    parser.add_argument("--steps", type=int, default=300, help="how many steps are the first")
    parser.add_argument("--out", type=Path, help="figure [default: saturation-EXPERIMENT.svg]")
    options = parser.parse_args()
    results = load_results(options.experiment, options.tracking_uri)
    rows = first_steps(results, options.steps)
    print(table(rows).to_string(), *results.notes, sep="\n")
    out = options.out or Path(f"saturation-{options.experiment}.svg")
    save(draw(rows, results), out)
    print(f"figure: {out}")


if __name__ == "__main__":
    try:
        main()
    except (UserError, OSError) as error:
        print(error, file=sys.stderr)
        sys.exit(2)
