"""Which of the runs that a store holds count in a comparison, and which are left out, and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import chain

from gan_bench.compare.ended import left_out_line
from gan_bench.compare.search.choice import Choice
from gan_bench.compare.search.counted_draws import (
    DrawKey,
    absent_draws,
    declared_settings,
    draw_key,
    with_stage,
)
from gan_bench.config.declared import Declared
from gan_bench.config.sources import changed_keys, describe_changed, split_sources
from gan_bench.errors import count
from gan_bench.journal.schema import RESULTS
from gan_bench.tracking.reader import Stored, StoredRun
from gan_bench.tracking.runs.origin import ROOT_TAG

SHOWN = 10  # variants, and seeds of each, that a note names


def counted_runs(stored: Stored, declared: Declared, in_root: set[str],
                 ) -> tuple[list[StoredRun], list[str]]:
    """Return each variant's runs under its settings, one per seed, and notes on the others.

    Of a search, they are those of all draws and of both stages, with the tags `draw` and `stage`
    that they have by what is declared now.

    Args:
        in_root: MLflow's ids of the runs that show journals of the root.
    """
    own_runs = [run for run in stored.runs if {"run_id", "variant", "seed"} <= run.tags.keys()
                and run.tags["seed"].isdecimal()]
    notes = []
    if foreign := len(stored.runs) - len(own_runs):
        notes.append(f"left out: {count(foreign, 'run')} that gan-bench did not make")
    own_runs, renamed = _under_present_names(own_runs, declared)
    notes += renamed
    own_runs.sort(key=lambda run: run.started)
    # The newest settings, if the experiment's present ones are unknown.
    known = declared_settings(declared)
    valid = {**{draw_key(run): run.tags.get("settings") for run in own_runs}, **known}
    current = [run for run in own_runs if run.tags.get("settings") == valid[draw_key(run)]
               and _is_declared(run, known, declared)]
    same = {id(run) for run in current}
    old = [run for run in own_runs if id(run) not in same]
    of_other_code = _of_other_code(old, current)
    notes += describe_changed(of_other_code)
    named = {*chain(*of_other_code.values())}
    if others := sum(run.tags["run_id"] not in named for run in old):
        whose = "a variant" if declared.search is None else "a variant, or of no draw of its search"
        notes.append(f"left out: {count(others, 'run')} under other settings of {whose}")
    listed = [run for run in current
              if not declared.variants or run.tags["variant"] in declared.variants]
    if removed := len(current) - len(listed):
        notes.append(f"left out: {count(removed, 'run')} of variants that the experiment no longer "
                     f"has")
    seeds = _listed_seeds(declared)
    unlisted = [int(run.tags["seed"]) for run in listed
                if seeds and int(run.tags["seed"]) not in seeds]
    if unlisted:
        notes.append(left_out_line(unlisted))
        listed = [run for run in listed if int(run.tags["seed"]) in seeds]
    # If two roots made the same run, one with a result counts; of these the reader's own, or else
    # the newest.
    listed.sort(key=lambda run: (run.tags.get("status") in RESULTS, run.id in in_root, run.started))
    single = {run.tags["run_id"]: run for run in listed}
    notes += _of_other_roots(stored, single.values(), in_root)
    if twice := len(listed) - len(single):
        notes.append(f"left out: {count(twice, 'run')} that the store holds twice")
    return list(single.values()), notes


def _is_declared(run: StoredRun, known: Mapping[DrawKey, str], declared: Declared) -> bool:
    """Whether a run is of a draw that the experiment has; without a search any run may be."""
    if declared.search is None:
        return True
    return draw_key(run) in known if known else run.tags["draw"].isdecimal()


def _listed_seeds(declared: Declared) -> Collection[int]:
    """Return the seeds of an experiment's runs; empty if they are not known."""
    search = declared.search
    return declared.seeds if search is None else [*search.select.seeds, *search.confirm.seeds]


