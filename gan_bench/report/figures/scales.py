"""The scale and the range of an axis of scores, and what would flatten it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, NullFormatter

from gan_bench.compare.stats.summary import Values
from gan_bench.report.digits import true_minus

LOG_RATIO = 50.0  # greatest over least value, above which an axis is logarithmic
FLAT = 4.0  # how much wider a bad variant makes an axis before it gets a second panel


def fit_axis(axes: Axes, along: Literal["x", "y"], values: Values, ends: Values) -> list[str]:
    """Choose the scale and range of an axis of scores, and return notes on them.

    The axis is logarithmic if positive values span more than a factor of 50. Its range covers the
    values and the ends of their intervals, but at most half of the values' range more on either
    side: an interval of two seeds may be ten times as long, and would hide the values.

    Args:
        values: Finite, at least one.
        ends: The ends of intervals; NaN is ignored.
    """
    low, high = float(values.min()), float(values.max())
    log = low > 0 and high / low > LOG_RATIO
    ends = np.concatenate([[low, high], ends[np.isfinite(ends)]])
    if log:
        getattr(axes, f"set_{along}scale")("log")
        axis = axes.xaxis if along == "x" else axes.yaxis
        axis.set_major_formatter(FuncFormatter(lambda value, _: true_minus(f"{value:g}")))
        axis.set_minor_formatter(NullFormatter())
        room = (high / low) ** 0.25
        floor, ceiling = low / room, high * room
    else:
        room = (high - low) / 2 or abs(high) / 10 or 1.0
        floor, ceiling = low - room, high + room
    first, last = max(floor, float(ends.min())), min(ceiling, float(ends.max()))
    if log:
        limits = first / room**0.2, last * room**0.2
    else:
        limits = first - room / 10, last + room / 10
    getattr(axes, f"set_{along}lim")(*limits)
    notes = ["Logarithmic axis."] if log else []
    if ends.min() < floor or ends.max() > ceiling:
        notes.append("An interval that meets the frame continues beyond it.")
    return notes


def flattening(by_variant: Mapping[str, Values]) -> list[str]:
    """Return the variants whose values flatten those of the others on an axis of all; often none.

    Without them, and they are fewer than half, the range is less than a quarter.
    """
    spans = {name: values for name, values in by_variant.items() if len(values)}
    if len(spans) < 3:
        return []
    centre = float(np.median([np.median(values) for values in spans.values()]))
    order = sorted(spans, key=lambda name: float(np.abs(spans[name] - centre).max()))
    whole = np.ptp(np.concatenate([*spans.values()]))
    for n in range(1, (len(order) - 1) // 2 + 1):
        others = np.concatenate([spans[name] for name in order[:-n]])
        if whole > FLAT * np.ptp(others) > 0:
            return [name for name in by_variant if name in order[-n:]]
    return []
