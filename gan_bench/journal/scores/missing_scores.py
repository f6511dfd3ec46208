"""What a finished run was not measured by yet, though its specification asks for it. No torch."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

from gan_bench.config.spec import RunSpec
from gan_bench.journal.about import asked_weights
from gan_bench.journal.layout import snapshot_steps
from gan_bench.journal.schema import Status
from gan_bench.journal.scores.score_names import bare_name, is_of_sets, latent_set_name
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

    A measurement counts if `score_names.is_measured_as` the specification asks for.
    """
    spec = run.spec
    if run.state != Status.FINISHED or is_recorded(run.recording, spec, run.folder):
        return MissingScores()
    evaluate = spec.evaluate
    plan = evaluate.final or evaluate
    compared = run.compared(run.asked())
    wants_sets = evaluate.latent_sets > 1
    final = []
    for name in plan.metrics:
        names = {compared[score][0] for score in scores_of(METRICS[name]) if score in compared}
        without_sets = any(not is_of_sets(full, run.values) for full in names)
        if _is_lacking(run, spec.steps, name, compared) or (wants_sets and without_sets):
            final.append(name)
    sets = [name for name in plan.metrics if name in final or _lacks_set(run, name, compared)]
    during: dict[int, list[str]] = {}
    asked = run.asked(evaluate)
    for step in sorted(_steps_during(spec) & snapshot_steps(run.folder)):
        measured = run.names_at(step, asked)
        lacking = [name for name in evaluate.metrics if _is_lacking(run, step, name, measured)]
        if lacking:
            during[step] = lacking
    return MissingScores(final, sets if wants_sets else [], during)


def _is_lacking(run: Progress, step: int, metric: str, measured: Collection[str]) -> bool:
    """Whether a metric lacks scores of a step: all of them, or one that it has of another protocol.

    Args:
        measured: The names of the scores that were measured there as they are asked for.
    """
    lacking = [score for score in scores_of(METRICS[metric]) if score not in measured]
    others = {bare_name(full) for full, steps in run.measured.items() if step in steps}
    # What it has of no protocol is a score that the metric does not give of such a run.
    return len(lacking) == len(scores_of(METRICS[metric])) or not others.isdisjoint(lacking)


def is_recorded(recording: str | None, spec: RunSpec, folder: Path) -> bool:
    """Whether what was recorded of a run is all that is asked for, without a look at its scores.

    Weights of extractors that the experiment asks for are no part of `recording`.
    """
    return recording == spec.recording and not asked_weights(folder.parent)


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
