"""Where the scores of an experiment disagree about a variant."""

from __future__ import annotations

from collections.abc import Sequence

from gan_bench.compare.findings import Finding
from gan_bench.errors import joined


def disagreements(findings: Sequence[Finding]) -> list[str]:
    """Return a sentence for each variant that is better by one score, and worse by another.

    It names the experiment where there are several.
    """
    by_variant: dict[tuple[str, str], dict[str, list[str]]] = {}
    for finding in findings:
        for row in finding.rows:
            if row.verdict in ("better", "worse"):
                variant = (finding.results.experiment, row.variant)
                by_variant.setdefault(variant, {}).setdefault(row.verdict, []).append(finding.label)
    baselines = {finding.results.experiment: finding.results.baseline for finding in findings}
    several = len(baselines) > 1
    return [f"The scores{several * f' of {experiment}'} disagree about {variant}: against "
            f"{baselines[experiment]} it is better by {joined(scores['better'])}, and worse by "
            f"{joined(scores['worse'])}."
            for (experiment, variant), scores in by_variant.items() if len(scores) == 2]
