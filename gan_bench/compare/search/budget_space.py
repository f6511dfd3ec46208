"""The space that a search draws from: where draws lie in it, and whether it ends too early."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from pydantic import BaseModel, TypeAdapter
from scipy import stats

from gan_bench.compare.frames import PARAM
from gan_bench.compare.stats.summary import Values
from gan_bench.config.search.drawn import LISTED, REGISTRIES
from gan_bench.config.search.search import SearchSpec
from gan_bench.config.search.space import Distribution
from gan_bench.config.spec import RunSettings
from gan_bench.registry import Entry

if TYPE_CHECKING:
    from gan_bench.compare.search.budgets import Draw, TunedVariant

EDGE = 0.05  # of the range of a distribution, on its own scale
QUARTER = 0.25
BEST_SHARE = 0.1  # of the draws are called the best,
LEAST_BEST = 3  # but at least so many
LIKELY = EDGE * (1 - (1 - QUARTER) ** 2)  # that 2 of the 3 best lie so near to a bound by chance
PARTS = 5  # of a range, in each of which the share of diverged draws is counted


@dataclass(frozen=True)
class Dimension:
    """A setting that is drawn.

    Attributes:
        key: Dotted, as in the file.
        kind: The name of its distribution: uniform, log_uniform, int_uniform, choice.
        low, high: Its bounds; NaN of a choice.
        options: What a choice is from, as text; else empty.
        words: The distribution as the file has it.
    """

    key: str
    kind: str
    low: float
    high: float
    options: tuple[str, ...]
    words: str

    @property
    def is_log(self) -> bool:
        """Whether its scale is logarithmic."""
        return self.kind == "log_uniform"

    @property
    def is_number(self) -> bool:
        """Whether it has bounds."""
        return not self.options

    def place(self, value: float) -> float:
        """Return where a value lies between the bounds, 0..1, on the distribution's own scale."""
        if self.is_log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)

    def away(self, value: float, is_upper: bool) -> float:
        """Return the chance of a draw to lie as near to a bound as a value does, 0..1."""
        if self.kind == "int_uniform":
            return (abs(value - (self.high if is_upper else self.low)) + 1) / self._integers
        return abs(is_upper - self.place(value))

    def share_near(self, share: float) -> float:
        """Return which share of the values is next to a bound, for a share of the range.

        Of few integers it is that of the bound alone.
        """
        if self.kind != "int_uniform":
            return share
        return max(1, math.floor(share * self._integers)) / self._integers

    @property
    def _integers(self) -> float:
        return self.high - self.low + 1


@dataclass(frozen=True)
class Edge:
    """Best draws of a variant that lie at a bound of the space.

    Attributes:
        variant, key: Whose, and of which setting.
        value: That of the best draw.
        bound: The bound.
        is_upper: Which of the two it is.
        near, of: How many of the best draws lie in the quarter next to it, and of how many.
    """

    variant: str
    key: str
    value: str
    bound: float
    is_upper: bool
    near: int
    of: int

    @property
    def sentence(self) -> str:
        """The warning."""
        side = "upper" if self.is_upper else "lower"
        return (f"{self.variant}: the best draw has {self.key} {self.value}, within 5% of the "
                f"{side} bound, {self.bound:g}, and {self.near} of the {self.of} best lie in the "
                f"quarter next to it: better values may lie beyond, so widen the space")


def dimensions_of(search: SearchSpec, keys: Sequence[str]) -> tuple[Dimension, ...]:
    """Return the settings that are drawn for a variant: those of the given keys."""
    return tuple(_dimension(key, search.space[key]) for key in keys if key in search.space)


def _dimension(key: str, distribution: Distribution) -> Dimension:
    low, high = distribution.bounds or (math.nan, math.nan)
    options = tuple(map(text_of, distribution.choice or ()))
    return Dimension(key, distribution.kind, float(low), float(high), options, str(distribution))


def all_dimensions(variants: Sequence[TunedVariant]) -> list[Dimension]:
    """Return the drawn settings of all variants, in the order of the file."""
    return list(dict.fromkeys(each for tuned in variants for each in tuned.dimensions))


def values_of(search: SearchSpec, index: int, dimensions: Sequence[Dimension], runs: pd.DataFrame,
              ) -> dict[str, str]:
    """Return the settings of a draw as text, by key; of the file's own setting, what runs have."""
    if search.defaults and index == 0:
        first = runs.iloc[0]
        return {each.key: str(first.get(PARAM + params_of(each.key)[0], ""))
                for each in dimensions}
    return {each.key: text_of(search.space[each.key].drawn(search.seed, each.key, index))
            for each in dimensions}


def params_of(key: str) -> tuple[str, ...]:
    """Return the flat names of a setting: `optimizer.lr` stands for both networks' optimizers."""
    head, dot, tail = key.partition(".")
    if head != "optimizer":
        return (key,)
    return f"g_optimizer{dot}{tail}", f"d_optimizer{dot}{tail}"


