"""Several experiments in one report: those on the same data become one, if measured alike."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

import pandas as pd

from gan_bench.compare.frames import OF_SCORE, PARAM, PROTOCOL
from gan_bench.compare.results import Results
from gan_bench.config.declared import Declared
from gan_bench.errors import UserError
from gan_bench.evaluation.comparability import GENERATOR_KEYS, Protocol, refusal

DATA_KEYS = ("data", "weights", "real")  # differ between data sets


def combine(experiments: Sequence[Results]) -> list[Results]:
    """Return one experiment for each data set, with all the variants on it.

    If two experiments have a variant of the same name, all variants are called
    `experiment/variant`. The baseline is that of the first experiment.

    Raises:
        UserError: The experiments were not measured alike, or have no score in common.
    """
    groups: list[list[Results]] = []
    for results in experiments:
        for group in groups:
            _check_protocols(group[0], results, (*GENERATOR_KEYS, *DATA_KEYS))
        home = next((group for group in groups if _on_same_data(group[0], results)), None)
        if home is None:
            groups.append([results])
        else:
            _check_protocols(home[0], results, GENERATOR_KEYS)
            home.append(results)
    return [_merge(group) for group in groups]


def _check_protocols(a: Results, b: Results, but: tuple[str, ...]) -> None:
    protocols = _shared_protocols(a, b)
    if not protocols:
        raise UserError(f"{a.experiment} and {b.experiment} have no score in common: report them "
                        f"separately")
    for score, (protocol_a, protocol_b) in protocols.items():
        if why := refusal(protocol_a, protocol_b, but=but):
            raise UserError(f"{a.experiment} and {b.experiment} cannot be in one report: {score} "
                            f"was {why}")


def _on_same_data(a: Results, b: Results) -> bool:
    pairs = _shared_protocols(a, b).values()
    return all(protocol_a.get("data") == protocol_b.get("data") for protocol_a, protocol_b in pairs)


def _shared_protocols(a: Results, b: Results) -> dict[str, tuple[Protocol, Protocol]]:
    """Return the protocols of each score that both experiments have measured."""
    shared = {}
    for score in a.scores:
        protocol_a, protocol_b = _protocol_of(a, score), _protocol_of(b, score)
        if protocol_a is not None and protocol_b is not None:
            shared[score] = (protocol_a, protocol_b)
    return shared


def _protocol_of(results: Results, score: str) -> Protocol | None:
    """Return the protocol of the first run that recorded one; None if absent."""
    text = next((text for text in results.runs.get(PROTOCOL + score, ()) if text), None)
    protocol: Protocol | None = None if text is None else json.loads(text)
    return protocol


def _merge(group: list[Results]) -> Results:
    """Return the experiments of one data set as one experiment."""
    if len(group) == 1:
        return group[0]
    group = [results.compared() for results in group]
    names = _variant_names(group)
    categories = [name for by_variant in names for name in by_variant.values()]
    variant_type = pd.CategoricalDtype(categories, ordered=True)
    runs, history = _merge_frames(group, names, variant_type)
    declared, differing = _merge_declared(group, names, categories)
    notes = [f"{results.experiment}: {line}" for results in group for line in results.notes]
    baseline = group[0].baseline
    return replace(
        group[0], experiment="+".join(results.experiment for results in group), runs=runs,
        history=history, notes=(*notes, *differing), choice={},
        declared=declared.with_changes(baseline=names[0].get(baseline, baseline)))


def _variant_names(group: list[Results]) -> list[dict[str, str]]:
    """Return for each experiment its variants, and their names in the report."""
    variants = [variant for results in group for variant in results.variants]
    if len(set(variants)) == len(variants):
        return [{variant: variant for variant in results.variants} for results in group]
    return [{variant: f"{results.experiment}/{variant}" for variant in results.variants}
            for results in group]


def _merge_frames(group: list[Results], names: list[dict[str, str]],
                  variant_type: pd.CategoricalDtype) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the runs and the history of all experiments."""
    run_ids = [run for results in group for run in results.runs.index]
    repeated = len(set(run_ids)) < len(run_ids)  # the same run in two experiments has one id
    all_runs, all_history = [], []
    for results, by_variant in zip(group, names, strict=True):
        prefix = f"{results.experiment}/" if repeated else ""
        run_names = {run: f"{prefix}{run}" for run in results.runs.index}
        all_runs.append(results.runs.rename(index=run_names).assign(
            variant=results.runs["variant"].astype(str).map(by_variant)))
        all_history.append(results.history.assign(
            run=results.history["run"].cat.rename_categories(run_names).astype(str),
            variant=results.history["variant"].astype(str).map(by_variant),
            metric=results.history["metric"].astype(str)))
    runs, history = pd.concat(all_runs), pd.concat(all_history)
    text = [column for column in runs if column.startswith((PARAM, *OF_SCORE))]
    runs[text] = runs[text].fillna("")
    runs["variant"] = runs["variant"].astype(variant_type)
    history = history.reset_index(drop=True).astype(
        {"run": "category", "variant": variant_type, "metric": "category"})
    return runs, history


def _merge_declared(group: list[Results], names: list[dict[str, str]], variants: list[str],
                    ) -> tuple[Declared, list[str]]:
    """Return what the experiments declare together, and notes on what differs."""
    all_declared = [results.declared for results in group]
    first, notes = all_declared[0], []
    margin = first.margin
    if any(declared.margin != first.margin for declared in all_declared):
        margin = None
    if margin is None and any(declared.margin for declared in all_declared):
        notes.append("the experiments declare different margins of equivalence: none is used")
    paired = all(declared.paired for declared in all_declared)
    if not paired and any(declared.paired for declared in all_declared):
        notes.append("not all of the experiments declare `paired`: runs are not compared seed by "
                     "seed")
    return first.with_changes(
        question=" ".join(filter(None, (declared.question for declared in all_declared))),
        paired=paired, margin=margin, sweeps={}, search=None, searched={}, draws={}, shared={},
        labels={names[i].get(name, name): text for i, declared in enumerate(all_declared)
                for name, text in declared.labels.items()},
        variants=tuple(variants),
        curve_means={name: mean for declared in all_declared
                     for name, mean in declared.curve_means.items()},
        command="\n".join(filter(None, (declared.command for declared in all_declared)))), notes
