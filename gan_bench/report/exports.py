"""A report's numbers as tables: complete for machines, and short for papers and pull requests."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from gan_bench.compare.findings import Finding
from gan_bench.compare.results import Results
from gan_bench.compare.rows import Row
from gan_bench.compare.stats.comparison import Comparison
from gan_bench.compare.stats.summary import Estimate
from gan_bench.report.terminal import notes

NONE = "–"
LATEX = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
         "∞": r"$\infty$", "–": "--", **{sign: "\\" + sign for sign in "&%$#_{}"}}


@dataclass(frozen=True)
class Column:
    """A column of the table that is shown: its heading, and the text of a variant's cell."""

    heading: str
    text: Callable[[Finding, Row], str]
    number: bool = True


def summary_frame(found: Sequence[Finding]) -> pd.DataFrame:
    """Return a row for each experiment, score and variant, with every number of the report.

    Infinite: a run that diverged is among what is ranked. Empty: there is no such number.
    """
    return pd.DataFrame([_summary(one, row) for one in found for row in one.rows])


def _summary(one: Finding, row: Row) -> dict[str, object]:
    summary, course, compared = row.summary, one.courses.get(row.variant), row.comparison
    noise = one.noise.get(row.variant)
    record: dict[str, object] = {
        "experiment": one.results.experiment, "score": one.score, "better": one.better or "",
        "variant": row.variant, "baseline": one.results.baseline, "n": summary.n,
        "diverged": summary.diverged, "collapsed": one.collapsed.get(row.variant),
        "no_result": row.absent, **_ends("mean", summary.mean), "sd": summary.sd,
        "median": summary.median, "iqm": summary.iqm, "best": summary.best, "worst": summary.worst}
    record |= _compared(compared) if compared else {}
    if course:
        record |= {**_ends("best_checkpoint", course.best),
                   **_ends("area_under_curve", course.area)}
        for unit, time in (("steps", course.steps), ("seconds", course.seconds)):
            if time:
                record |= {"quality": course.threshold, "reached_quality": time.reached,
                           **_ends(f"{unit}_to_quality", time.median)}
    if noise:
        record |= {"sd_seeds": noise.seed, "sd_latents": noise.sampling}
    notes = (summary.mean.note, summary.note, row.refused, noise.note if noise else "")
    return {**record, "note": "; ".join(filter(None, notes))}


def pairs_frame(found: Sequence[Finding]) -> pd.DataFrame:
    """Return a row for each pair of variants under each score.

    `holm_over` says how many comparisons p_adjusted and the verdict are for: all pairs, which asks
    more of each than the comparisons with the baseline alone do in the summary.
    """
    return pd.DataFrame([
        {"experiment": one.results.experiment, "score": one.score, "better": one.better or "",
         "variant": pair.variant, "against": pair.against, "n": pair.n, "n_against": pair.n_against,
         "diverged": pair.diverged, "diverged_against": pair.diverged_against, **_compared(pair)}
        for one in found for pair in one.pairs])


def _compared(one: Comparison) -> dict[str, object]:
    return {**_ends("difference", one.difference), "paired": one.paired, "p": one.p,
            "p_adjusted": one.p_adjusted, "holm_over": one.family, "basis": one.basis,
            "p_permutation": one.permutation.p if one.permutation else math.nan,
            "p_smallest": one.permutation.smallest if one.permutation else math.nan,
            "p_equivalent_adjusted": one.p_equivalent_adjusted,
            **_ends("improvement", one.improvement), "verdict": one.verdict or "", "why": one.why}


def _ends(name: str, estimate: Estimate) -> dict[str, object]:
    return {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}


def write_history(several: Sequence[Results], file: Path) -> None:
    """Write all measurements as Parquet: a row for each run, metric and step."""
    if len(several) == 1:
        several[0].history.to_parquet(file, index=False)
    else:
        pd.concat({one.experiment: one.history for one in several}, names=["experiment", None],
                  ).reset_index("experiment").to_parquet(file, index=False)


def number(value: float, signed: bool = False) -> str:
    """Return a number to four digits; a dash for NaN."""
    if math.isnan(value):
        return NONE
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    return f"{value:+.4g}" if signed else f"{value:.4g}"


def chance(p: float) -> str:
    """Return a p-value to two digits, which are more than it can bear."""
    return NONE if math.isnan(p) else f"{p:.2g}"


def interval(estimate: Estimate, signed: bool = False) -> str:
    """Return an estimate with its interval, or with the reason why there is none."""
    if math.isnan(estimate.value):
        return NONE
    value = number(estimate.value, signed)
    if math.isnan(estimate.low):
        return f"{value} ({estimate.why_missing})"
    mark = "*" if estimate.out_of_bounds else ""
    return f"{value} [{number(estimate.low, signed)}, {number(estimate.high, signed)}]{mark}"


