"""The names of a run's files and measurements."""

from __future__ import annotations

from collections.abc import Mapping

WEIGHTS, LOG = "final.safetensors", "log.txt"
TABLE, TRACE = "profile.txt", "trace.json.gz"  # of a profiled run
# Prefixes of scores: during training, and after it where that measurement differs.
DURING, FINAL = PREFIXES = ("eval/", "final/")
AGAIN = "again/"  # prefix of the last measurement on other sets of latents, numbered from 1
CLASS = "class/"  # prefix of a measurement of a single class


def split_score(name: str) -> tuple[str, str] | None:
    """Return (DURING or FINAL, the score's bare name); None if `name` is not a score's."""
    for phase in PREFIXES:
        if name.startswith(phase):
            return phase, name.removeprefix(phase)
    return None


def last_scores(values: Mapping[str, float]) -> dict[str, tuple[str, float]]:
    """Return a run's last scores by bare name: the full name of each, and its value.

    If there is a measurement after training, only its scores count, so that a bare name never
    stands for two protocols.

    Args:
        values: The latest value of every measurement of the run, by full name.
    """
    scores: dict[str, dict[str, tuple[str, float]]] = {phase: {} for phase in PREFIXES}
    for full, value in values.items():
        if split := split_score(full):
            phase, name = split
            scores[phase][name] = full, value
    return scores[FINAL] or scores[DURING]
