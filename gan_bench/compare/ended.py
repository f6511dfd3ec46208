"""What a comparison starts from: how each run ended, and what the experiment declares."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gan_bench.config.amount import Amount, parse_amount
from gan_bench.config.curve_mean import CurveMean
from gan_bench.journal.schema import Status
from gan_bench.journal.status import Progress


@dataclass(frozen=True)
class Ended:
    """One run, as comparisons see it: from its journal, or from MLflow.

    Attributes:
        variant, seed: Which run.
        status: How it ended, or that it has not.
        scores: Its final scores, by name.
        protocols: How each was measured, by the same names.
        classes: How many classes its data has; 0 where they are not known.
    """

    variant: str
    seed: int
    status: Status
    scores: Mapping[str, float]
    protocols: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    classes: int = 0

    @classmethod
    def of(cls, run: Progress) -> Ended:
        """Return what a journal says."""
        return cls(run.spec.variant, run.spec.seed, run.state, run.scores, run.protocols,
                   run.spec.data.classes)

    @property
    def collapsed(self) -> bool | None:
        """Whether fewer than half of the modes, or classes, have a single final sample.

        A convention of this program, for which there is none in the field: a milder loss of modes
        is what recall and coverage tell. None where neither was counted, or it is no final score.
        """
        if self.status != Status.FINISHED:
            return None
        known = self.protocols.get("modes_covered", {}).get("real")
        for name, there_are in (("modes_covered", known), ("classes_covered", self.classes)):
            if name in self.scores and there_are:
                return bool(self.scores[name] < int(there_are) / 2)
        return None


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
