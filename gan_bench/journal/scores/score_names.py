"""The names of scores and other measurements: made of their parts, and split."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from gan_bench.config.declared import FinalMeasurement
from gan_bench.config.score_definition import definition_digest
from gan_bench.config.statistics_file import IN_PROTOCOL

LOSSES = "train/"  # prefix of what training logs
# Prefixes of scores: during training, and after it where that measurement differs.
DURING, FINAL = PREFIXES = ("eval/", "final/")
AGAIN = "again/"  # prefix of the last measurement on other sets of latents, numbered from 1
CLASS = "class/"  # prefix of a measurement of a single class
LATENT_SET = re.compile("again(-(?P<digest>[0-9a-f]{8}))?/(?P<number>[0-9]+)/(?P<name>.+)")
# A score that was measured anew after the run, in another way than the one with the plain name.
REMEASURED = re.compile("(?P<phase>eval|final)-(?P<digest>[0-9a-f]{8})/(?P<name>.+)")


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


def protocol_digest(protocol: Mapping[str, Any]) -> str:
    """Return 8 hex digits that stand for how a score was measured."""
    text = json.dumps(protocol, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def remeasured_name(full: str, digest: str) -> str:
    """Return the name of a score whose plain name stands for another protocol in this run.

    Args:
        full: The plain name, `eval/<name>` or `final/<name>`.
        digest: 8 hex digits that stand for the protocol.
    """
    phase, _, name = full.partition("/")
    return f"{phase}-{digest}/{name}"


def bare_name(full: str) -> str | None:
    """Return the bare name of a score, measured anew or not; None if `full` is not a score's."""
    if again := REMEASURED.fullmatch(full):
        return None if again["name"].startswith(CLASS) else again["name"]
    split = split_score(full)
    return split[1] if split else None


def latent_set_name(number: int, name: str, full: str = "") -> str:
    """Return the full name of a score on a further set of latents, `again/<number>/<name>`.

    Args:
        number: Of the set, from 1.
        name: The score's bare name.
        full: The score's full name on the first set. If it was measured anew, its digest is in
            the name of the further sets too.
    """
    digest = remeasured_digest(full)
    return f"again-{digest}/{number}/{name}" if digest else f"{AGAIN}{number}/{name}"


def remeasured_digest(full: str) -> str:
    """Return the digest in the full name of a score; empty if it is a plain one."""
    anew = REMEASURED.fullmatch(full)
    return anew["digest"] if anew else ""


def split_latent_set(full: str) -> tuple[str, int, str] | None:
    """Return (the digest or "", the set's number, the score's bare name) of a further set's score.

    None for any other measurement.
    """
    parts = LATENT_SET.fullmatch(full)
    return (parts["digest"] or "", int(parts["number"]), parts["name"]) if parts else None


def is_of_sets(full: str, others: Iterable[str]) -> bool:
    """Whether the sets that `latent_set_name` names belong to the score of this full name.

    Training measures further sets as it measures after the last step: `final/…` if it is there.

    Args:
        full: The full name of a score.
        others: The full names of the run's measurements.
    """
    split = split_score(full)
    return split is None or split[0] == FINAL or FINAL + split[1] not in others


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


def is_measured_as(protocol: Mapping[str, Any], name: str, asked: FinalMeasurement) -> bool:
    """Whether a score of this bare name was measured as it is asked for.

    That is, on as many samples, against the same given statistics or none, by the same code of a
    third-party metric, under the same definition and weights of the extractor. These two count
    where they are known to be asked for.
    """
    data = protocol.get("data")
    given = data if isinstance(data, str) and data.startswith(IN_PROTOCOL) else None
    return (protocol.get("generated") == asked.samples
            and given == asked.references.get(name)
            and protocol.get("code") == asked.codes.get(name)
            and asked.definitions.get(name) in (None, definition_digest(protocol))
            and asked.weights.get(name) in (None, protocol.get("weights")))


def compared_scores(latest: Mapping[str, tuple[int, float]], last_step: int,
                    protocol_of: Callable[[str], Mapping[str, Any]], final: FinalMeasurement | None,
                    ) -> dict[str, tuple[str, float]]:
    """Return the scores of a run that its experiment compares, as `last_scores` does.

    Args:
        latest: The step and the value of each measurement's last value, by full name.
        last_step: Of the run.
        protocol_of: Returns how the score of a full name was measured; empty if unknown.
        final: What the experiment asks for; None if unknown: what was measured last.
    """
    if final is None:
        return last_scores({full: value for full, (_, value) in latest.items()})
    steps = {full: (step,) for full, (step, _) in latest.items()}
    return {name: (full, latest[full][1])
            for name, full in names_at(last_step, steps, protocol_of, final).items()}


def names_at(step: int, measured: Mapping[str, Collection[int]],
             protocol_of: Callable[[str], Mapping[str, Any]], asked: FinalMeasurement,
             ) -> dict[str, str]:
    """Return the full name of each score that was measured at a step as it is asked for.

    Args:
        measured: At which steps there is a measurement, by full name.
        protocol_of: As for `compared_scores`.
    """
    chosen: dict[str, str] = {}
    for name, full_names in _by_bare_name(measured).items():
        fitting = [full for full in full_names if name in asked.scores and step in measured[full]
                   and is_measured_as(protocol_of(full), name, asked)]
        if fitting:
            chosen[name] = fitting[0]
    return {name: chosen[name] for name in asked.scores if name in chosen}


def _by_bare_name(full_names: Iterable[str]) -> dict[str, list[str]]:
    """Return the full names by bare name: measured anew, after training, during it."""
    def order(full: str) -> tuple[bool, bool, str]:
        return REMEASURED.fullmatch(full) is None, not full.startswith(FINAL), full

    by_name: dict[str, list[str]] = {}
    for full in sorted(full_names, key=order):
        if name := bare_name(full):
            by_name.setdefault(name, []).append(full)
    return by_name
