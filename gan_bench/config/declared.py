"""What an experiment declares of its comparison."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gan_bench.config.amount import Amount, parse_amount
from gan_bench.config.curve_mean import CurveMean

TAG_LIMIT = 5000  # characters of a tag of an experiment: MLflow 3.11 takes no more


@dataclass(frozen=True)
class Declared:
    """What an experiment says of its own comparison.

    Attributes:
        question: What it is to find out; may be empty.
        baseline: The variant that the others are compared with; empty where it is not known.
        paired: Whether runs are compared seed by seed.
        margin: The largest difference that is of no matter: for all scores, by score, or None.
        variants: Their names, in the experiment's order; empty where they are not known.
        command: How to repeat it; may be empty.
        settings: What stands for each variant's settings, as far as it is known; runs under others
            answer another question.
        curve_means: Means of logged curves that are scores too, by name.
    """

    question: str = ""
    baseline: str = ""
    paired: bool = False
    margin: Amount | dict[str, Amount] | None = None
    variants: tuple[str, ...] = ()
    command: str = ""
    settings: Mapping[str, str] = field(default_factory=dict)
    curve_means: Mapping[str, CurveMean] = field(default_factory=dict)

    @classmethod
    def of(cls, about: Mapping[str, Any]) -> Declared:
        """Return what plain data says, of `ExperimentSpec.declared` or from MLflow's tag of it.

        Raises:
            ValueError: A margin is no amount, or a curve's mean is none.
        """
        margin = about.get("margin")
        return cls(about.get("question", ""), about.get("baseline", ""),
                   about.get("paired", False),
                   {name: parse_amount(text) for name, text in margin.items()}
                   if isinstance(margin, dict) else parse_amount(margin) if margin else None,
                   tuple(about.get("variants", ())), about.get("command", ""),
                   about.get("settings", {}),
                   {name: CurveMean.model_validate_json(text)
                    for name, text in about.get("curve_means", {}).items()})

    def margin_of(self, score: str) -> Amount | None:
        """The largest difference in a score that is declared to be of no matter, if one is."""
        return self.margin.get(score) if isinstance(self.margin, dict) else self.margin


def comparison_tag(facts: Mapping[str, Any]) -> str:
    """Return the tag of an experiment: whole JSON of at most `TAG_LIMIT` characters.

    Where the facts are too long, the settings are left out, then the variants; then the question is
    shortened, and a command that alone is too long is left out. The verdicts depend on all other
    facts, which always stay.

    Raises:
        ValueError: Even so they are too long.
    """
    kept = {key: value for key, value in facts.items() if key != "differs"}
    for key in ("settings", "variants"):
        if len(_json(kept)) > TAG_LIMIT:
            kept.pop(key, None)
    if len(_json({**kept, "question": ""})) > TAG_LIMIT:
        kept.pop("command", None)
    excess = len(_json(kept)) - TAG_LIMIT
    if excess > 0 and kept.get("question"):
        kept["question"] = _shortened(kept["question"], excess)
    text = _json(kept)
    if len(text) > TAG_LIMIT:
        raise ValueError(f"baseline, margin and curve_means take {len(text):,} characters of "
                         f"MLflow's tag of the experiment, which holds {TAG_LIMIT:,}; give fewer "
                         f"margins or curve means, or shorter names")
    return text


def _json(facts: Mapping[str, Any]) -> str:
    # A lone surrogate cannot be stored as UTF-8.
    return json.dumps(facts, ensure_ascii=False).encode("utf-8", "replace").decode()


def _shortened(text: str, excess: int) -> str:
    """Return the start of a text whose JSON is shorter by `excess` characters, or nothing."""
    room = len(_json({"": text})) - excess
    start = text
    while start and (over := len(_json({"": start + "…"})) - room) > 0:
        # A character takes at most six in JSON, so this cuts no more than it must.
        start = start[:-max(1, over // 6)]
    return start + "…" if start else ""
