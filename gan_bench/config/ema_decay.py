"""The decay of G's weight average at each step, from `ema` and the keys beside it. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import fsum, log, log2
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic_core import PydanticCustomError, core_schema

from gan_bench.errors import worded
from gan_bench.registry import MayChange, Scheduled, read_scheduled

MOST_INITIAL = 0.01  # a larger share of random weights in an average is refused
EULER = 0.5772156649015329
LIMITS = MayChange(ge=0)
_STRICT = ConfigDict(strict=True, allow_inf_nan=False)
_DECAY = TypeAdapter(Annotated[float, Field(gt=0, lt=1)], config=_STRICT)


class HalfLife(BaseModel):
    """An average that halves the weight of earlier networks each so many images.

    Attributes:
        half_life: In real examples that D is given. At 0 the average is G.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", **_STRICT)
    half_life: float | Scheduled

    def at(self, step: int, steps: int, images: int) -> float:
        """Return the half-life at a step; arguments as of `Scheduled.at`."""
        value = self.half_life
        return value.at(step, steps, images) if isinstance(value, Scheduled) else value


class EmaForm:
    """Of a key's type: null, a decay, or a mapping with `half_life`."""

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> core_schema.CoreSchema:
        """Let pydantic read all three, with errors of one line."""
        return core_schema.no_info_plain_validator_function(_read)

    def __get_pydantic_json_schema__(self, schema: core_schema.CoreSchema, handler: Any,
                                     ) -> dict[str, Any]:
        """Return the forms, for editors."""
        points = MayChange(ge=0).__get_pydantic_json_schema__(schema, handler)
        return {"anyOf": [
            {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1},
            {"type": "object", "properties": {"half_life": points}, "required": ["half_life"],
             "additionalProperties": False}, {"type": "null"}]}


def _read(value: object) -> float | HalfLife | None:
    if value is None or isinstance(value, HalfLife):
        return value
    if not isinstance(value, Mapping):
        try:
            return _DECAY.validate_python(value)
        except ValidationError as error:
            raise PydanticCustomError("ema", "{why}", {"why": worded(error.errors()[0])}) from None
    if {*value} != {"half_life"}:
        raise PydanticCustomError("ema", "must be a number, or a mapping with half_life, "
                                         "a number of images, and no other key")
    given = read_scheduled(value["half_life"])
    is_number = isinstance(given, int | float) and not isinstance(given, bool)
    if not isinstance(given, Scheduled) and not (is_number and 0 < float(str(given)) < 1e300):
        raise PydanticCustomError("ema", "half_life must be a number of images above 0, or "
                                         "points")
    return HalfLife(half_life=LIMITS.bounded(given) if isinstance(given, Scheduled)
                    else float(str(given)))


@dataclass(frozen=True)
class Averaging:
    """The rule of a run's average.

    Attributes:
        ema: The decay for a step, below 1, or the half-life.
        ramp: As `ema_ramp`.
        start: The first step that averages; the average is a copy of G before.
        steps: The number of all steps.
        images: The number of real examples that D is given in a step.
    """

    ema: float | HalfLife
    ramp: float | None = None
    start: int = 1
    steps: int = 1
    images: int = 1

    def decay(self, step: int) -> float:
        """Return the weight that the average has at a step against G's weights, below 1.

        With a ramp, the half-life of the average is at most `ramp` times the steps so far, or the
        images before this step, as in StyleGAN2's training loop (Karras et al. 2020, "Analyzing
        and improving the image quality of StyleGAN", `ema_kimg` and `ema_rampup`).
        """
        if step < self.start:
            return 0.0
        if isinstance(self.ema, HalfLife):
            images = self.half_life(step)
            return 0.5 ** min(self.images / images, 2_000) if images else 0.0
        ramp = self.ramp
        return self.ema if ramp is None else min(self.ema, 0.5 ** (1 / (ramp * step)))

    def half_life(self, step: int) -> float:
        """Return the half-life at a step, in images, of an average that has one."""
        assert isinstance(self.ema, HalfLife)
        images = self.ema.at(step, self.steps, self.images)
        return images if self.ramp is None else min(
            images, self.ramp * (step - 1) * self.images)

    def initial_share(self) -> float:
        """Return the share, 0..1, that G's initial weights have in the average at the end.

        It is the product of the decays, as a sum of logarithms in base 2. Of a constant decay, the
        k-th step of the ramp adds 1 / (ramp · k), and each later one the inverse of the half-life.
        """
        if self.start > 1:
            return 0.0
        if isinstance(self.ema, HalfLife):
            return self._product()
        half_life = -1 / log2(self.ema)
        ramped = 0 if self.ramp is None else int(min(self.steps, half_life / self.ramp))
        halvings = (self.steps - ramped) / half_life
        if self.ramp is not None:
            halvings += _harmonic(ramped) / self.ramp
        return float(2.0 ** -halvings)

    def _product(self) -> float:
        share = 1.0
        for step in range(1, self.steps + 1):
            share *= self.decay(step)
            if share < MOST_INITIAL / 1_000:  # what follows makes it smaller still
                break
        return share


def _harmonic(n: int) -> float:
    """1 + 1/2 + … + 1/n; of many terms by Euler's expansion, whose error is then below 1e-13."""
    if n <= 1_000:
        return fsum(1 / k for k in range(1, n + 1))
    return log(n) + EULER + 1 / (2 * n) - 1 / (12 * n * n)
