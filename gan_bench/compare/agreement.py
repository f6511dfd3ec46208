"""Where the scores of an experiment disagree about a variant."""

from __future__ import annotations

from collections.abc import Sequence

from gan_bench.compare.findings import Finding
from gan_bench.errors import joined


def disagreements(findings: Sequence[Finding]) -> list[str]:
    """Return a sentence for each variant that is better by one score, and worse by another."""
    by_variant: dict[tuple[str, str], dict[str, list[str]]] = {}
    for finding in findings:
        for row in finding.rows:
            if row.verdict in ("better", "worse"):
                variant = (finding.results.experiment, row.variant)
                by_variant.setdefault(variant, {}).setdefault(row.verdict, []).append(finding.label)
    baselines = {finding.results.experiment: finding.results.baseline for finding in findings}
    return [f"The scores disagree about {variant}: against {baselines[experiment]} it is better by "
            f"{joined(scores['better'])}, and worse by {joined(scores['worse'])}."
            for (experiment, variant), scores in by_variant.items() if len(scores) == 2]
