"""The final table of an experiment, in the terminal."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from rich.console import Console, ConsoleOptions
from rich.text import Text

from gan_bench.compare.rows import Row, ranked
from gan_bench.compare.stats.comparison import Comparison
from gan_bench.compare.stats.doubt import SEEN_FROM, unseen_share
from gan_bench.compare.stats.words import left_out_words, tests_of, verdict_words
from gan_bench.errors import joined
from gan_bench.evaluation.score_directions import directions
from gan_bench.report.digits import (
    MINUS,
    OUT_OF_BOUNDS,
    UNTRUSTED,
    format_interval,
    format_mean,
    format_p,
)
from gan_bench.text_table import align_columns, wrap_line

# What is shown of a row, the most first: a terminal shows as much as it has room for.
Layout = tuple[str, ...]
LAYOUTS: tuple[Layout, ...] = (("variant", "mean", "n", "against", "p", "verdict"),
                               ("variant", "mean", "n", "difference", "p", "verdict"))
# The same for rows below their variant's name, where that takes too much room beside them.
BELOW_LAYOUTS: tuple[Layout, ...] = (
    *(columns[1:] for columns in LAYOUTS),
    ("mean", "n", "p", "verdict"), ("mean", "p", "verdict"), ("mean", "verdict"))
RIGHT = ("n", "p")
STYLES = {"better": "green", "worse": "red"}


@dataclass(frozen=True)
class SummaryTable:
    """The final table, as wide as the terminal that it is printed on.

    No number and no name is cut short: what there is no room for is left out, or stands on a line
    of its own.
    """

    rows: Sequence[Row]
    baseline: str
    labels: Mapping[str, str] = field(default_factory=dict)  # of scores, by name

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Text]:
        """Yield the lines that fit."""
        width = options.max_width
        for text in self._fitting(width):
            # Streams show `?` for what they lack, which would take the sign from a number.
            yield Text(text.plain.replace(MINUS, "-"), text.style) if options.ascii_only else text
        for note in [*table_notes(list(self.rows), self.baseline), *refused_notes(self.rows)]:
            for line in wrap_line(note, width):
                yield Text(line, "table.caption", overflow="fold")

    def _fitting(self, width: int) -> list[Text]:
        """Return the table in the first form that fits; the last form if none does."""
        lines = self._beside_scores()
        if _width(lines) <= width:
            return lines
        for columns in LAYOUTS:
            lines = self._below_scores(columns)
            if _width(lines) <= width:
                return lines
        for columns in BELOW_LAYOUTS:
            lines = self._below_variants(columns)
            if _width(lines) <= width:
                return lines
        return lines

    def _beside_scores(self) -> list[Text]:
        """Return the table with the scores in a column of their own."""
        columns = LAYOUTS[0]
        cells, styles = [["score", *self._headings(columns)]], ["table.header"]
        for title, block in self._blocks():
            for i, row in enumerate(block):
                cells.append([title if i == 0 else "", *self._cells(row, columns)])
                styles.append(STYLES.get(row.verdict or "", ""))
        return _lines(cells, styles, ("score", *columns))

    def _below_scores(self, columns: Sequence[str]) -> list[Text]:
        """Return the table with each score on a line above its variants."""
        cells, styles = [self._headings(columns)], ["table.header"]
        for _, block in self._blocks():
            cells += [self._cells(row, columns) for row in block]
            styles += [STYLES.get(row.verdict or "", "") for row in block]
        head, *below = _lines(cells, styles, columns, indent=2)
        lines = [head]
        for title, block in self._blocks():
            lines += [Text(title, "table.header"), *below[:len(block)]]
            below = below[len(block):]
        return lines

    def _below_variants(self, columns: Sequence[str]) -> list[Text]:
        """Return the table with scores, and below them variants, on lines of their own."""
        blocks = self._blocks()
        rows = [row for _, block in blocks for row in block]
        styles = [STYLES.get(row.verdict or "", "") for row in rows]
        head, *below = _lines([self._headings(columns), *(self._cells(row, columns)
                                                          for row in rows)],
                              ["table.header", *styles], columns, indent=4)
        lines = [head]
        for title, block in blocks:
            lines.append(Text(title, "table.header"))
            for row in block:
                lines += [Text(f"  {row.variant}", STYLES.get(row.verdict or "", "")),
                          below.pop(0)]
        return lines

    def _headings(self, columns: Sequence[str]) -> list[str]:
        texts = {"mean": "mean [95% interval]", "against": f"against {self.baseline}",
                 "difference": "diff.", "verdict": ""}
        return [texts.get(column, column) for column in columns]

    def _blocks(self) -> list[tuple[str, list[Row]]]:
        """Return each score, with its better direction, and its rows, the best first."""
        better = directions()
        blocks = []
        for metric in dict.fromkeys(row.metric for row in self.rows):
            direction = better.get(metric)
            arrow = {"lower": " ↓", "higher": " ↑"}.get(direction or "", "")
            block = [row for row in self.rows if row.metric == metric]
            blocks.append((self.labels.get(metric, metric) + arrow, ranked(block, direction)))
        return blocks

    def _cells(self, row: Row, columns: Sequence[str]) -> list[str]:
        n, total = row.summary.n - row.summary.diverged, row.summary.n + row.absent
        pair = row.comparison
        texts = {"variant": row.variant, "mean": format_mean(row.summary),
                 "n": f"{n} of {total}" if n < total else str(n),
                 "verdict": verdict_words(row.verdict)}
        if pair is None:
            why = "not compared" if row.refused else ""
            why = "baseline" if row.variant == self.baseline and not why else why
            texts |= {"against": why, "difference": why, "p": ""}
        else:
            against = format_interval(pair.difference, signed=True)
            texts |= {"against": against, "difference": against.partition(" ")[0],
                      "p": "" if math.isnan(pair.p_adjusted) else format_p(pair.p_adjusted)}
        return [texts[column] for column in columns]


def summary_table(rows: list[Row], baseline: str, labels: Mapping[str, str] | None = None,
                  ) -> SummaryTable:
    """Return the rows as a table for the terminal, best variant of each score first.

    Args:
        rows: Of all scores.
        baseline: The variant that the others are compared with.
        labels: What stands in place of the names of scores.
    """
    return SummaryTable(tuple(rows), baseline, labels or {})


def _lines(cells: Sequence[Sequence[str]], styles: Sequence[str], columns: Sequence[str],
           indent: int = 0) -> list[Text]:
    """Return rows of cells as lines with aligned columns, each in its style."""
    sides = [column in RIGHT for column in columns]
    return [Text(" " * indent + line, style)
            for line, style in zip(align_columns(cells, sides), styles, strict=True)]


def _width(lines: Sequence[Text]) -> int:
    return max(len(line.plain) for line in lines)


def refused_notes(rows: Sequence[Row]) -> list[str]:
    """Return why variants are not compared, a line for each reason."""
    scores: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        if row.refused:
            scores.setdefault((row.variant, row.refused), []).append(row.metric)
    return [f"{variant} is not compared by {', '.join(names)}: {reason}"
            for (variant, reason), names in scores.items()]


def table_notes(rows: list[Row], baseline: str) -> list[str]:
    """Return remarks that explain the numbers of the table, a line each."""
    lines = []
    comparisons = [row.comparison for row in rows if row.comparison]
    tested = [pair for pair in comparisons if pair.permutation and not math.isnan(pair.p)]
    if tested:
        smallest = max(pair.permutation.smallest for pair in tested if pair.permutation)
        holm = _family_words(tested)
        n = min(min(pair.n, pair.n_against) for pair in tested)
        unseen = f", and a failure of up to {unseen_share(n):.0%} of the runs may be unseen"
        lines.append(f"p: of no difference from {baseline}, by {tests_of(tested)}{holm}; with so "
                     f"few runs an exact test reaches no p below {smallest:.2g}"
                     f"{unseen if n < SEEN_FROM else ''}")
        if any(pair.verdict == "equivalent" for pair in tested):
            lines.append("p of an equivalent variant: of a difference beyond the margin, the "
                         "larger of two one-sided tests")
    for variant in dict.fromkeys(row.variant for row in rows):
        variant_rows = [row for row in rows if row.variant == variant]
        lost, n = max((row.summary.diverged, row.summary.n) for row in variant_rows)
        if lost:
            lines.append(f"{variant}: {lost} of {n} runs diverged; means are over the others, and "
                         f"tests of ranks have diverged runs last")
        if absent := max(row.absent for row in variant_rows):
            runs = "1 run has" if absent == 1 else f"{absent} runs have"
            lines.append(f"{variant}: {runs} no result (yet): not finished, or failed, or without "
                         f"a score")
    lines += [line for line in dict.fromkeys(map(left_out_words, comparisons)) if line]
    shown = [row.summary.mean for row in rows] + [pair.difference for pair in comparisons]
    if any(estimate.is_marked for estimate in shown):
        lines.append(f"{UNTRUSTED} The scores are skewed, or some runs collapsed: such an interval "
                     f"may miss in more than 5% of studies")
    if any(OUT_OF_BOUNDS in format_mean(row.summary) for row in rows):
        lines.append(f"{OUT_OF_BOUNDS} The interval reaches beyond the bounds of the score: near a "
                     f"bound a t-interval is rough")
    return lines


def _family_words(tested: list[Comparison]) -> str:
    """Return over how many comparisons Holm's correction is, within each sweep of a grid."""
    families: dict[str, int] = {}  # the largest of all scores: some may lack variants
    for pair in tested:
        families[pair.sweep] = max(pair.family, families.get(pair.sweep, 0))
    if max(families.values()) < 2:
        return ""
    others = families.pop("", 0)
    sizes = [f"{size} of the sweep of {sweep}" for sweep, size in families.items()]
    if others:
        sizes.append(f"{others} others" if families else f"{others} comparisons")
    return f", by Holm over {joined(sizes)} a score"
