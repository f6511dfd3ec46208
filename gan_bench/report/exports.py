"""The numbers of a report as tables: complete for machines, short for papers and pull requests."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pandas as pd

from gan_bench.compare.findings import Finding
from gan_bench.compare.results import Results
from gan_bench.compare.rows import Row
from gan_bench.compare.stats.comparison import Comparison
from gan_bench.compare.stats.summary import Estimate, Summary
from gan_bench.compare.stats.words import verdict_words
from gan_bench.errors import count, printable
from gan_bench.report.digits import (
    DASH,
    MINUS,
    format_interval,
    format_mean,
    format_p,
    format_value,
    mean_decimals,
)
from gan_bench.report.terminal import table_notes

FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")  # with which a spreadsheet's formula may begin
MARKDOWN = {"l": ":--", "r": "--:"}  # the row below the headings aligns the columns
LATEX = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
         "∞": r"$\infty$", "–": "--", MINUS: "$-$", "±": r"$\pm$",
         "†": r"\dag{}", "↓": r"$\downarrow$", "↑": r"$\uparrow$",
         **{sign: "\\" + sign for sign in "&%$#_{}"}}


@dataclass(frozen=True)
class Column:
    """A column of a printed table: its heading, the text of a variant's cell, and its alignment."""

    heading: str
    text: Callable[[Finding, Row], str]
    align: Literal["l", "r"] = "r"


def summary_frame(findings: Sequence[Finding]) -> pd.DataFrame:
    """Return a row for each experiment, score and variant, with every number of the report.

    Variants are in the experiment's order.

    Infinite: a diverged run is among the ranked ones. Empty: there is no such number.
    """
    return pd.DataFrame([
        _summary(finding, row) for finding in findings for row in
        sorted(finding.rows, key=lambda row: finding.results.variants.index(row.variant))])


def _summary(finding: Finding, row: Row) -> dict[str, object]:
    summary, curves = row.summary, finding.curves.get(row.variant)
    noise, name_of = finding.noise.get(row.variant), finding.results.declared.name_of
    record: dict[str, object] = {
        "experiment": finding.results.experiment, "score": finding.score,
        "better": finding.better or "",
        "variant": name_of(row.variant), "label": row.variant,
        "baseline": name_of(finding.results.baseline), "n": summary.n,
        "diverged": summary.diverged, "collapsed": finding.collapsed.get(row.variant),
        "no_result": row.absent, **_ends("mean", summary.mean),
        "mean_doubt": "; ".join(summary.mean.doubts), "sd": summary.sd,
        "median": summary.median, "iqm": summary.iqm, "best": summary.best, "worst": summary.worst}
    if row.comparison:
        record |= _comparison(row.comparison)
    if curves:
        record |= {**_ends("best_checkpoint", curves.best),
                   **_ends("area_under_curve", curves.area)}
        for unit, time in (("steps", curves.steps), ("seconds", curves.seconds)):
            if time:
                record |= {"quality": curves.threshold, "reached_quality": time.reached,
                           **_ends(f"{unit}_to_quality", time.median)}
    if noise:
        record |= {"sd_seeds": noise.seed, "sd_latents": noise.sampling}
    remarks = (summary.mean.note, summary.note, row.refused, noise.note if noise else "")
    return {**record, "note": "; ".join(filter(None, remarks))}


def pairs_frame(findings: Sequence[Finding]) -> pd.DataFrame:
    """Return a row for each pair of variants under each score.

    `holm_over` says how many comparisons p_adjusted and the verdict are for: all pairs. That is
    stricter than the summary, which compares with the baseline alone.
    """
    return pd.DataFrame([
        {"experiment": finding.results.experiment, "score": finding.score,
         "better": finding.better or "",
         "variant": finding.results.declared.name_of(pair.variant), "label": pair.variant,
         "against": finding.results.declared.name_of(pair.against), "against_label": pair.against,
         "n": pair.n, "n_against": pair.n_against,
         "diverged": pair.diverged, "diverged_against": pair.diverged_against, **_comparison(pair)}
        for finding in findings for pair in finding.pairs])


