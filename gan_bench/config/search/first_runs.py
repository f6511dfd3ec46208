"""From a variant to the run that stands for its settings, and to those of its draws."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from gan_bench import registry
from gan_bench.config.checks import find_conflicts, steps_of
from gan_bench.config.declared import Declared
from gan_bench.config.experiment_file import ExperimentFile
from gan_bench.config.grid import Variant
from gan_bench.config.initial_weights import InitWeights, resolve_init
from gan_bench.config.problems import Problems, validate_settings
from gan_bench.config.renumbered import renumbered
from gan_bench.config.search.drawn import (
    draws_of,
    keys_of,
    space_problems,
    trials,
    use_problems,
)
from gan_bench.config.search.search import SELECT, SearchSpec
from gan_bench.config.sources import sources_of
from gan_bench.config.spec import RunSettings, RunSpec
from gan_bench.data_facts import DataFacts
from gan_bench.errors import UserError, shown


def first_run(file: ExperimentFile, data: DataFacts, variant: Variant, errors: Problems,
               root: Path) -> RunSpec | None:
    """Return the variant's run under the first seed, or None after noting what is wrong."""
    settings = validate_settings(variant, errors)
    if settings is None:
        return None
    problems = find_conflicts(settings, file.dataset, data, file.evaluate)
    for key, reason in problems:
        section, _, name = key.partition(".")
        errors.add((section, name) if name else variant.where((key,)), reason)
    init = _found_weights(settings, variant, errors, root)
    if problems or (init is None) != (settings.init is None):
        return None
    fields = {key: getattr(settings, key) for key in RunSettings.model_fields}
    return RunSpec(**{
        **fields, "init": init, "steps": steps_of(settings, data), "epochs": None,
        "experiment": file.name, "numerics": renumbered(settings, data),
        "sources": sources_of(settings, file.dataset),
        "variant": variant.name, "seed": (file.first_seeds or [0])[0],
        "dataset": file.dataset, "data": data, "evaluate": file.evaluate,
        "compute": file.compute})


def _found_weights(settings: RunSettings, variant: Variant, errors: Problems, root: Path,
                   ) -> InitWeights | None:
    """Return the weights that a variant starts from; None if there are none, or none are found."""
    init = settings.init
    if init is None:
        return None
    try:
        return resolve_init(init, errors.folder, root)
    except UserError as error:
        errors.add(variant.where(("init", "file" if init.run is None else "run")), str(error))
        return None


def draw_settings(file: ExperimentFile, data: DataFacts, variants: Sequence[Variant],
                  firsts: Sequence[RunSpec], errors: Problems, root: Path) -> list[RunSpec]:
    """Return a run for each draw of each variant, in order; without a search, `firsts`.

    What is wrong with the space is noted; then the list is incomplete.
    """
    search = file.search
    if search is None:
        return [*firsts]
    before = errors.count
    for where, problem in space_problems(search, file.matrix):
        errors.add(where, problem)
    if errors.count == before:
        for where, problem in use_problems(variants, search):
            errors.add(where, problem)
    if errors.lines:  # of another place, or of the space
        return [*firsts]
    for variant in variants:
        for extremes in trials(variant, search).values():
            # The first that is wrong says it all.
            next((trial for trial in extremes if validate_settings(trial, errors) is None), None)
    runs: list[RunSpec] = []
    for variant, own in zip(variants, firsts, strict=True):
        for draw, drawn in enumerate(draws_of(variant, search)):
            if errors.lines:
                return [*firsts]
            is_own = search.defaults and draw == 0
            run = own if is_own else first_run(file, data, drawn, errors, root)
            if run is not None:
                runs.append(run.model_copy(update={"draw": draw, "stage": SELECT}))
    _note_same_runs(runs, errors)
    return runs


def _note_same_runs(runs: Sequence[RunSpec], errors: Problems) -> None:
    """Note two variants that some draw makes the same."""
    by_id: dict[str, RunSpec] = {}
    for run in runs:
        first = by_id.setdefault(run.id, run)
        if first.variant != run.variant:
            errors.add(("search", "space"), (
                f"draw {first.draw} of {shown(first.variant)} and draw {run.draw} of "
                f"{shown(run.variant)} are the same run: the variants differ only in what is "
                f"drawn"))
            return


def different(settings: Sequence[RunSpec]) -> list[RunSpec]:
    """Return the runs without those that repeat an earlier draw: a run is trained once."""
    by_id: dict[str, RunSpec] = {}
    for run in settings:
        by_id.setdefault(run.id, run)
    return [*by_id.values()]


def declared_search(declared: Declared, search: SearchSpec, settings: Sequence[RunSpec],
                    firsts: Sequence[RunSpec], variants: Sequence[Variant]) -> Declared:
    """Return what is declared of a search beside the rest.

    Args:
        settings: A run for each draw of each variant, in order.
        firsts, variants: The variants, in the same order.
    """
    digests: dict[str, list[str]] = {}
    for run in settings:
        digests.setdefault(run.variant, []).append(run.settings)
    shared = {variant: groups for variant, each in digests.items() if (groups := _groups(each))}
    facts = next(entry.facts for entry in registry.METRICS
                 if search.select.by in registry.scores_of(entry))
    given = declared.final is not None and search.select.by in declared.final.references
    return declared.with_changes(
        search=search, settings={}, shared=shared,
        draws={variant: tuple(each) for variant, each in digests.items()},
        searched={run.variant: tuple(keys_of(variant, search))
                  for run, variant in zip(firsts, variants, strict=True)},
        select_reference="statistics" if given else facts.reference or "")


def _groups(digests: Sequence[str]) -> tuple[tuple[int, ...], ...]:
    """Return the indices of equal digests, as far as several are equal."""
    places: dict[str, list[int]] = {}
    for draw, digest in enumerate(digests):
        places.setdefault(digest, []).append(draw)
    return tuple(tuple(draws) for draws in places.values() if len(draws) > 1)
