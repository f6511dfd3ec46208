"""Numbers in the digits that their standard error allows, as plain text with a hyphen as minus."""

from __future__ import annotations

import math

from gan_bench.compare.stats.doubt import ALPHA
from gan_bench.compare.stats.summary import Estimate

MOST_DECIMALS, LARGEST = 6, 1e6  # beyond them powers of ten may be shown
MOST_DIGITS = 12  # four, where it would take more


def decimals_of(error: float) -> int | None:
    """Return the decimals that show two digits of a standard error; None if it is unknown or 0."""
    if not 0 < error < math.inf:
        return None
    return max(0, 1 - math.floor(math.log10(error)))


def interval_decimals(estimate: Estimate) -> int | None:
    """Return the decimals by an interval, whose half is about two standard errors."""
    return decimals_of((estimate.high - estimate.low) / 4)


def rounded(value: float, signed: bool = False, decimals: int | None = None) -> str:
    """Return a finite number to so many decimals, or to four digits."""
    sign = "+" if signed else ""
    if decimals is None:
        return f"{value:{sign}.4g}"
    if decimals > MOST_DECIMALS or abs(value) >= LARGEST:
        before = math.floor(math.log10(abs(value))) + 1 if value else 1  # the point
        digits = before + decimals if 4 < before + decimals <= MOST_DIGITS else 4
        return f"{value:{sign}.{digits}g}"
    return f"{value:{sign}.{decimals}f}"


def rounded_end(end: float, signed: bool = False, decimals: int | None = None) -> str:
    """Return an end of an interval; one near 0 keeps a digit, so that its side of 0 is seen."""
    if end and math.isfinite(end) and decimals is not None and not round(end, decimals):
        return f"{end:{'+' if signed else ''}.1g}"
    return rounded(end, signed, decimals)


def rounded_p(p: float) -> str:
    """Return a p-value to two digits, or to more if two would hide on which side of 0.05 it is."""
    text = f"{p:.2g}"
    return f"{p:.4g}" if float(text) == ALPHA != p else text
