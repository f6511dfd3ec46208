"""Tables for a paper: a wide one of all scores, and a narrow one of the leading score.

Both need the package booktabs. The wide one is a `table*`, over both columns of a page; the narrow
one fits into a column of 3.25 inches.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from gan_bench.compare.findings import Finding
from gan_bench.compare.rows import Row
from gan_bench.report.digits import DASH, format_mean, format_value, mean_decimals
from gan_bench.report.exports import (
    MARKDOWN,
    VERDICT,
    best_variants,
    latex,
    latex_cell,
    markdown,
    reference,
    title,
)

Spread = Literal["sd", "interval"]
ARROWS = {"lower": " ↓", "higher": " ↑", None: ""}
SPREADS: dict[Spread, str] = {
    "sd": "Mean ± standard deviation over the seeds",
    "interval": "Mean with its 95% t-interval over the seeds"}


@dataclass(frozen=True)
class PaperTable:
    """A table for a paper, as text.

    Attributes:
        name: Of its files, without ending.
        key: Of its `\\label`.
        caption: What it shows.
        heads: The headings; the first column holds variants.
        rows: The cells, a row for each variant.
        bold: The places (row, column) of the best means.
        is_wide: Whether it spans both columns of a page.
    """

    name: str
    key: str
    caption: str
    heads: list[str]
    rows: list[list[str]]
    bold: set[tuple[int, int]]
    is_wide: bool

    @property
    def _align(self) -> str:
        """The alignment of each column; the last of a narrow table holds words."""
        return "l" + "r" * (len(self.heads) - 1) if self.is_wide else "lrl"

    def as_latex(self) -> str:
        """Return the table for LaTeX, with a `\\label`."""
        table = "table*" if self.is_wide else "table"
        rows = self._texts(latex_cell, r"\textbf{{{}}}")
        return "\n".join([
            "% needs \\usepackage{booktabs}", rf"\begin{{{table}}}", r"  \centering",
            rf"  \caption{{{latex(self.caption)}}}", rf"  \label{{{self.key}}}",
            rf"  \begin{{tabular}}{{{self._align}}}", r"  \toprule",
            f"  {' & '.join(map(latex, self.heads))} \\\\", r"  \midrule",
            *(f"  {' & '.join(row)} \\\\" for row in rows), r"  \bottomrule", r"  \end{tabular}",
            rf"\end{{{table}}}"]) + "\n"

    def as_markdown(self) -> str:
        """Return the table for Markdown."""
        rows = [[*map(markdown, self.heads)], [MARKDOWN[side] for side in self._align],
                *self._texts(markdown, "**{}**")]
        return "\n".join([*(f"| {' | '.join(row)} |" for row in rows), "",
                          markdown(self.caption)]) + "\n"

    def _texts(self, escape: Callable[[str], str], bold: str) -> list[list[str]]:
        """Return the cells as the format has them; `bold` has a place for the text of a best one.
        """
        rows = [[*map(escape, row)] for row in self.rows]
        for i, j in self.bold:
            rows[i][j] = bold.format(rows[i][j])
        return rows


def paper_tables(findings: Sequence[Finding], spread: Spread = "sd") -> list[PaperTable]:
    """Return for each experiment the wide table of all scores, and the narrow one of the first.

    Args:
        findings: The leading score of each experiment first.
        spread: What follows a mean: its standard deviation, or its interval.
    """
    by_experiment: dict[str, list[Finding]] = {}
    for finding in findings:
        by_experiment.setdefault(finding.results.experiment, []).append(finding)
    tables = []
    for experiment, group in by_experiment.items():
        suffix = f"-{experiment}" if len(by_experiment) > 1 else ""
        tables += [_table(experiment, f"table-wide{suffix}", group, spread, is_wide=True),
                   _table(experiment, f"table-narrow{suffix}", group[:1], spread, is_wide=False)]
    return tables


def _table(experiment: str, name: str, group: Sequence[Finding], spread: Spread, *,
           is_wide: bool) -> PaperTable:
    heads = ["Variant", *(finding.label + ARROWS[finding.better] for finding in group)]
    columns = [{row.variant: _cell(row, spread) for row in finding.rows} for finding in group]
    variants = [row.variant for row in group[0].rows]
    rows = [[variant, *(column[variant] for column in columns)] for variant in variants]
    bold = {(variants.index(variant), j + 1) for j, finding in enumerate(group)
            for variant in best_variants(finding)}
    caption = f"{experiment}: {_caption(group, spread)}"
    if not is_wide:
        heads.append("Verdict")
        rows = [[*cells, VERDICT.text(group[0], row)]
                for cells, row in zip(rows, group[0].rows, strict=True)]
        caption = f"{experiment}: {title(group[0])}. {_caption(group, spread)}"
    return PaperTable(name, reference(experiment, "wide" if is_wide else "narrow"), caption, heads,
                      rows, bold, is_wide)


def _caption(group: Sequence[Finding], spread: Spread) -> str:
    numbers = sorted({row.summary.n for finding in group for row in finding.rows
                      if row.summary.n})
    runs = " to ".join(str(n) for n in dict.fromkeys((numbers or [0])[i] for i in (0, -1)))
    lost = any(row.summary.diverged for finding in group for row in finding.rows)
    note = " In parentheses: diverged runs, which take no part in the mean." if lost else ""
    best = " Bold: the best mean." if any(finding.better for finding in group) else ""
    return (f"{SPREADS[spread]} ({runs} runs of each variant). Baseline: "
            f"{group[0].results.baseline}.{best}{note}")


def _cell(row: Row, spread: Spread) -> str:
    """Return a variant's mean with its spread, and how many runs diverged."""
    summary = row.summary
    if row.refused or (math.isnan(summary.mean.value) and not summary.diverged):
        return DASH
    text = format_mean(summary) if not math.isnan(summary.mean.low) else format_value(
        summary.mean.value)
    if spread == "sd" and not math.isnan(summary.sd):
        decimals = mean_decimals(summary)
        text = (f"{format_value(summary.mean.value, decimals=decimals)} ± "
                f"{format_value(summary.sd, decimals=decimals)}")
    return f"{text} ({summary.diverged} of {summary.n})" if summary.diverged else text
