"""Numbers that change over a run: an argument that may be given as values at points.

`gamma: {points: [[0, 0.05], [2000, 0.005]], shape: cosine}` stands where a number may. The argument
says so by its type, `Annotated[float, MayChange(gt=0)]`. Its factory is given a scalar tensor then,
which holds the value of each step before the step begins.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    ValidationError,
    model_validator,
)
from pydantic_core import PydanticCustomError, core_schema

from gan_bench.errors import shown, worded

ERROR = "scheduled"  # the type of the errors about such a number
LIMITS = {"gt": "greater than {:g}", "ge": "at least {:g}",
          "lt": "less than {:g}", "le": "at most {:g}"}
Point = Annotated[list[float], Field(min_length=2, max_length=2)]


class Scheduled(BaseModel):
    """A number that changes with the steps, and is constant before its points and after them.

    Attributes:
        points: [place, value] of each, the places from 0 upwards.
        shape: Between two points it moves in a straight line, or along half a cosine.
        unit: What places count: `steps` that are done; `images`, the real examples that D has been
            given; or `run`, the share of the run's steps that are done, 0..1.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)
    points: Annotated[list[Point], Field(min_length=2, max_length=1000)]
    shape: Literal["linear", "cosine"] = "linear"
    unit: Literal["steps", "images", "run"] = "steps"

    @model_validator(mode="after")
    def _check_places(self) -> Self:
        places = [place for place, _ in self.points]
        if places[0] < 0:
            raise ValueError(f"its points begin at 0 or later, not at {places[0]:g}")
        for before, after in pairwise(places):
            if not before < after:
                raise ValueError(f"the places of its points must increase, but {after:g} follows "
                                 f"{before:g}")
        if self.unit == "run" and places[-1] > 1:
            raise ValueError(f"with unit run, places are shares of the run from 0 to 1, not "
                             f"{places[-1]:g}")
        return self

    @property
    def first(self) -> float:
        """The value at the beginning of a run."""
        return self.points[0][1]

    def at(self, step: int, steps: int, images: int) -> float:
        """Return the value of a step, from 1.

        Args:
            steps: The number of all steps.
            images: The number of real examples that D is given in a step.
        """
        done = step - 1
        return self._value({"steps": done, "images": done * images, "run": done / steps}[self.unit])

    def begins_after(self, steps: int, images: int) -> bool:
        """Return whether the last step comes before any change; arguments as of `at`.

        Points from 0 on begin to change at once, in a run of a single step too.
        """
        last = steps - 1
        done = {"steps": last, "images": last * images, "run": last / steps}[self.unit]
        return self.points[0][0] > 0 and done <= self.points[0][0]

    def _value(self, place: float) -> float:
        after = bisect_right([point for point, _ in self.points], place)
        if after in (0, len(self.points)):
            return self.points[min(after, len(self.points) - 1)][1]
        (begin, start), (finish, end) = self.points[after - 1:after + 1]
        done = (place - begin) / (finish - begin)
        left = 1 - done if self.shape == "linear" else (1 + math.cos(math.pi * done)) / 2
        return end + (start - end) * left


def read_scheduled(value: object) -> object:
    """Return a mapping as the number that it describes, and all else as it is.

    Raises:
        PydanticCustomError: It describes none; one line says why.
    """
    if not isinstance(value, Mapping):
        return value
    try:
        return Scheduled.model_validate(dict(value))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"]))
        cause = first.get("ctx", {}).get("error")
        why = str(cause) if cause is not None else f"{worded(first)}, not {shown(first['input'])}"
        if first["type"] == "missing":
            why, place = "a number that changes has points: [[0, 0.1], [2000, 0.01]]", ""
        elif first["type"] == "extra_forbidden":
            why, place = f"a number that changes has points, shape and unit, but no {place}", ""
        raise PydanticCustomError(ERROR, "{why}",
                                  {"why": f"{place}: {why}" if place else why}) from None


@dataclass(frozen=True)
class MayChange:
    """Of the type of an argument: it is a number within limits, or is `Scheduled` within them."""

    gt: float | None = None
    ge: float | None = None
    lt: float | None = None
    le: float | None = None

    @property
    def limits(self) -> dict[str, Any]:
        """The limits that there are, as pydantic names them."""
        return {name: value for name in LIMITS if (value := getattr(self, name)) is not None}

    def bounded(self, number: Scheduled) -> Scheduled:
        """Return the number, all of whose values are within the limits.

        Raises:
            PydanticCustomError: One is not.
        """
        for place, value in number.points:
            for name, limit in self.limits.items():
                if not {"gt": value > limit, "ge": value >= limit,
                        "lt": value < limit, "le": value <= limit}[name]:
                    raise PydanticCustomError(ERROR, "{why}", {
                        "why": f"its values must be {LIMITS[name].format(limit)}, and that at "
                               f"{place:g} is {value:g}"})
        return number

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler,
                                     ) -> core_schema.CoreSchema:
        """Let pydantic accept both forms."""
        plain = handler.generate_schema(Annotated[source, Field(**self.limits)])
        changing = core_schema.no_info_after_validator_function(
            self.bounded, handler.generate_schema(Scheduled))
        return core_schema.no_info_before_validator_function(
            read_scheduled, core_schema.tagged_union_schema(
                {"number": plain, "scheduled": changing},
                lambda value: "scheduled" if isinstance(value, Scheduled) else "number"))

    def __get_pydantic_json_schema__(self, schema: core_schema.CoreSchema, handler: Any,
                                     ) -> dict[str, Any]:
        """Return both forms, for editors."""
        names = {"gt": "exclusiveMinimum", "ge": "minimum", "lt": "exclusiveMaximum",
                 "le": "maximum"}
        plain = {names[name]: limit for name, limit in self.limits.items()}
        changing = Scheduled.model_json_schema()
        return {"anyOf": [{"type": "number", **plain}, {
            key: changing[key] for key in ("type", "properties", "required",
                                           "additionalProperties")}]}
