"""Sweeps of a grid: the variants that differ from the baseline on one axis alone.

A grid of several axes asks several questions. Which value of one axis is best, all else as in the
baseline, is one of them; Holm's correction is over its comparisons, and not over those of others.
"""

from __future__ import annotations

from collections.abc import Mapping

VALUES = 3  # of an axis, from which on it is a sweep


def sweeps_of(cells: Mapping[str, Mapping[str, str]], baseline: str) -> dict[str, tuple[str, ...]]:
    """Return for each swept axis the variants that differ from the baseline on it alone.

    A swept axis has `VALUES` values or more beside the baseline's other settings.

    It is empty for a grid of one axis, whose comparisons are one question anyway.

    Args:
        cells: For each variant its place on each axis; empty if it is not of the grid.
        baseline: The name of the baseline.
    """
    home = cells.get(baseline, {})
    values = {axis: {cell[axis] for cell in cells.values() if cell} for axis in home}
    if sum(len(places) > 1 for places in values.values()) < 2:
        return {}
    sweeps: dict[str, tuple[str, ...]] = {}
    for name, cell in cells.items():
        differing = [axis for axis in home if cell and cell[axis] != home[axis]]
        if len(differing) == 1 and len(values[differing[0]]) >= VALUES:
            sweeps[differing[0]] = (*sweeps.get(differing[0], ()), name)
    # `exclude` may have taken values away beside the baseline.
    return {axis: names for axis, names in sweeps.items() if len(names) >= VALUES - 1}
