"""Numbers as readers see them: digits by the standard error, and a true minus sign."""

from __future__ import annotations

import math
import re

from gan_bench.compare.stats.rounding import (
    decimals_of,
    interval_decimals,
    rounded,
    rounded_end,
    rounded_p,
)
from gan_bench.compare.stats.summary import Estimate, Summary

DASH, MINUS = "–", "−"
OUT_OF_BOUNDS, UNTRUSTED = "*", "†"  # behind an interval; a table's notes explain them


def true_minus(text: str) -> str:
    """Return text with a minus sign before its negative numbers, in place of a hyphen."""
    return re.sub(r"(?:(?<=[\s\[(,])|^)-(?=[\d∞.])", MINUS, text)


def marks(estimate: Estimate) -> str:
    """Return the marks behind an interval."""
    return (OUT_OF_BOUNDS * estimate.out_of_bounds) + (UNTRUSTED * estimate.is_marked)


def mean_decimals(summary: Summary) -> int | None:
    """Return the decimals of a variant's mean; None if it has no standard error."""
    n = summary.n - summary.diverged
    return decimals_of(summary.sd / math.sqrt(n)) if n > 1 else None


def format_value(value: float, signed: bool = False, decimals: int | None = None) -> str:
    """Return a number to so many decimals, or to four digits; a dash for NaN."""
    if math.isnan(value):
        return DASH
    if math.isinf(value):
        return "∞" if value > 0 else f"{MINUS}∞"
    return true_minus(rounded(value, signed, decimals))


def format_p(p: float) -> str:
    """Return a p-value to two digits, or to more if two would hide on which side of 0.05 it is."""
    return DASH if math.isnan(p) else rounded_p(p)


def format_interval(estimate: Estimate, signed: bool = False, decimals: int | None = None) -> str:
    """Return an estimate with its interval, or with the reason why it has none.

    Args:
        estimate: The estimate.
        signed: Whether a positive number has a plus sign.
        decimals: How many; None: by the interval, whose half is about two standard errors.
    """
    if math.isnan(estimate.value):
        return DASH
    if math.isnan(estimate.low):
        return f"{format_value(estimate.value, signed, decimals)} ({estimate.why_missing})"
    if decimals is None:
        decimals = interval_decimals(estimate)
    value = format_value(estimate.value, signed, decimals)
    low, high = (_format_end(end, signed, decimals) for end in (estimate.low, estimate.high))
    return f"{value} [{low}, {high}]{marks(estimate)}"


def _format_end(end: float, signed: bool, decimals: int | None) -> str:
    """Return an end of an interval, which may be infinite."""
    if not math.isfinite(end):
        return format_value(end, signed, decimals)
    return true_minus(rounded_end(end, signed, decimals))


def format_mean(summary: Summary) -> str:
    """Return a variant's mean with its interval, in digits by its standard error."""
    return format_interval(summary.mean, decimals=mean_decimals(summary))
