"""What has to fit together in an experiment: names, seeds, curve means, margins and labels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gan_bench import registry
from gan_bench.config.declared import CurveMean
from gan_bench.config.experiment_file import ExperimentFile
from gan_bench.config.label_checks import label_problems
from gan_bench.config.problems import Problems
from gan_bench.config.spec import RunSpec, final_measurement
from gan_bench.config.yaml_source import Where
from gan_bench.errors import count, shown
from gan_bench.registry import nearest

MAX_RUNS = 100_000
# The logged sums of penalties: the fact of those that are in them, and whose loss they are terms of
OF_PENALTIES = {"train/d_penalty": ("term", "D"), "train/g_penalty": ("g_term", "G")}


def check_seeds(data: Mapping[str, Any], errors: Problems) -> None:
    """Check that either the file or its search has seeds.

    Args:
        data: The file as plain data.
    """
    has_search, has_seeds = (data.get(key) is not None for key in ("search", "seeds"))
    if not has_search and not has_seeds:
        errors.add((), "the key 'seeds' is missing")
    elif has_search and has_seeds:
        errors.add(("seeds",), "search.select.seeds and search.confirm.seeds are the seeds of a "
                               "search: leave out these")


def check_names(file: ExperimentFile, firsts: list[RunSpec], errors: Problems) -> str:
    """Check that variants and seeds differ, and return the baseline."""
    _check_number(file, len(firsts), errors)
    by_name: dict[str, RunSpec] = {}
    by_id: dict[str, RunSpec] = {}
    where: Where = ("matrix",) if file.matrix else ("variants",)
    for run in firsts:
        if run.variant in by_name:
            errors.add(where, f"two variants are called {shown(run.variant)}")
        elif run.id in by_id:
            errors.add(where, f"{by_id[run.id].variant!r} and {run.variant!r} are the same run: "
                              f"they differ only in their names, or in what is recorded")
        by_name[run.variant] = by_id[run.id] = run
    seen: set[int] = set()
    for index, seed in enumerate(file.seeds or ()):
        if seed in seen:
            errors.add(("seeds", index), f"{seed} is given twice")
        seen.add(seed)
    if file.baseline is None:
        return firsts[0].variant if firsts else ""
    if firsts and file.baseline not in by_name and not errors.lines:
        errors.add(("baseline",), f"there is no variant {shown(file.baseline)}; "
                                  f"{nearest(file.baseline, list(by_name))}")
    return file.baseline


def _check_number(file: ExperimentFile, variants: int, errors: Problems) -> None:
    """Check that there are not too many runs."""
    search = file.search
    if search is None:
        seeds = file.seeds or []
        if variants * len(seeds) > MAX_RUNS:
            errors.add(("seeds",), f"{variants:,} variants × {len(seeds):,} seeds are more than "
                                   f"{MAX_RUNS:,} runs")
        return
    first = search.draws * len(search.select.seeds)
    second = min(search.confirm.best, search.draws) * len(search.confirm.seeds)
    if variants * (first + second) > MAX_RUNS:
        errors.add(("search", "draws"), (
            f"{variants:,} variants × ({search.draws:,} draws × "
            f"{count(len(search.select.seeds), 'seed')} + {search.confirm.best:,} × "
            f"{count(len(search.confirm.seeds), 'seed')}) are more than {MAX_RUNS:,} runs"))


def check_select_score(file: ExperimentFile, errors: Problems) -> None:
    """Check that the score that selects is measured after training, and has a better direction."""
    if file.search is None:
        return
    where: Where = ("search", "select", "by")
    by, scores = file.search.select.by, final_measurement(file.evaluate).scores
    better = {name: entry.facts.better for entry in registry.METRICS
              for name in registry.scores_of(entry)}
    if by not in scores:
        known = "" if by in better else "no metric gives such a score; "
        errors.add(where, f"{known}the final measurement has no score {shown(by)}: "
                          f"{nearest(by, [*scores])}")
    elif better[by] is None:
        errors.add(where, f"of {by}, neither higher nor lower is better; choose another score")


def check_curve_means(file: ExperimentFile, firsts: list[RunSpec], errors: Problems) -> None:
    """Check that each mean has a unique name and that every run logs values for it."""
    for name, mean in file.curve_means.items():
        if name in registry.scores():
            errors.add(("curve_means", name), f"a metric gives a score {name!r}; choose another "
                                              f"name")
        first, last = mean.steps
        counts = {run.variant: logged_steps(run, mean) for run in firsts}
        for run in firsts:
            where: Where = ("curve_means", name, "steps")
            if missing := _never_logged(run, mean.of):
                errors.add(("curve_means", name, "of"),
                           f"{run.variant} has no {mean.of}: {missing}")
            elif last > run.steps:
                errors.add(where, f"{run.variant} has {run.steps:,} steps, fewer than {last}")
            elif not counts[run.variant]:
                every = " and ".join(map(str, _value_intervals(run, mean.of)))
                lazy = "" if every == "1" else f", and has a penalty only every {every} steps"
                errors.add(where, (
                    f"{run.variant} has no logged value from step {first} to {last}: it logs every "
                    f"{run.log_every} steps{lazy}; choose a longer range, or a smaller log_every"))
            elif counts[run.variant] != counts[firsts[0].variant]:
                errors.add(where, (
                    f"{run.variant} logs {counts[run.variant]} steps from {first} to {last}, but "
                    f"{firsts[0].variant} logs {counts[firsts[0].variant]}: give both the same "
                    f"log_every"))


def logged_steps(run: RunSpec, mean: CurveMean) -> int:
    """Return the number of a run's logged steps that go into a mean."""
    return mean.logged(run.log_every, run.steps, _value_intervals(run, mean.of))


def _value_intervals(run: RunSpec, curve: str) -> list[int]:
    """Return the intervals, in steps, at which a run has a value to log in a curve."""
    if curve not in OF_PENALTIES:
        return [1]
    return sorted({int(part.args.get("every", 1)) for part in run.penalties
                   if getattr(registry.PENALTIES[part.name].facts, OF_PENALTIES[curve][0])})


def _never_logged(run: RunSpec, curve: str) -> str:
    """Return why a run never logs a curve; empty if it logs it."""
    if not _value_intervals(run, curve):
        return f"none of its penalties is a term of {OF_PENALTIES[curve][1]}'s loss"
    if curve == "train/augment_p" and not any(
            registry.AUGMENTATIONS[part.name].facts.has_p for part in run.augmentation):
        return "none of its augmentations has a p"
    if curve in ("train/d_loss_real", "train/d_loss_fake") and registry.LOSSES[
            run.loss.name].facts.one_term:
        return f"the loss {run.loss} has no separate real and fake terms"
    return ""


def check_margins(file: ExperimentFile, errors: Problems) -> None:
    """Check that margins of single scores are for scores that there are."""
    score_names = [*registry.scores(), *file.curve_means]
    for name in file.margin if isinstance(file.margin, dict) else ():
        if name not in score_names:
            errors.add(("margin", name), f"no metric gives a score {shown(name)}; "
                                         f"{nearest(str(name), score_names)}")


def check_labels(file: ExperimentFile, firsts: list[RunSpec], errors: Problems) -> None:
    """Check that labels are of variants and scores that there are, and tell them apart."""
    if errors.lines:  # variants may be missing
        return
    variants = [run.variant for run in firsts]
    for name, problem in label_problems(file.labels, variants,
                                        [*registry.scores(), *file.curve_means]):
        errors.add(("labels", name), problem)
