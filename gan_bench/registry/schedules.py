"""The learning-rate schedules and what each states; `components.optimizers.rate` computes them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class ScheduleFacts:
    """What a schedule states.

    Attributes:
        whole_run: Whether the rate at a step depends on the number of all steps, so that a run with
            more steps begins differently.
        lowers: Whether the rate is lowered at some steps, and constant in between.
    """

    whole_run: bool = False
    lowers: bool = False


SCHEDULES = {
    "constant": ScheduleFacts(),
    "linear": ScheduleFacts(whole_run=True),
    "cosine": ScheduleFacts(whole_run=True),
    "step": ScheduleFacts(lowers=True),
    "plateau": ScheduleFacts(lowers=True),
}
