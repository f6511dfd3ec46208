"""The runs that a comparison starts from: how each ended, and its scores."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gan_bench.journal.schema import Status
from gan_bench.journal.status import Progress


@dataclass(frozen=True)
class RunResult:
    """One run, as comparisons see it: read from its journal, or from MLflow.

    Attributes:
        variant, seed: The run's.
        status: How the run ended, or that it has not ended.
        scores: The final scores, by name.
        protocols: How each score was measured, by the same names.
        classes: The number of classes of the data; 0 if unknown.
    """

    variant: str
    seed: int
    status: Status
    scores: Mapping[str, float]
    protocols: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    classes: int = 0

    @classmethod
    def of(cls, run: Progress) -> RunResult:
        """Return the result that a journal records."""
        return cls(run.spec.variant, run.spec.seed, run.state, run.scores, run.protocols,
                   run.spec.data.classes)

    @property
    def collapsed(self) -> bool | None:
        """Whether fewer than half of the modes, or of the classes, have a final sample.

        The field has no convention for a collapse; this one is the program's. Recall and coverage
        show a milder loss of modes. None if neither was counted, or the run has not finished.
        """
        if self.status != Status.FINISHED:
            return None
        modes = self.protocols.get("modes_covered", {}).get("real")
        for name, total in (("modes_covered", modes), ("classes_covered", self.classes)):
            if name in self.scores and total:
                return bool(self.scores[name] < int(total) / 2)
        return None
