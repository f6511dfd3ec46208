"""The answer of a report at a glance: every variant under every score."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from gan_bench.compare.findings import Finding
from gan_bench.compare.rows import Row
from gan_bench.compare.stats.words import verdict_words
from gan_bench.report.alignment import aligned
from gan_bench.report.digits import DASH, format_mean

SIGNS = {"better": "▲", "worse": "▼", "equivalent": "=", "inconclusive": "?"}
WAYS = {"lower": "lower is better", "higher": "higher is better", None: "no direction"}


@dataclass(frozen=True)
class Cell:
    """A variant under a score.

    Attributes:
        verdict: Its name; empty for the baseline, and for a score without a better direction.
        sign: The verdict as a sign; may be empty.
        words: The verdict in words, for readers who cannot see the sign.
        number: The mean with its interval.
    """

    verdict: str
    sign: str
    words: str
    number: Markup


@dataclass(frozen=True)
class Matrix:
    """Variants × scores of one experiment.

    Attributes:
        heads: Label of each score, and which direction is better, in words.
        rows: The name of each variant, and its cells.
    """

    experiment: str
    baseline: str
    heads: list[tuple[str, str]]
    rows: list[tuple[str, list[Cell]]]


def matrices(findings: Sequence[Finding]) -> list[Matrix]:
    """Return the matrix of each experiment, the leading score first."""
    by_experiment: dict[str, list[Finding]] = {}
    for finding in findings:
        by_experiment.setdefault(finding.results.experiment, []).append(finding)
    return [_matrix(experiment, group) for experiment, group in by_experiment.items()]


def _matrix(experiment: str, group: Sequence[Finding]) -> Matrix:
    heads = [(finding.label, WAYS[finding.better]) for finding in group]
    columns = [_column(finding) for finding in group]
    rows = [(row.variant, [column[row.variant] for column in columns]) for row in group[0].rows]
    return Matrix(experiment, group[0].results.baseline, heads, rows)


def _column(finding: Finding) -> dict[str, Cell]:
    """Return the cell of each variant."""
    numbers = aligned([_number(row) for row in finding.rows])
    return {row.variant: _cell(row, finding.results.baseline, number)
            for row, number in zip(finding.rows, numbers, strict=True)}


def _number(row: Row) -> str:
    if row.refused:
        return f"{DASH} (not measured alike)"
    if math.isnan(row.summary.mean.value):
        why = row.summary.mean.why_missing
        return f"{DASH} ({why})" if why else DASH
    return format_mean(row.summary)


def _cell(row: Row, baseline: str, number: Markup) -> Cell:
    if row.variant == baseline:
        return Cell("", "", "baseline", number)
    return Cell(row.verdict or "", SIGNS.get(row.verdict or "", ""), verdict_words(row.verdict),
                number)
