"""Numbers of budgets as text, in the same digits wherever they are shown."""

from __future__ import annotations

import math

import numpy as np

from gan_bench.compare.search.budget_numbers import TableRow, confirmed_mean
from gan_bench.compare.search.budgets import Budgets, Draw
from gan_bench.compare.stats.words import verdict_words
from gan_bench.report.digits import DASH, format_mean, format_value

DIGITS = 4  # significant ones of a score


def score_decimals(budgets: Budgets) -> int | None:
    """Return the decimals with which the middle of all draws' scores has four digits."""
    scores = [abs(draw.selected) for tuned in budgets.variants for draw in tuned.draws]
    sizes = [size for size in scores if math.isfinite(size) and size > 0]
    if not sizes:
        return None
    return max(0, DIGITS - 1 - math.floor(math.log10(float(np.median(sizes)))))


def best_text(row: TableRow, decimals: int | None) -> str:
    """Return the median of the best with its quartiles, or the score of the file's own setting."""
    if row.best is None:
        return format_value(row.draw.selected, decimals=decimals) if row.draw else DASH
    return quartiles_text(row.best.median, row.best.good, row.best.bad, decimals)


def quartiles_text(median: float, good: float, bad: float, decimals: int | None) -> str:
    """Return a median with its quartiles, the lower one first."""
    if math.isnan(median):
        return DASH
    low, high = sorted((good, bad))
    return (f"{format_value(median, decimals=decimals)} [{format_value(low, decimals=decimals)}, "
            f"{format_value(high, decimals=decimals)}]")


def interval_text(row: TableRow, decimals: int | None) -> str:
    """Return the exact interval of the median; a dash where there is none."""
    if row.best is None or not row.best.has_interval:
        return DASH
    return (f"{format_value(row.best.low, decimals=decimals)} to "
            f"{format_value(row.best.high, decimals=decimals)}")


def confirmed_text(budgets: Budgets, row: TableRow, decimals: int | None) -> str:
    """Return the mean under fresh seeds of the draw that is selected at this budget."""
    if row.draw and row.draw.confirmed:
        return mean_text(budgets, row.draw)
    if row.best:
        return format_value(row.best.confirmed, decimals=decimals)
    return DASH


def mean_text(budgets: Budgets, draw: Draw) -> str:
    """Return a draw's mean under fresh seeds with its interval; infinite if a run diverged."""
    if draw.confirmed is None:
        return DASH
    if draw.confirmed.diverged:
        return (f"{format_value(confirmed_mean(budgets, draw))} "
                f"({draw.confirmed.diverged} of {draw.confirmed.n} diverged)")
    return format_mean(draw.confirmed)


def row_verdict(row: TableRow, reference: str) -> str:
    """Return the verdict of a row in words; the reference has none."""
    return "reference" if row.variant == reference else verdict_words(row.verdict)


def hours_text(hours: float) -> str:
    """Return device-hours to three digits."""
    return DASH if math.isnan(hours) else f"{hours:.3g}"


def budget_text(row: TableRow, most: int) -> str:
    """Return a budget in words.

    Args:
        most: How many random draws the variant has.
    """
    if row.n == 0:
        return "0 (the file's own)"
    return f"{row.n} (all)" if row.n == most else str(row.n)
