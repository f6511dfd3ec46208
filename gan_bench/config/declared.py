"""What an experiment declares of its comparison."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gan_bench.config.amount import Amount, parse_amount
from gan_bench.config.curve_mean import CurveMean


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
