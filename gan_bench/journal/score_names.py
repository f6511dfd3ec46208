"""The names of scores and other measurements: made of their parts, and split."""

from __future__ import annotations

from collections.abc import Mapping

# Prefixes of scores: during training, and after it where that measurement differs.
DURING, FINAL = PREFIXES = ("eval/", "final/")
AGAIN = "again/"  # prefix of the last measurement on other sets of latents, numbered from 1
CLASS = "class/"  # prefix of a measurement of a single class


def score_name(phase: str, name: str) -> str:
    """Return the full name of a score; `split_score` is the inverse.

    The score of a single class keeps its prefix, `class/<name>/<label>` or `class/final/…`, because
    variants are not compared by it.

    Args:
        phase: DURING or FINAL.
        name: The score's bare name.
    """
    if not name.startswith(CLASS):
        return phase + name
    class_prefix = CLASS if phase == DURING else CLASS + phase
    return class_prefix + name.removeprefix(CLASS)


def split_score(name: str) -> tuple[str, str] | None:
    """Return (DURING or FINAL, the score's bare name); None if `name` is not a score's."""
    for phase in PREFIXES:
        if name.startswith(phase):
            return phase, name.removeprefix(phase)
    return None


def latent_set_name(number: int, name: str) -> str:
    """Return the full name of a score on a further set of latents, `again/<number>/<name>`."""
    return f"{AGAIN}{number}/{name}"


def split_latent_set(name: str) -> tuple[int, str] | None:
    """Return (the set's number, the score's bare name); None for any other measurement."""
    number, slash, score = name.removeprefix(AGAIN).partition("/")
    if not name.startswith(AGAIN) or not slash or not number.isdecimal():
        return None
    return int(number), score


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
