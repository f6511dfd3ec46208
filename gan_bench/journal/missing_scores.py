"""What a finished run was not measured by yet, though its specification asks for it. No torch."""

from __future__ import annotations

from dataclasses import dataclass, field

from gan_bench.config.spec import RunSpec, final_measurement, measurement_of
from gan_bench.journal.layout import snapshot_steps
from gan_bench.journal.schema import Status
from gan_bench.journal.score_names import (
    bare_name,
    is_measured_as,
    is_of_sets,
    latent_set_name,
)
from gan_bench.journal.status import Progress
from gan_bench.registry import METRICS, scores_of


@dataclass(frozen=True)
class MissingScores:
    """The metrics that a finished run lacks.

    Attributes:
        final: Names of metrics, after the last step.
        sets: Names of metrics, on further sets of latents.
        during: Names of metrics by step: those steps of `evaluate.every` that have a snapshot.
    """

    final: list[str] = field(default_factory=list)
    sets: list[str] = field(default_factory=list)
    during: dict[int, list[str]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.final or self.sets or self.during)


def missing_scores(run: Progress) -> MissingScores:
    """Return what can be measured of a run that its journal lacks; nothing unless it is FINISHED.

    A measurement counts if it was made on as many samples, and against the same reference, as the
    specification asks for.
    """
    spec = run.spec
    if run.state != Status.FINISHED or run.recording == spec.recording:
        return MissingScores()
    evaluate = spec.evaluate
    plan = evaluate.final or evaluate
    compared = run.compared(final_measurement(evaluate))
    wants_sets = evaluate.latent_sets > 1
    final = []
    for name in plan.metrics:
        names = {compared[score][0] for score in scores_of(METRICS[name]) if score in compared}
        without_sets = any(not is_of_sets(full, run.values) for full in names)
        if not names or (wants_sets and without_sets):
            final.append(name)
    sets = [name for name in plan.metrics if name in final or _lacks_set(run, name, compared)]
    during: dict[int, list[str]] = {}
    asked = measurement_of(evaluate)
    for step in sorted(_steps_during(spec) & snapshot_steps(run.folder)):
        measured = {score for full, steps in run.measured.items()
                    if step in steps and (score := bare_name(full))
                    and is_measured_as(run.protocol_of(full), score, asked)}
        lacking = [name for name in evaluate.metrics
                   if measured.isdisjoint(scores_of(METRICS[name]))]
        if lacking:
            during[step] = lacking
    return MissingScores(final, sets if wants_sets else [], during)


def _lacks_set(run: Progress, name: str, compared: dict[str, tuple[str, float]]) -> bool:
    """Whether a metric was not measured on all further sets of latents in the way it is compared.
    """
    for score in scores_of(METRICS[name]):
        if score not in compared:
            continue
        full = compared[score][0]
        names = [latent_set_name(k, score, full) for k in range(1, run.spec.evaluate.latent_sets)]
        if any(each not in run.values for each in names):
            return True
    return False


def _steps_during(spec: RunSpec) -> set[int]:
    """Return the steps of the curves, without the last one unless `final` differs."""
    every = spec.evaluate.every
    steps = set(range(every, spec.steps + 1, every)) if every else set()
    return steps if spec.evaluate.final else steps - {spec.steps}
