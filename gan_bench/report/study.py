"""Results for a notebook: what a report says, as tables and figures that a cell shows.

    results = gan_bench.load_results("dcgan_vs_mlp")
    results                            # the answer: every variant under every score
    results.table()                    # the same as a frame of text; `summary()` has the numbers
    results.plot("fd_classifier")      # a matplotlib figure; kind="curves" or "pairs" for others
    results.samples()                  # samples of every variant and seed
    gan_bench.figures.save(results.plot("fd_classifier"), Path("seeds.pdf"))
"""

from __future__ import annotations

from functools import partial
from typing import Literal

import pandas as pd
from markupsafe import Markup
from matplotlib.figure import Figure

from gan_bench.compare.agreement import disagreements
from gan_bench.compare.findings import Finding, findings
from gan_bench.compare.labels import labelled
from gan_bench.compare.results import Results, read_results
from gan_bench.compare.rows import Row
from gan_bench.compare.search.budgets import Budgets, budgets_of
from gan_bench.config.declared import Declared
from gan_bench.errors import UserError
from gan_bench.journal.layout import Workspace
from gan_bench.paths import AnyPath, as_path
from gan_bench.registry import nearest
from gan_bench.report.digits import DASH, format_mean
from gan_bench.report.exports import summary_frame
from gan_bench.report.figures import heat_map, learning_curves, mosaic, seed_dots
from gan_bench.report.figures.budget_choice import selected_against_confirmed
from gan_bench.report.figures.budget_space import scores_against_space
from gan_bench.report.figures.budgets import (
    best_against_budget,
    best_against_seconds,
    chance_against_budget,
)
from gan_bench.report.matrix import SIGNS, Cell, matrices
from gan_bench.report.samples import read_pictures
from gan_bench.report.search.budget_exports import budgets_frame, draws_frame
from gan_bench.report.search.budget_terminal import said_of
from gan_bench.tracking.sync import hidden_from_reports, update_store

Kind = Literal["seeds", "curves", "pairs", "best", "chance", "seconds", "choice", "space"]
OF_BUDGETS = {"best": best_against_budget, "chance": chance_against_budget,
              "seconds": best_against_seconds, "choice": selected_against_confirmed,
              "space": scores_against_space}