def _comparison(pair: Comparison) -> dict[str, object]:
    return {**_ends("difference", pair.difference),
            "difference_doubt": "; ".join(pair.difference.doubts),
            "paired": pair.paired, "pairs": pair.n if pair.paired else None,
            "without_partner": pair.left_out if pair.paired else None,
            "p": pair.p, "p_adjusted": pair.p_adjusted, "holm_over": pair.family,
            "basis": pair.basis,
            "p_permutation": pair.permutation.p if pair.permutation else math.nan,
            "p_smallest": pair.permutation.smallest if pair.permutation else math.nan,
            "p_equivalent_adjusted": pair.p_equivalent_adjusted,
            **_ends("improvement", pair.improvement), "verdict": pair.verdict or "",
            "why": pair.why}


def _ends(name: str, estimate: Estimate) -> dict[str, object]:
    return {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}


def write_csv(frame: pd.DataFrame, file: Path) -> None:
    """Write a table whose texts no spreadsheet takes for formulas: they may come from MLflow."""
    frame.map(_plain).to_csv(file, index=False)


def _plain(value: object) -> object:
    """Return text on one line, with an apostrophe before what a spreadsheet would compute."""
    if not isinstance(value, str):
        return value
    text = printable(value)
    return f"'{text}" if value.startswith(FORMULA) else text


def write_history(experiments: Sequence[Results], file: Path) -> None:
    """Write all measurements as Parquet: a row for each run, metric and step."""
    if len(experiments) == 1:
        history = experiments[0].history
    else:
        by_name = {results.experiment: results.history for results in experiments}
        history = pd.concat(by_name, names=["experiment", None]).reset_index("experiment")
    history.to_parquet(file, index=False)


def _if_compared(text: Callable[[Comparison], str]) -> Callable[[Finding, Row], str]:
    def cell(finding: Finding, row: Row) -> str:
        return text(row.comparison) if row.comparison else ""
    return cell


def _verdict(finding: Finding, row: Row) -> str:
    if row.refused:
        return row.refused
    if row.variant == finding.results.baseline:
        return "baseline"
    return verdict_words(row.verdict)


def _collapsed(finding: Finding, row: Row) -> str:
    count = finding.collapsed.get(row.variant)
    return DASH if count is None else str(count)


def _runs(finding: Finding, row: Row) -> str:
    """Return the number of runs; where some lack a partner, also the number of pairs."""
    pair = row.comparison
    pairs = f" ({count(pair.n, 'pair')})" if pair and pair.left_out else ""
    return f"{row.summary.n}{pairs}"


def _with_digits(number: Callable[[Summary], float]) -> Callable[[Finding, Row], str]:
    """Return a cell with a number in the digits of the variant's mean."""
    return lambda finding, row: format_value(number(row.summary),
                                             decimals=mean_decimals(row.summary))


MEAN = Column("Mean [95% interval]", lambda finding, row: format_mean(row.summary))
DIFFERENCE = Column("Difference from baseline",
                    _if_compared(lambda c: format_interval(c.difference, signed=True)))
P = Column("p (Holm)", _if_compared(lambda c: format_p(c.p_adjusted)))
CHANCE = Column("P(better) [95% interval]", _if_compared(lambda c: format_interval(c.improvement)))
VERDICT = Column("Verdict", _verdict, align="l")
RUNS = Column("Runs", _runs)
DIVERGED = Column("Diverged", lambda finding, row: str(row.summary.diverged))
VARIANT = Column("Variant", lambda finding, row: row.variant, align="l")

LONG = (
    VARIANT, VERDICT, MEAN, DIFFERENCE, P,
    Column("Smallest p", _if_compared(lambda c: format_p(c.permutation.smallest)
                                      if c.permutation else DASH)), CHANCE, RUNS, DIVERGED,
    Column("Collapsed", _collapsed),
    Column("SD", _with_digits(lambda summary: summary.sd)),
    Column("Median", _with_digits(lambda summary: summary.median)),
    Column("IQM", _with_digits(lambda summary: summary.iqm)),
    Column("Best", _with_digits(lambda summary: summary.best)),
    Column("Worst", _with_digits(lambda summary: summary.worst)))
