"""The distributions that a search draws settings from: the key `search.space`."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from gan_bench.config.search.draws import four_digits, uniform_index, uniform_share
from gan_bench.errors import shown

RANGES = ("uniform", "log_uniform", "int_uniform")
KINDS = (*RANGES, "choice")
LARGEST = 2**53  # integers up to it are floats too


class Distribution(BaseModel):
    """A distribution as the file writes it: one kind has a value, and the others are None.

    Attributes:
        uniform: [low, high]: real numbers, each as likely as another.
        log_uniform: [low, high], both above 0: real numbers whose logarithm is uniform.
        int_uniform: [low, high]: integers, both bounds among them.
        choice: The values, each as likely as another.
        only: By axis of `matrix` (or `variants`), the value of the variants that have the key; a
            list stands for any of its values.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)
    uniform: list[float | int] | None = None
    log_uniform: list[float | int] | None = None
    int_uniform: list[int] | None = None
    choice: list[Any] | None = None
    only: dict[str, Any] = {}

    @property
    def kind(self) -> str:
        """The name of the distribution."""
        return next(kind for kind in KINDS if getattr(self, kind) is not None)

    @property
    def bounds(self) -> tuple[float, float] | None:
        """The least and the greatest value; None for a choice."""
        return None if self.choice is not None else tuple(getattr(self, self.kind))

    @property
    def extremes(self) -> list[Any]:
        """The values to check a setting's limits with: both bounds, or each choice."""
        if self.choice is not None:
            return self.choice
        low, high = getattr(self, self.kind)
        return [low, high] if self.int_uniform is not None else [float(low), float(high)]

    def drawn(self, seed: int, key: str, draw: int) -> Any:
        """Return the value of a draw: real numbers have four significant digits.

        Args:
            seed, key, draw: As in `draws.uniform_share`.
        """
        if self.choice is not None:
            return self.choice[uniform_index(seed, key, draw, len(self.choice))]
        low, high = getattr(self, self.kind)
        if self.int_uniform is not None:
            return low + uniform_index(seed, key, draw, high - low + 1)
        share = uniform_share(seed, key, draw)
        if self.log_uniform is not None:
            value = math.exp(math.log(low) + share * (math.log(high) - math.log(low)))
        else:
            value = low + share * (high - low)
        return min(max(four_digits(value), float(low)), float(high))

    def __str__(self) -> str:
        values = getattr(self, self.kind)
        texts = [_text(value) for value in values]
        line = f"{self.kind} " + (", ".join(texts) if self.kind == "choice" else " .. ".join(texts))
        if not self.only:
            return line
        where = ", ".join(f"{axis} {_text(value)}" for axis, value in self.only.items())
        return f"{line} (only {where})"


def _text(value: object) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    return value if isinstance(value, str) else json.dumps(value)


def parse_distribution(given: object) -> Distribution:
    """Return the distribution that a mapping describes: `{log_uniform: [1e-5, 1e-3]}`.

    Raises:
        ValueError: It describes none; the message says why.
    """
    if isinstance(given, Distribution):
        return given
    if not isinstance(given, Mapping):
        raise ValueError(f"is a distribution, such as {{log_uniform: [1e-5, 1e-3]}}, not "
                         f"{shown(given)}")
    kinds = [key for key in given if key != "only"]
    unknown = [key for key in kinds if key not in KINDS]
    if unknown or len(kinds) != 1:
        what = f"no distribution is called {shown(unknown[0])}" if unknown else (
            f"has {len(kinds)} distributions, and needs one")
        raise ValueError(f"{what}; known: {', '.join(KINDS)}")
    kind, values, only = kinds[0], given[kinds[0]], given.get("only", {})
    problem = _choice_problem(values) if kind == "choice" else _range_problem(kind, values)
    if problem:
        raise ValueError(problem)
    if not isinstance(only, Mapping) or ("only" in given and not only):
        raise ValueError(f"only is a mapping of axes to values, such as {{penalties: r1}}, not "
                         f"{shown(only)}")
    return Distribution.model_validate({kind: values, "only": dict(only)})


def _range_problem(kind: str, values: object) -> str:
    """Return what is wrong with the bounds of a distribution; empty if nothing is."""
    takes, noun = (_is_integer, "integers") if kind == "int_uniform" else (_is_number, "numbers")
    if not isinstance(values, list | tuple) or len(values) != 2 or not all(map(takes, values)):
        return f"{kind} has two bounds, [low, high], which are {noun}, not {shown(values)}"
    low, high = values
    if kind == "log_uniform" and min(low, high) <= 0:
        return (f"log_uniform needs bounds above 0, not {shown(values)}: they are values, and not "
                f"exponents; use uniform for a range with 0")
    if low >= high:
        order = "are reversed" if low > high else "are equal"
        return f"the bounds of {kind} {order}: {shown(values)}; write [low, high]"
    if not math.isfinite(high - low):
        return f"the bounds of {kind} are too far apart: {shown(values)}"
    return ""


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_integer(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) <= LARGEST


def _choice_problem(values: object) -> str:
    """Return what is wrong with the values of a choice; empty if nothing is."""
    if not isinstance(values, list | tuple):
        return f"choice has a list of values, not {shown(values)}"
    if len(values) < 2:
        return f"choice has {len(values)} values, and needs two; put a single one into `base`"
    texts = [json.dumps(value, sort_keys=True) for value in values]
    if twice := [value for value, text in zip(values, texts, strict=True)
                 if texts.count(text) > 1]:
        return f"choice has {shown(twice[0])} twice"
    return ""


_BOUNDS = {"type": "array", "minItems": 2, "maxItems": 2}
_SCHEMA = {
    "type": "object", "minProperties": 1, "maxProperties": 2, "additionalProperties": False,
    "properties": {
        **{kind: {**_BOUNDS, "items": {"type": "number"}} for kind in ("uniform", "log_uniform")},
        "int_uniform": {**_BOUNDS, "items": {"type": "integer"}},
        "choice": {"type": "array", "minItems": 2},
        "only": {"type": "object", "minProperties": 1}}}
Space = Annotated[dict[str, Annotated[Distribution, BeforeValidator(parse_distribution),
                                      WithJsonSchema(_SCHEMA)]], Field(min_length=1)]
