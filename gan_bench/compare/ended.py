"""What a comparison starts from: how each run ended, and what the experiment declares."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gan_bench.journal.schema import Status
from gan_bench.journal.status import Progress


@dataclass(frozen=True)
class Ended:
    """One run, as comparisons see it: from its journal, or from MLflow.

    Attributes:
        variant, seed: Which run.
        status: How it ended, or that it has not.
        scores: Its final scores, by name.
        protocols: How each was measured, by the same names.
        classes: How many classes its data has; 0 where they are not known.
    """

    variant: str
    seed: int
    status: Status
    scores: Mapping[str, float]
    protocols: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    classes: int = 0

    @classmethod
    def of(cls, run: Progress) -> Ended:
        """Return what a journal says."""
        return cls(run.spec.variant, run.spec.seed, run.state, run.scores, run.protocols,
                   run.spec.data.classes)

    @property
    def collapsed(self) -> bool | None:
        """Whether fewer than half of the modes, or classes, have a single final sample.

        A convention of this program, for which there is none in the field: a milder loss of modes
        is what recall and coverage tell. None where neither was counted, or it is no final score.
        """
        if self.status != Status.FINISHED:
            return None
        known = self.protocols.get("modes_covered", {}).get("real")
        for name, there_are in (("modes_covered", known), ("classes_covered", self.classes)):
            if name in self.scores and there_are:
                return bool(self.scores[name] < int(there_are) / 2)
        return None


