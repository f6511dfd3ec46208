"""Several experiments in one report: those on the same data become one, if measured alike."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

import pandas as pd

from gan_bench.compare.results import PARAM, PROTOCOL, Results
from gan_bench.errors import UserError
from gan_bench.evaluation.protocol import Protocol, refusal

# May differ within a study, for it is what `ema` asks about; and what another data set brings.
OWN, DATA = ("generator",), ("data", "weights", "real")


def combine(several: Sequence[Results]) -> list[Results]:
    """Return one experiment for each data set, with all the variants on it.

    Where experiments have variants of the same name, all their variants are called
    `experiment/variant`. The baseline is that of the first.

    Raises:
        UserError: They were not measured alike, or have no score in common.
    """
    groups: list[list[Results]] = []
    for results in several:
        for other in (group[0] for group in groups):
            _check(other, results, (*OWN, *DATA))
        home = next((group for group in groups if _data(group[0], results)), None)
        if home is None:
            groups.append([results])
        else:
            _check(home[0], results, OWN)
            home.append(results)
    return [_merged(group) if len(group) > 1 else group[0] for group in groups]


def _check(a: Results, b: Results, but: tuple[str, ...]) -> None:
    common = _in_common(a, b)
    if not common:
        raise UserError(f"{a.experiment} and {b.experiment} have no score in common: report them "
                        f"apart")
    for score, (one, other) in common.items():
        if why := refusal(one, other, but=but):
            raise UserError(f"{a.experiment} and {b.experiment} cannot be in one report: {score} "
                            f"was {why}")


def _data(a: Results, b: Results) -> bool:
    """Whether two experiments are about the same data."""
    return all(one.get("data") == other.get("data") for one, other in _in_common(a, b).values())


def _in_common(a: Results, b: Results) -> dict[str, tuple[Protocol, Protocol]]:
    found = {}
    for score in a.scores:
        known = [[text for text in one.runs.get(PROTOCOL + score, ()) if text] for one in (a, b)]
        if all(known):
            found[score] = (json.loads(known[0][0]), json.loads(known[1][0]))
    return found


def _merged(group: list[Results]) -> Results:
    every = [name for one in group for name in one.variants]
    clash = len(set(every)) < len(every)

    def called(one: Results, variant: str) -> str:
        return f"{one.experiment}/{variant}" if clash else variant

    kind = pd.CategoricalDtype([called(one, name) for one in group for name in one.variants],
                               ordered=True)
    ids = [run for one in group for run in one.runs.index]
    again = len(set(ids)) < len(ids)  # the same run in two experiments has one id
    frames: dict[str, list[pd.DataFrame]] = {"runs": [], "history": []}
    for one in group:
        names = {name: called(one, name) for name in one.variants}

        def run_name(run: object, one: Results = one) -> str:
            return f"{one.experiment}/{run}" if again else str(run)

        frames["runs"].append(one.runs.rename(index=run_name).assign(
            variant=one.runs["variant"].astype(str).map(names)))
        frames["history"].append(one.history.assign(
            run=one.history["run"].cat.rename_categories(run_name).astype(str),
            variant=one.history["variant"].astype(str).map(names),
            metric=one.history["metric"].astype(str)))
    runs, history = (pd.concat(parts) for parts in frames.values())
    text = [c for c in runs if c.startswith((PARAM, PROTOCOL))]
    runs[text] = runs[text].fillna("")
    runs["variant"] = runs["variant"].astype(kind)
    history = history.reset_index(drop=True).astype(
        {"run": "category", "variant": kind, "metric": "category"})
    first, declared = group[0], [one.declared for one in group]
    notes = [f"{one.experiment}: {note}" for one in group for note in one.notes]
    margin = declared[0].margin if all(d.margin == declared[0].margin for d in declared) else None
    if margin is None and any(d.margin for d in declared):
        notes.append("the experiments declare different margins of equivalence: none is used")
    return replace(
        first, experiment="+".join(one.experiment for one in group), runs=runs, history=history,
        notes=tuple(notes), declared=declared[0].with_changes(
            question=" ".join(d.question for d in declared if d.question),
            baseline=called(first, first.baseline), paired=all(d.paired for d in declared),
            margin=margin, variants=tuple(kind.categories),
            curve_means={name: mean for d in declared for name, mean in d.curve_means.items()},
            command="\n".join(d.command for d in declared if d.command)))
