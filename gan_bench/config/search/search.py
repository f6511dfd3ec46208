"""The key `search`: settings that are drawn at random, for each variant of the matrix."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, field_serializer, field_validator

from gan_bench.config.search.space import Distribution, Space

SELECT, CONFIRM = "select", "confirm"  # the stages of a search
# Keys and values by which other programs name what chooses the next draw by the results so far.
ADAPTIVE = ("sampler", "method", "algorithm", "strategy", "scheduler", "pruner", "early_stopping",
            "early_terminate")
WHY_RANDOM = ("draws are uniform and independent, because the estimators of the best of n draws "
              "need that: an adaptive sampler or an early stop makes them invalid; leave it out")
Seeds = Annotated[list[Annotated[int, Field(ge=0, lt=2**63)]], Field(min_length=1)]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


def _once(seeds: list[int]) -> list[int]:
    if twice := [seed for seed in seeds if seeds.count(seed) > 1]:
        raise ValueError(f"{twice[0]} is given twice")
    return seeds


class SelectSpec(_Frozen):
    """The runs that choose among the draws of a variant."""

    by: str = Field(description="the final score that chooses: its mean over the select seeds; "
                    "one that compares with training examples leaves the test examples untouched")
    seeds: Seeds = Field(description="every draw is trained once with each")

    _unique = field_validator("seeds")(_once)


class ConfirmSpec(_Frozen):
    """The runs of the chosen draws, under fresh seeds."""

    seeds: Seeds = Field(description="every chosen draw is trained once with each; other seeds "
                         "than those of `select`")
    best: Annotated[int, Field(ge=1)] = Field(
        1, description="how many draws of each variant are chosen")

    _unique = field_validator("seeds")(_once)


class SearchSpec(_Frozen):
    """A random search: `draws` settings of each variant, of which the best are confirmed."""

    draws: Annotated[int, Field(ge=1)] = Field(
        description="how many settings each variant is trained with, the file's own among them; "
        "more draws keep the earlier ones")
    seed: Annotated[int, Field(ge=0, lt=2**63)] = Field(
        0, description="the drawn values derive from it, the key and the number of the draw")
    defaults: bool = Field(
        True, description="true: draw 0 is the file's own setting; false: it is drawn too")
    space: Space = Field(
        description="a distribution by dotted key (`g_optimizer.lr`, `penalties.r1.gamma`): "
        "uniform, log_uniform or int_uniform with [low, high], or choice with a list of values; "
        "`only: {axis: value}` names the variants that have the key")
    select: SelectSpec = Field(description="the first stage")
    confirm: ConfirmSpec = Field(description="the second stage")

    @field_serializer("space")
    def _as_written(self, space: Mapping[str, Distribution]) -> dict[str, Any]:
        return {key: distribution.model_dump(mode="json", exclude_defaults=True)
                for key, distribution in space.items()}

    def values(self, keys: Iterable[str], draw: int) -> dict[str, Any]:
        """Return the value of each key in a draw; none for the file's own setting.

        Args:
            keys: Those of the space that a variant has.
            draw: Its index.
        """
        if self.defaults and draw == 0:
            return {}
        return {key: self.space[key].drawn(self.seed, key, draw) for key in keys}

    def stage_of(self, seed: int) -> str:
        """Return the stage whose seeds hold this one; empty if none does."""
        if seed in self.select.seeds:
            return SELECT
        return CONFIRM if seed in self.confirm.seeds else ""
