"""Means of logged curves that an experiment declares as scores: a gradient's norm early on, say."""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

# What training logs at every `log_every` steps, and at the last.
Logged = Literal[
    "train/g_loss", "train/g_grad_norm", "train/d_loss", "train/d_loss_real", "train/d_loss_fake",
    "train/d_penalty", "train/d_grad_norm", "train/d_real", "train/d_fake",
    "train/d_accuracy_real", "train/d_accuracy_fake",
]
Steps = Annotated[list[Annotated[int, Field(ge=1)]], Field(min_length=2, max_length=2)]


class CurveMean(BaseModel):
    """The mean of a logged curve between two steps, which is compared as a score is.

    It is no measurement of what the run has learnt, so no run has it in its id: it may be declared,
    changed and left out later, and the runs stay what they are.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)
    of: Logged = Field(description="the curve, as it is logged")
    steps: Steps = Field(description="first and last step of those over which the mean is taken")
    better: Literal["lower", "higher"] | None = Field(
        None, description="which way is better; null: neither, and there is no verdict")

    @model_validator(mode="after")
    def _in_order(self) -> CurveMean:
        if self.steps[0] > self.steps[1]:
            raise ValueError(f"steps: the first is after the last: {self.steps}")
        return self

    def logged(self, every: int, steps: int, due: Collection[int] = (1,)) -> int:
        """Return at how many steps a run of so many, logged every so often, has a value of it.

        Args:
            due: Every so many steps there is something to log, for one reason or another.
        """
        first, last = self.steps
        own = {*range(-(-first // every) * every, min(last, steps) + 1, every)}
        own |= {steps} if first <= steps <= last else set()
        return sum(any(step % one == 0 for one in due) for step in own)