def _if_compared(text: Callable[[Comparison], str]) -> Callable[[Finding, Row], str]:
    def cell(one: Finding, row: Row) -> str:
        return text(row.comparison) if row.comparison else ""
    return cell


def _verdict(one: Finding, row: Row) -> str:
    if row.refused:
        return row.refused
    if row.variant == one.results.baseline:
        return "baseline"
    return row.verdict or ""


def _collapsed(one: Finding, row: Row) -> str:
    count = one.collapsed.get(row.variant)
    return NONE if count is None else str(count)


MEAN = Column("Mean [95% interval]", lambda one, row: interval(row.mean))
DIFFERENCE = Column("Difference from baseline",
                    _if_compared(lambda c: interval(c.difference, signed=True)))
P = Column("p (Holm)", _if_compared(lambda c: chance(c.p_adjusted)))
CHANCE = Column("P(better) [95% interval]", _if_compared(lambda c: interval(c.improvement)))
VERDICT = Column("Verdict", _verdict, number=False)
RUNS = Column("Runs", lambda one, row: str(row.summary.n))
DIVERGED = Column("Diverged", lambda one, row: str(row.summary.diverged))
VARIANT = Column("Variant", lambda one, row: row.variant, number=False)

LONG = (
    VARIANT, VERDICT, MEAN, DIFFERENCE, P,
    Column("Smallest p", _if_compared(lambda c: chance(c.permutation.smallest)
                                      if c.permutation else NONE)), CHANCE, RUNS, DIVERGED,
    Column("Collapsed", _collapsed), Column("SD", lambda one, row: number(row.summary.sd)),
    Column("Median", lambda one, row: number(row.summary.median)),
    Column("IQM", lambda one, row: number(row.summary.iqm)),
    Column("Best", lambda one, row: number(row.summary.best)),
    Column("Worst", lambda one, row: number(row.summary.worst)))
SHORT = (VARIANT, RUNS, DIVERGED, MEAN, DIFFERENCE, P, CHANCE, VERDICT)


def cells(one: Finding, columns: Sequence[Column]) -> list[list[str]]:
    """Return the table of a score as text, a row for each variant."""
    return [[column.text(one, row) for column in columns] for row in one.rows]


def title(one: Finding) -> str:
    """Return what a table is of."""
    way = f"{one.better} is better" if one.better else "neither direction is better"
    return f"{one.score} ({way})"


def as_markdown(found: Sequence[Finding]) -> str:
    """Return the tables of all scores as Markdown."""
    parts = []
    for one in found:
        lines = [[column.heading for column in SHORT],
                 ["--:" if column.number else ":--" for column in SHORT],
                 *([_markdown(cell) for cell in row] for row in cells(one, SHORT))]
        parts.append("\n".join([f"### {_markdown(one.results.experiment)}: {_markdown(title(one))}",
                                "", *("| " + " | ".join(line) + " |" for line in lines), "",
                                f"Baseline: {_markdown(one.results.baseline)}.",
                                *(f"- {_markdown(line)}" for line in
                                  (*one.results.notes, *notes(one.rows, one.results.baseline)))]))
    return "\n\n".join(parts) + "\n"


def as_latex(found: Sequence[Finding]) -> str:
    """Return the tables of all scores as LaTeX, for the package booktabs."""
    parts = []
    for one in found:
        align = "".join("r" if column.number else "l" for column in SHORT)
        rows = [[latex(cell) for cell in row] for row in cells(one, SHORT)]
        # A line that begins with [ would be an optional argument of \\.
        body = "\n".join("  " + " & ".join("{}" + cell if cell.startswith("[") else cell
                                           for cell in row) + r" \\" for row in rows)
        head = " & ".join(latex(column.heading) for column in SHORT)
        about = latex(f"{one.results.experiment}: {title(one)}. Baseline: {one.results.baseline}.")
        parts.append("\n".join([
            r"\begin{table}", rf"  \caption{{{about}}}", rf"  \begin{{tabular}}{{{align}}}",
            r"  \toprule", f"  {head} \\\\", r"  \midrule", body, r"  \bottomrule",
            r"  \end{tabular}", r"\end{table}"]))
    return "% needs \\usepackage{booktabs}\n" + "\n\n".join(parts) + "\n"


def latex(text: str) -> str:
    """Return text as LaTeX sets it, on one line."""
    return "".join(LATEX.get(sign, sign) for sign in " ".join(text.split()))


def _markdown(text: str) -> str:
    safe = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_{}\[\]|#~])", r"\\\1", safe)