class Study(Results):
    """The results of one experiment, with what its report shows.

    The frames `runs` and `history` hold names; tables and figures show labels.
    """

    def findings(self, score: str | None = None) -> list[Finding]:
        """Return everything about each score; the given one comes first.

        Of a search these are the confirm runs of each variant's best draw: draws are no seeds.

        Raises:
            UserError: No run has such a score, or no run has ended in a result.
        """
        return findings(labelled(self), score)

    def budgets(self) -> pd.DataFrame:
        """Return what each budget of a search buys, a row for each variant and number of draws:
        `budgets.csv`.

        Raises:
            UserError: The experiment has no search.
        """
        return budgets_frame([self._tuned()])

    def draws(self) -> pd.DataFrame:
        """Return every draw of a search, its settings, scores and cost: `draws.csv`.

        Raises:
            UserError: The experiment has no search.
        """
        return draws_frame([self._tuned()])

    def _tuned(self) -> Budgets:
        tuned = budgets_of(labelled(self))
        if tuned is None:
            raise UserError(f"{self.experiment} has no search, and so no draws")
        return tuned

    def table(self) -> pd.DataFrame:
        """Return variants × scores as text: the sign of the verdict, the mean, its 95% interval."""
        findings = self.findings()
        frame = pd.DataFrame({finding.label: pd.Series(
            {row.variant: _text_cell(row) for row in finding.rows}, dtype=str)
            for finding in findings})
        # In the order of the leading score, as in the report.
        return frame.reindex([row.variant for row in findings[0].rows]).rename_axis("variant")

    def summary(self) -> pd.DataFrame:
        """Return every number of the report, a row for each score and variant: `summary.csv`."""
        return summary_frame(self.findings())

    def plot(self, score: str | None = None, kind: Kind = "seeds") -> Figure:
        """Return a figure of a score.

        Args:
            score: Its name; None for the first that the experiment lists.
            kind: `seeds`: every run's final score; `curves`: over training; `pairs`: how likely a
                run of one variant beats one of another. Of a search, and of the score that
                selects: `best` and `seconds`: against the budget in draws and in hours; `chance`:
                how likely a variant's best draw beats the reference's; `choice`: the chosen draws
                as selected and confirmed; `space`: against each drawn setting.

        Raises:
            UserError: There is no such score or kind, or no run has ended in a result.
        """
        if kind in OF_BUDGETS:
            return OF_BUDGETS[kind](self._tuned())
        finding = self.findings(score)[0]
        order = [row.variant for row in finding.rows]
        draw = {"seeds": partial(seed_dots, finding.results, finding.score, order),
                "curves": partial(learning_curves, finding.results, finding.score, order),
                "pairs": partial(heat_map, finding.pairs, finding.label, order)}
        if kind not in draw:
            kinds = [*draw, *OF_BUDGETS]
            raise UserError(f"there is no figure of kind {kind!r}; {nearest(kind, kinds)}")
        return draw[kind]()

    def samples(self) -> Figure:
        """Return the last samples of every variant (row) and seed (column)."""
        pictures = read_pictures(labelled(self))
        return mosaic({variant: {seed: by_step[max(by_step)] for seed, by_step in by_seed.items()}
                       for variant, by_seed in pictures.raw.items()})

    def _repr_html_(self) -> str:
        """Return the answer of the report, for a notebook."""
        try:
            found = self.findings()
        except UserError as error:
            return str(Markup("<p>{}</p>").format(str(error)))
        parts = [Markup("<p><strong>{}</strong></p>").format(
            self.declared.question or self.experiment)]
        if tuned := budgets_of(labelled(self)):
            parts += [Markup("<p>{}</p>").format(words) for words in said_of(tuned)]
            parts.append(Markup("<p>The chosen settings, under fresh seeds:</p>"))
        parts += [Markup("<p>{}</p>").format(words) for words in disagreements(found)]
        for matrix in matrices(found):
            heads = Markup("").join(Markup("<th>{}<br><small>{}</small></th>").format(*head)
                                    for head in matrix.heads)
            rows = Markup("").join(Markup("<tr><th>{}</th>{}</tr>").format(
                variant, Markup("").join(map(_html_cell, cells))) for variant, cells in matrix.rows)
            parts.append(Markup("<table><tr><th></th>{}</tr>{}</table>").format(heads, rows))
            parts.append(Markup("<p><small>Against {}: ▲ better, ▼ worse, = equivalent, ? not "
                                "decisive.</small></p>").format(matrix.baseline))
        return str(Markup("").join(parts))


def load_results(experiment: str, tracking_uri: str | None = None, root: AnyPath = "mlruns",
                 declared: Declared | None = None) -> Study:
    """Read an experiment back from MLflow, after its journals are copied there.

    A store that is neither the root's nor holds any of its runs is only read; `gan-bench sync`
    copies runs there.

    Args:
        experiment: Its name.
        tracking_uri: MLflow's store: a database or a server. None for `MLFLOW_TRACKING_URI`, or
            `<root>/mlflow.db` if that is not set.
        root: The root of the runs, if it is on this machine.
        declared: How to compare; None for what the experiment's last run declared.

    Raises:
        UserError: There is no such experiment, it has no runs of gan-bench, or the store cannot be
            read.
    """
    workspace = Workspace(as_path(root), tracking_uri=tracking_uri)
    behind = update_store(workspace, experiment)
    hidden = hidden_from_reports(workspace, experiment)
    results = read_results(workspace, experiment, declared)
    return Study(results.experiment, results.declared, results.runs, results.history, results.uri,
                 (*behind, *hidden, *results.notes), results.choice)


def _text_cell(row: Row) -> str:
    if row.refused:
        return DASH
    return f"{SIGNS.get(row.verdict or '', '')} {format_mean(row.summary)}".strip()


def _html_cell(cell: Cell) -> Markup:
    sign = Markup('<span role="img" aria-label="{}">{}</span> ').format(cell.words, cell.sign)
    return Markup("<td>{}{}</td>").format(sign if cell.sign else "", cell.number)