def absent_runs(runs: list[StoredRun], declared: Declared, choice: Choice) -> list[str]:
    """Return a note on the declared runs that are not among these; empty if all are.

    Declarations of older versions name no seeds.

    Args:
        choice: What a search chooses.
    """
    if declared.search is not None:
        by_stage, total = absent_draws(runs, declared, declared.search, choice)
        few = [f"{stage} {number:,}" for stage, number in by_stage.items()]
        return [_absent_line(sum(by_stage.values()), total, few)] if by_stage else []
    begun = {(run.tags["variant"], int(run.tags["seed"])) for run in runs}
    lacking = {variant: seeds for variant in declared.variants
               if (seeds := [seed for seed in declared.seeds if (variant, seed) not in begun])}
    if not lacking:
        return []
    some = [f"{variant} {_seeds_words(seeds)}" for variant, seeds in lacking.items()]
    n, total = sum(map(len, lacking.values())), len(declared.variants) * len(declared.seeds)
    return [_absent_line(n, total, some)]


def _absent_line(number: int, total: int, which: Sequence[str]) -> str:
    verb = "is" if number == 1 else "are"
    return (f"{number:,} of {count(total, 'declared run')} {verb} not in MLflow: "
            f"{_shortened(which, '; ')}")


def _seeds_words(seeds: list[int]) -> str:
    return f"{'seed' if len(seeds) == 1 else 'seeds'} {_shortened(seeds, ', ')}"


def _shortened(things: Sequence[object], separator: str) -> str:
    """Return the first of the things, and how many more there are."""
    more = [f"and {len(things) - SHOWN:,} more"] if len(things) > SHOWN else []
    return separator.join([*map(str, things[:SHOWN]), *more])


def _under_present_names(runs: list[StoredRun], declared: Declared,
                         ) -> tuple[list[StoredRun], list[str]]:
    """Return the runs under the names that the experiment gives their settings, and notes on these.

    A run is its settings: a variant that was renamed keeps its runs, which MLflow holds under the
    name of then.
    """
    known = declared_settings(declared)
    names = {settings: place for place, settings in known.items()}
    renamed: Counter[tuple[str, str]] = Counter()
    present = []
    for run in (with_stage(run, declared) for run in runs):
        old, settings = draw_key(run), run.tags.get("settings", "")
        new = old if known.get(old) == settings else names.get(settings, old)
        if new[0] != old[0]:
            renamed[old[0], new[0]] += 1
        present.append(replace(run, tags={**run.tags, "variant": new[0], "draw": new[1]}))
    return present, [f"{count(n, 'run')} of {old} count as {new}, the present name of their "
                     f"settings" for (old, new), n in renamed.items()]


def _of_other_code(old: list[StoredRun], current: list[StoredRun]) -> dict[str, list[str]]:
    """Return which parts have changed since runs with the same settings otherwise, and their ids.
    """
    present = {draw_key(run): split_sources(run.params) for run in current}
    changed: dict[str, set[str]] = {}
    for run in old:
        settings, sources = split_sources(run.params)
        of_variant, now = present.get(draw_key(run), ({}, {}))
        if settings == of_variant:
            for key in changed_keys(sources, now):
                changed.setdefault(key, set()).add(run.tags["run_id"])
    return {key: sorted(ids) for key, ids in changed.items()}


def _of_other_roots(stored: Stored, counted: Iterable[StoredRun], in_root: set[str]) -> list[str]:
    """Return notes on the counted runs of other roots, which the table of `run` does not know.

    A reader without runs in the store, on another machine say, has no other roots.
    """
    roots = {run.tags.get(ROOT_TAG) for run in stored.runs if run.id in in_root}
    others = Counter(run.tags.get(ROOT_TAG, "unknown") for run in counted
                     if roots and run.id not in in_root and run.tags.get(ROOT_TAG) not in roots)
    return [f"counted too: {count(n, 'run')} of another root that shares the store (id {root:.8}); "
            f"the table of `gan-bench run` counts this root's alone" for root, n in others.items()]
