"""The second stage of a search: the confirm runs that the journals of the first stage call for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from gan_bench.compare.search.choice import Choice, SelectRun, choice_of, select_score
from gan_bench.config.declared import Declared
from gan_bench.config.search.search import CONFIRM, SELECT
from gan_bench.config.spec import ExperimentSpec, RunSpec
from gan_bench.errors import DamagedError, count
from gan_bench.journal.about import asked_weights
from gan_bench.journal.layout import is_trained
from gan_bench.journal.status import Progress, progress_of


def choice_among(runs: Iterable[Progress], declared: Declared) -> Choice:
    """Return what is chosen by these runs, as far as they are of the first stage."""
    by = declared.search.select.by if declared.search else ""
    return choice_of((SelectRun(run.spec.variant, run.spec.draw, run.spec.seed,
                                select_score(run.state, _selecting_scores(run, declared), by))
                      for run in runs if run.spec.stage == SELECT and run.spec.draw is not None),
                     declared)


def _selecting_scores(run: Progress, declared: Declared) -> dict[str, float]:
    """Return a run's scores, of which the one that selects is measured as it is declared."""
    measured = declared.selecting
    if measured is None:
        return run.scores
    asked = measured.under(asked_weights(run.folder.parent))
    return {name: value for name, (_, value) in run.compared(asked).items()}


def choice_in(runs: Sequence[RunSpec], declared: Declared, root: Path) -> Choice:
    """Return what the journals of a root choose.

    The journals of a variant are read only if all of them have a result.

    Args:
        runs: Those of the first stage; others do not count.
        declared: What their experiment declares.
    """
    select = [run for run in runs if run.stage == SELECT]
    open_runs = Counter(run.variant for run in select if not _has_result(run, root))
    choice = choice_among((_progress(run, root) for run in select if not open_runs[run.variant]),
                          declared)
    return replace(choice,
                   waiting={**choice.waiting, **{k: n for k, n in open_runs.items() if n}})


def _has_result(run: RunSpec, root: Path) -> bool:
    # A process that holds the run makes no difference: it may be lost, or measure what is trained.
    try:
        return is_trained(run.folder(root))
    except DamagedError:  # whoever trains it says so
        return False


def _progress(run: RunSpec, root: Path) -> Progress:
    try:
        return progress_of(run, root)
    except DamagedError:
        return Progress(run, run.folder(root))


def confirm_runs(runs: Iterable[RunSpec], choice: Choice, declared: Declared) -> list[RunSpec]:
    """Return the runs of the second stage: each chosen draw under each of its seeds.

    Args:
        runs: Among them those of the first stage.
    """
    if declared.search is None:
        return []
    first = {(run.variant, run.draw): run for run in runs if run.stage == SELECT}
    return [first[variant, draw].confirmed(seed) for variant, draws in choice.draws.items()
            for draw in draws if (variant, draw) in first
            for seed in declared.search.confirm.seeds]


def compared_runs(runs: Sequence[Progress], declared: Declared) -> list[Progress]:
    """Return the runs by which variants are compared: all, or of a search the second stage.

    Of several chosen draws of a variant the best one stands for it: its runs differ in seeds alone.
    """
    if declared.search is None:
        return [*runs]
    best = {variant: draws[0] for variant, draws in choice_among(runs, declared).draws.items()}
    return [run for run in runs
            if run.spec.stage == CONFIRM and best.get(run.spec.variant) == run.spec.draw]


def with_confirm_runs(experiment: ExperimentSpec, root: Path) -> ExperimentSpec:
    """Return an experiment with the runs of the second stage that the journals call for now.

    Runs of that stage that it has already stay.
    """
    if experiment.search is None:
        return experiment
    choice = choice_in(experiment.runs, experiment.declared, root)
    called = confirm_runs(experiment.runs, choice, experiment.declared)
    present = {run.id for run in experiment.runs}
    return experiment.with_runs([*experiment.runs,
                                 *(run for run in called if run.id not in present)])


def unchosen_line(choice: Choice) -> str:
    """Return of which variants no draw can be chosen yet; empty if there are none."""
    some = [f"{variant} (for {count(number, 'run')})" for variant, number in choice.waiting.items()]
    return f"no draw is chosen yet of {', '.join(some)}" if some else ""