SHORT = (VARIANT, RUNS, DIVERGED, MEAN, DIFFERENCE, P, CHANCE, VERDICT)
MEAN_PLACE = SHORT.index(MEAN)


def cells(finding: Finding, columns: Sequence[Column]) -> list[list[str]]:
    """Return the table of a score as text, a row for each variant."""
    return [[column.text(finding, row) for column in columns] for row in finding.rows]


def title(finding: Finding) -> str:
    """Return the title of a table: the score and its direction."""
    way = f"{finding.better} is better" if finding.better else "neither direction is better"
    return f"{finding.label} ({way})"


def as_markdown(findings: Sequence[Finding]) -> str:
    """Return the tables of all scores as Markdown."""
    return "\n\n".join(_markdown_table(finding) for finding in findings) + "\n"


def _markdown_table(finding: Finding) -> str:
    experiment, baseline = finding.results.experiment, finding.results.baseline
    rows = [[column.heading for column in SHORT], [MARKDOWN[column.align] for column in SHORT]]
    best = best_variants(finding)
    for row in cells(finding, SHORT):
        texts = [markdown(cell) for cell in row]
        if row[0] in best:
            texts[MEAN_PLACE] = f"**{texts[MEAN_PLACE]}**"
        rows.append(texts)
    remarks = [*finding.results.notes, *table_notes(finding.rows, baseline)]
    return "\n".join([f"### {markdown(experiment)}: {markdown(title(finding))}", "",
                      *("| " + " | ".join(row) + " |" for row in rows), "",
                      f"Baseline: {markdown(baseline)}.",
                      *(f"- {markdown(line)}" for line in remarks)])


def as_latex(findings: Sequence[Finding]) -> str:
    """Return the tables of all scores as LaTeX, for the package booktabs."""
    parts = []
    for finding in findings:
        align = "".join(column.align for column in SHORT)
        best, rows = best_variants(finding), []
        for row in cells(finding, SHORT):
            texts = [latex_cell(cell) for cell in row]
            if row[0] in best:
                texts[MEAN_PLACE] = rf"\textbf{{{texts[MEAN_PLACE]}}}"
            rows.append(" & ".join(texts))
        body = "\n".join(f"  {row} " + r"\\" for row in rows)
        head = " & ".join(latex(column.heading) for column in SHORT)
        results = finding.results
        about = latex(f"{results.experiment}: {title(finding)}. Baseline: {results.baseline}.")
        parts.append("\n".join([
            r"\begin{table}", rf"  \caption{{{about}}}",
            rf"  \label{{{reference(results.experiment, finding.score)}}}",
            rf"  \begin{{tabular}}{{{align}}}",
            r"  \toprule", f"  {head} \\\\", r"  \midrule", body, r"  \bottomrule",
            r"  \end{tabular}", r"\end{table}"]))
    return "% needs \\usepackage{booktabs}\n" + "\n\n".join(parts) + "\n"


def reference(*parts: str) -> str:
    """Return the key of a table's \\label: letters, digits, hyphens and dots."""
    return "tab:" + re.sub(r"[^A-Za-z0-9.]+", "-", "-".join(parts)).strip("-")


def best_variants(finding: Finding) -> set[str]:
    """Return the variants with the best mean; a variant that lost runs has none."""
    if finding.better is None:
        return set()
    means = {row.variant: row.summary.mean.value for row in finding.rows
             if not row.summary.diverged and not math.isnan(row.summary.mean.value)}
    best = min if finding.better == "lower" else max
    return {variant for variant, mean in means.items() if mean == best(means.values())}


def latex(text: str) -> str:
    """Return text with LaTeX's special characters escaped, on one line."""
    return "".join(LATEX.get(sign, sign) for sign in " ".join(text.split()))


def latex_cell(text: str) -> str:
    """Return a cell that cannot be read as an optional argument of the \\\\ before it."""
    cell = latex(text)
    return "{}" + cell if cell.startswith("[") else cell


def markdown(text: str) -> str:
    """Return text with Markdown's special characters escaped, on one line."""
    safe = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_{}\[\]|#~])", r"\\\1", safe)
