"""Which losses of a run MLflow receives: at most 2,000 points a curve. The journal keeps all.

A database of MLflow needs 0.4 to 0.5 GB for a million points, and its page draws 2,500 of a curve
at most. Scores are never thinned; neither is what a run without so many points logs. Which points
they are follows from the run's folder alone, so every replay gives the same rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gan_bench.journal.schema import Kind, Record, Status
from gan_bench.journal.scores.score_names import LOSSES

POINTS = 2_000  # of a curve


@dataclass(frozen=True)
class Thinning:
    """The steps of a run whose losses MLflow receives: the multiples of `every`, and the last.

    Attributes:
        every: In steps; 1 where nothing is left out.
        steps: How many the run has.
    """

    every: int
    steps: int

    def keeps(self, step: int) -> bool:
        """Whether MLflow receives the losses of this step."""
        return step % self.every == 0 or step == self.steps

    def values(self, records: Iterable[Record]) -> Iterator[tuple[Record, str, float]]:
        """Yield the losses, scores and measurements that MLflow receives, each with its record."""
        for record in records:
            if record["kind"] not in (Kind.METRICS, Kind.SYSTEM):
                continue
            is_kept = self.keeps(record["step"])
            for name, value in record["values"].items():
                if is_kept or not is_thinned(record, name):
                    yield record, name, value


def thinning_of(spec: Mapping[str, Any]) -> Thinning:
    """Return how the losses of a run are thinned.

    Args:
        spec: The plain values of its specification.
    """
    steps, log_every = spec.get("steps"), spec.get("log_every")
    if type(steps) is not int or type(log_every) is not int or steps < 1 or log_every < 1:
        return Thinning(1, 0)
    logged = steps // log_every
    factor = max(1, -(-logged // POINTS))
    with_last = logged // factor + (steps % (factor * log_every) > 0)
    factor += with_last > POINTS
    return Thinning(factor * log_every if factor > 1 else 1, steps)


def is_thinned(record: Record, name: str) -> bool:
    """Whether a value of a record belongs to a curve that may be thinned."""
    return record["kind"] == Kind.SYSTEM or name.startswith(LOSSES)


def last_losses(records: Sequence[Record]) -> list[Record]:
    """Return the last losses and measurements before a divergence; MLflow receives these too.

    A run that finishes has them at its last step, which is kept anyway. One that was killed goes
    on, and keeps no step that an undisturbed run would not keep.

    Args:
        records: All valid records of the run, its end included.
    """
    if records[-1]["kind"] != Kind.END or records[-1]["status"] != Status.DIVERGED:
        return []
    steps = [record["step"] for record in records if record["kind"] == Kind.METRICS
             and any(name.startswith(LOSSES) for name in record["values"])]
    return [record for record in records if steps and record["step"] == steps[-1]
            and record["kind"] in (Kind.METRICS, Kind.SYSTEM)]
