"""An amount that is given as it is, `0.5`, or as a share of something's mean, `5%`."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

PERCENT = r"^\s*(\d+(\.\d*)?|\.\d+)\s*%\s*$"


@dataclass(frozen=True)
class Amount:
    """A size in the units of a score, or a share of a mean.

    Attributes:
        value: Above 0; 0.05 for `5%`.
        relative: Whether it is a share.
    """

    value: float
    relative: bool = False

    def __str__(self) -> str:
        return f"{100 * self.value:.6g}%" if self.relative else f"{self.value:.6g}"


def parse_amount(given: object) -> Amount:
    """Return the amount that a number, or a string such as `0.5` or `5%`, stands for.

    Raises:
        ValueError: It is none, or not above 0.
    """
    if isinstance(given, Amount):
        return given
    text = str(given)
    relative = re.match(PERCENT, text) is not None
    try:
        value = float(text.strip().removesuffix("%")) / (100 if relative else 1)
    except ValueError:
        value = math.nan
    if isinstance(given, bool) or not 0 < value < math.inf:
        raise ValueError(f"an amount is a number above 0, or a percentage such as '5%', "
                         f"not {text!r:.60}")
    return Amount(value, relative)


AMOUNT_SCHEMA: dict[str, Any] = {"anyOf": [{"type": "number", "exclusiveMinimum": 0},
                                           {"type": "string", "pattern": PERCENT}]}
