"""The names that files and measurements of a run bear, wherever they are written or read."""

from __future__ import annotations

from collections.abc import Mapping

WEIGHTS, LOG = "final.safetensors", "log.txt"
TABLE, TRACE = "profile.txt", "trace.json.gz"  # of a run that was profiled
# What the names of scores begin with: during training, and of another measurement at its end.
DURING, FINAL = PREFIXES = ("eval/", "final/")
AGAIN = "again/"  # of the last measurement on other sets of latents, which have numbers from 1
CLASS = "class/"  # of what belongs to a single class


def split_score(name: str) -> tuple[str, str] | None:
    """Return (DURING or FINAL, the score's bare name); None where `name` is of no score."""
    for phase in PREFIXES:
        if name.startswith(phase):
            return phase, name.removeprefix(phase)
    return None


def last_scores(values: Mapping[str, float]) -> dict[str, tuple[str, float]]:
    """Return a run's last scores by bare name: the full name of each, and its value.

    These are the scores of the measurement after training alone where there is one: a bare name
    never stands for two protocols.

    Args:
        values: The latest value of every measurement of the run, by full name.
    """
    scores: dict[str, dict[str, tuple[str, float]]] = {phase: {} for phase in PREFIXES}
    for full, value in values.items():
        if split := split_score(full):
            phase, name = split
            scores[phase][name] = full, value
    return scores[FINAL] or scores[DURING]