def text_of(value: object) -> str:
    """Return a value as flat settings have it."""
    return value if isinstance(value, str) else json.dumps(value)


def edges_of(tuned: TunedVariant, sign: float) -> list[Edge]:
    """Return the bounds at which a variant's best draws lie, on the scale of each distribution.

    The best draw lies within 5% of the bound, and most of the best in the quarter next to it; the
    best are a tenth of the random draws, at least three. Of a setting that changes nothing, that
    happens with 20 draws in 4% of searches. Where the score gets better up to the bound, the best
    of 20 lies as near in 64%. Of few integers a bound itself is likely, so there more of the best
    have to lie near it, until chance gives that as seldom. A bound beyond which the setting has no
    values is not named.

    Args:
        tuned: The variant and its draws.
        sign: What turns the score into one to minimise.
    """
    best = best_draws(tuned, sign)
    edges = []
    for dimension in tuned.dimensions:
        if not dimension.is_number or len(best) < 2:
            continue
        values = [draw.values[dimension.key] for draw in best]
        for is_upper, bound in ((False, dimension.low), (True, dimension.high)):
            edge, quarter = map(dimension.share_near, (EDGE, QUARTER))
            away = [dimension.away(float(value), is_upper) for value in values]
            near = sum(chance <= quarter for chance in away)
            by_chance = edge * float(stats.binom.sf(near - 2, len(best) - 1, quarter))
            if (away[0] <= edge and 2 * near > len(best) and by_chance <= LIKELY
                    and not _is_own_limit(dimension.key, bound, is_upper)):
                edges.append(Edge(tuned.variant, dimension.key, values[0], bound, is_upper, near,
                                  len(best)))
    return edges


def _is_own_limit(key: str, bound: float, is_upper: bool) -> bool:
    """Whether no part that has the setting takes values beyond the bound."""
    head, _, argument = key.partition(".")
    if not argument:
        models: list[type[BaseModel]] = [RunSettings]
    elif head in LISTED:
        name, _, argument = argument.partition(".")
        models = _models([LISTED[head].get(name)])
    else:
        parts = REGISTRIES["g_optimizer" if head == "optimizer" else head]
        models = _models([parts.get(name) for name in parts.names()])
    name, limit = argument or head, "maximum" if is_upper else "minimum"
    fields = [model.model_fields[name] for model in models if name in model.model_fields]
    limits = [_limit(TypeAdapter(field.rebuild_annotation()).json_schema(), limit)
              for field in fields]
    return bool(limits) and all(each == bound for each in limits)


def _models(entries: Sequence[Entry[Any, Any] | None]) -> list[type[BaseModel]]:
    return [entry.schema for entry in entries if entry is not None]


def _limit(schema: Mapping[str, Any], name: str) -> float | None:
    """Return a limit of the numbers that a schema allows; None if it has none."""
    return next((float(each[name]) for each in (schema, *schema.get("anyOf", ()))
                 if name in each), None)


def best_draws(tuned: TunedVariant, sign: float) -> list[Draw]:
    """Return the best tenth of the random draws that did not diverge, at least three of them."""
    finite = [draw for draw in tuned.random if math.isfinite(draw.selected)]
    number = max(LEAST_BEST, math.ceil(BEST_SHARE * len(tuned.random)))
    return sorted(finite, key=lambda draw: (sign * draw.selected, draw.index))[:number]


def diverged_shares(tuned: TunedVariant, dimension: Dimension) -> tuple[Values, Values]:
    """Return the share of a variant's random draws that diverged, by part of a setting's range.

    Returns:
        (k + 1,) the ends of the parts: fifths of the range on the distribution's own scale; of a
        choice 0, 1, …, a part for each option. (k,) the shares; NaN for a part without draws.
    """
    values = [draw.values[dimension.key] for draw in tuned.random]
    lost = np.array([not math.isfinite(draw.selected) for draw in tuned.random], float)
    if dimension.is_number:
        places = np.array([dimension.place(float(value)) for value in values])
        part = np.clip((places * PARTS).astype(int), 0, PARTS - 1)
        steps = np.linspace(0, 1, PARTS + 1)
        width = dimension.high - dimension.low
        edges = (dimension.low * (dimension.high / dimension.low) ** steps if dimension.is_log
                 else dimension.low + width * steps)
    else:
        part = np.array([dimension.options.index(value) for value in values], int)
        edges = np.arange(len(dimension.options) + 1, dtype=float)
    parts = len(edges) - 1
    counts = np.bincount(part, minlength=parts)
    sums = np.bincount(part, weights=lost, minlength=parts)
    return edges, np.divide(sums, counts, out=np.full(parts, math.nan), where=counts > 0)
