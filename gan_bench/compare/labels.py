"""Results as readers see them: variants under their labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from gan_bench.compare.ended import RunResult
from gan_bench.compare.results import Results
from gan_bench.config.declared import Declared


def labelled(results: Results) -> Results:
    """Return the results with every variant under its label; scores keep their names.

    `declared.name_of` gives the name back. Labels that leave two variants alike, as those of two
    experiments in one report may, are not used.
    """
    names = results.variants
    texts = variant_labels(results.declared, names)
    declared = _relabelled(results.declared, texts)
    if all(name == text for name, text in texts.items()):
        return replace(results, declared=declared)
    runs, history = (frame.assign(variant=frame["variant"].cat.rename_categories(texts))
                     for frame in (results.runs, results.history))
    return replace(results, declared=declared, runs=runs, history=history,
                   choice={texts.get(name, name): draws for name, draws in results.choice.items()})


def labelled_runs(runs: Sequence[RunResult], declared: Declared,
                  ) -> tuple[list[RunResult], Declared]:
    """Return runs under the labels of their variants, and what is declared of these."""
    texts = variant_labels(declared, list(dict.fromkeys(run.variant for run in runs)))
    return ([replace(run, variant=texts[run.variant]) for run in runs],
            _relabelled(declared, texts))


def variant_labels(declared: Declared, names: Sequence[str]) -> dict[str, str]:
    """Return the label of each variant; the names where labels leave two alike."""
    texts = {name: declared.label(name) for name in names}
    return texts if len(set(texts.values())) == len(texts) else {name: name for name in names}


def _relabelled(declared: Declared, texts: dict[str, str]) -> Declared:
    """Return the declaration of variants under other names; labels that are unused are dropped."""
    unused = {name for name, text in texts.items() if name == text}
    return declared.with_changes(
        baseline=texts.get(declared.baseline, declared.baseline),
        variants=tuple(texts.get(name, name) for name in declared.variants),
        searched={texts.get(name, name): keys for name, keys in declared.searched.items()},
        draws={texts.get(name, name): draws for name, draws in declared.draws.items()},
        shared={texts.get(name, name): groups for name, groups in declared.shared.items()},
        sweeps={axis: tuple(texts.get(name, name) for name in names)
                for axis, names in declared.sweeps.items()},
        labels={name: text for name, text in declared.labels.items() if name not in unused})
