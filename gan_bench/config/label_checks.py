"""Labels: how tables and figures call variants and scores, in place of their names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from gan_bench.errors import shown
from gan_bench.registry import nearest


def label_problems(labels: Mapping[str, str], variants: Sequence[str], scores: Sequence[str],
                   ) -> Iterator[tuple[str, str]]:
    """Yield each wrong label: its key, and what is wrong with it.

    Args:
        labels: Labels by the name of a variant or score.
        variants: All variants of the experiment.
        scores: All scores that metrics and `curve_means` give.
    """
    for name in labels:
        if name not in variants and name not in scores:
            yield name, (f"no variant and no score is called {shown(name)}; "
                         f"{nearest(name, [*variants, *scores])}")
    names = dict.fromkeys([*variants, *scores])
    texts = {name: labels.get(name, name) for name in names}
    for name in labels:
        # Names stay what options such as --baseline take, so a label is no other one's name.
        others = [other for other in names
                  if other != name and labels[name] in (texts[other], other)]
        if name in texts and others:
            yield name, f"{shown(labels[name])} would stand for {others[0]} too; choose another"
