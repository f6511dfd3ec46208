"""What an experiment declares of its comparison."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    ValidationError,
    WithJsonSchema,
    field_validator,
    model_validator,
)
from pydantic_core import from_json

from gan_bench.config.search.search import SearchSpec
from gan_bench.errors import worded

TAG_LIMIT = 5000  # characters of a tag of an experiment: MLflow 3.11 takes no more
PERCENT = r"^\s*(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?\s*%\s*$"


@dataclass(frozen=True)
class Amount:
    """A size in the units of a score, `0.5`, or a share of a mean, `5%`.

    Attributes:
        value: Above 0; 0.05 for `5%`.
        relative: Whether it is a share.
    """

    value: float
    relative: bool = False

    def __str__(self) -> str:
        return self.with_digits(6)

    def with_digits(self, digits: int) -> str:
        """Return it as text, rounded to so many significant digits."""
        return (f"{100 * self.value:.{digits}g}%" if self.relative else
                f"{self.value:.{digits}g}")


def parse_amount(given: object) -> Amount:
    """Return the amount that a number, or a string such as `0.5` or `5%`, stands for.

    Raises:
        ValueError: It is none, or not above 0.
    """
    if isinstance(given, Amount):
        return given
    text = str(given)
    relative = re.match(PERCENT, text) is not None
    try:
        value = float(text.strip().removesuffix("%")) / (100 if relative else 1)
    except ValueError:
        value = math.nan
    if isinstance(given, bool) or not 0 < value < math.inf:
        raise ValueError(f"an amount is a number above 0, or a percentage such as '5%', "
                         f"not {text!r:.60}")
    return Amount(value, relative)


def parse_margin(given: object) -> Amount | dict[str, Amount] | None:
    """Return the margin for all scores, or that of each.

    Raises:
        ValueError: It is no amount, or not by the names of scores.
    """
    if given is None:
        return None
    if isinstance(given, dict):
        if not all(isinstance(name, str) for name in given):
            raise ValueError("a margin by score is {SCORE: AMOUNT}, with the names of scores")
        return {name: parse_amount(value) for name, value in given.items()}
    return parse_amount(given)


def _margin_text(margin: Amount | dict[str, Amount] | None) -> str | dict[str, str] | None:
    if isinstance(margin, dict):
        return {name: amount.with_digits(15) for name, amount in margin.items()}
    return margin.with_digits(15) if margin else None


def _storable(given: object) -> object:
    # A lone surrogate, of a file's name say, cannot be stored as UTF-8.
    return given.encode("utf-8", "replace").decode() if isinstance(given, str) else given


Margin = Annotated[
    Amount | dict[str, Amount] | None, BeforeValidator(parse_margin),
    PlainSerializer(_margin_text, when_used="json"),
    WithJsonSchema({"anyOf": [
        {"type": "string", "pattern": PERCENT}, {"type": "null"},
        {"type": "object", "additionalProperties": {"anyOf": [
            {"type": "number", "exclusiveMinimum": 0}, {"type": "string", "pattern": PERCENT}]}}]})]
Text = Annotated[str, BeforeValidator(_storable)]
# What training logs at every `log_every` steps, and at the last.
Logged = Literal[
    "train/g_loss", "train/g_penalty", "train/g_grad_norm", "train/d_loss", "train/d_loss_real",
    "train/d_loss_fake", "train/d_penalty", "train/d_grad_norm", "train/d_real", "train/d_fake",
    "train/d_accuracy_real", "train/d_accuracy_fake", "train/augment_p",
]
Steps = Annotated[list[Annotated[int, Field(ge=1)]], Field(min_length=2, max_length=2)]


class CurveMean(BaseModel):
    """The mean of a logged curve between two steps, which is compared like a score.

    It does not belong to a run's id, because it measures nothing new: it may be declared, changed
    and removed later without retraining.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)
    of: Logged = Field(description="the name of the logged curve")
    steps: Steps = Field(description="first and last step of the mean")
    better: Literal["lower", "higher"] | None = Field(
        None, description="which way is better; null: neither, and there is no verdict")

    @model_validator(mode="after")
    def _in_order(self) -> CurveMean:
        if self.steps[0] > self.steps[1]:
            raise ValueError(f"steps: the first is after the last: {self.steps}")
        return self

    def logged(self, every: int, steps: int, due: Collection[int] = (1,)) -> int:
        """Return at how many steps a run of so many, logged every so often, has a value of it.

        Args:
            due: Every so many steps there is something to log, for one reason or another.
        """
        first, last = self.steps
        own = {*range(-(-first // every) * every, min(last, steps) + 1, every)}
        own |= {steps} if first <= steps <= last else set()
        return sum(any(step % one == 0 for one in due) for step in own)


class FinalMeasurement(BaseModel):
    """What the runs of an experiment are compared by, after their last step.

    Attributes:
        scores: Their names.
        samples: Number of generated samples.
        references: By score, what stands in its protocol for given statistics; others compare with
            the data set.
        codes: By score, the hash of the code of a third-party metric and extractor.
        definitions: By score, the digest of its definition (`score_definition`); older declarations
            do not say it, and accept any.
        weights: By score, the hash of its extractor's weights, where some run was measured under
            others; any are accepted for other scores.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)
    scores: tuple[Text, ...]
    samples: int
    references: dict[Text, Text] = {}
    codes: dict[Text, Text] = {}
    definitions: dict[Text, Text] = {}
    weights: dict[Text, Text] = {}

    def only(self, score: str) -> FinalMeasurement:
        """Return the measurement of one of its scores."""
        of_score = {name: {key: value for key, value in each.items() if key == score}
                    for name, each in (
                        ("references", self.references), ("codes", self.codes),
                        ("definitions", self.definitions), ("weights", self.weights))}
        return self.model_copy(update={"scores": (score,), **of_score})

    def under(self, weights: Mapping[str, str]) -> FinalMeasurement:
        """Return the same with the extractors' weights of those of its scores that have any."""
        of_scores = {name: found for name, found in weights.items() if name in self.scores}
        return self.model_copy(update={"weights": of_scores})


class Declared(BaseModel):
    """What an experiment declares of its comparison.

    Attributes:
        question: The question that it answers; may be empty.
        baseline: The variant that the others are compared with; empty where it is not known.
        paired: Whether runs are compared seed by seed.
        margin: The largest negligible difference: for all scores, by score, or None.
        variants: Their names, in the experiment's order; empty where they are not known.
        command: How to repeat it; may be empty.
        settings: What stands for each variant's settings, as far as it is known; runs under others
            answer another question.
        differs: How each variant differs from the baseline, in words.
        curve_means: Means of logged curves that are scores too, by name.
        seeds: Those of every variant; empty where they are not known.
        final: What they are compared by; None where it is not known: what was measured last.
        labels: What readers see in place of the name of a variant or score.
        sweeps: By axis, the variants that differ from the baseline on it alone: each is a family
            of Holm's correction, and all other variants are another.
        varied: The settings in which the runs differ, as `config.flat` names them; empty where they
            are not known.
        search: The random search that its runs are of; None if there is none. `seeds` are then
            those of the second stage, by whose runs variants are compared.
        searched: By variant, the keys of the search's space that it draws.
        draws: By variant, what stands for the settings of each draw, in their order; empty where
            it is not known.
        shared: By variant, the draws that have the same settings, the first of each group first.
        select_reference: What the score that selects compares with: `train` or `test` examples, or
            given `statistics`, for instance; empty where it is not known.
        select_final: How the score that selects is measured; None: as `final` says. `evaluate`
            gives runs further scores, by which nothing is chosen anew.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)
    question: Text = ""
    baseline: Text = ""
    paired: bool = False
    margin: Margin = None
    variants: tuple[Text, ...] = ()
    command: Text = ""
    settings: dict[Text, Text] = {}
    differs: dict[Text, Text] = {}
    curve_means: dict[Text, CurveMean] = {}
    seeds: tuple[int, ...] = ()
    final: FinalMeasurement | None = None
    labels: dict[Text, Text] = {}
    sweeps: dict[Text, tuple[Text, ...]] = {}
    varied: tuple[Text, ...] = ()
    search: SearchSpec | None = None
    searched: dict[Text, tuple[Text, ...]] = {}
    draws: dict[Text, tuple[Text, ...]] = {}
    shared: dict[Text, tuple[tuple[int, ...], ...]] = {}
    select_reference: Text = ""
    select_final: FinalMeasurement | None = None

    @field_validator("curve_means", mode="before")
    @classmethod
    def _read_texts(cls, given: object) -> object:
        if not isinstance(given, dict):
            return given
        # Older versions wrote each as JSON within the JSON.
        texts = {name: mean for name, mean in given.items() if isinstance(mean, str)}
        return given | {name: from_json(text) for name, text in texts.items()}

    def margin_of(self, score: str) -> Amount | None:
        """The largest difference in a score that is declared negligible; None if undeclared."""
        return self.margin.get(score) if isinstance(self.margin, dict) else self.margin

    def label(self, name: str) -> str:
        """Return what readers see in place of the name of a variant or score."""
        return self.labels.get(name, name)

    def name_of(self, label: str) -> str:
        """Return the name of the variant or score that readers see under a label."""
        return next((name for name, text in self.labels.items() if text == label), label)

    def sweep_of(self, variant: str) -> str:
        """Return the axis on which alone a variant differs from the baseline; empty if none."""
        return next((axis for axis, names in self.sweeps.items() if variant in names), "")

    def with_changes(self, **changes: object) -> Declared:
        """Return the same with other values of some fields, which are checked."""
        return Declared.model_validate({**dict(self), **changes})

    @property
    def selecting(self) -> FinalMeasurement | None:
        """How the score that selects is measured; None where it is not known."""
        return self.select_final or self.final

    def selecting_as(self, other: Declared) -> Declared:
        """Return the same with draws that are chosen by the measurement of another declaration."""
        if self.search is None or other.final is None or other.final == self.final:
            return self
        return self.with_changes(select_final=other.final.only(self.search.select.by))

    def under(self, weights: Mapping[str, str]) -> Declared:
        """Return the same with scores that are compared under these weights of extractors."""
        parts = {"final": self.final, "select_final": self.select_final}
        return self.with_changes(**{name: part.under(weights) for name, part in parts.items()
                                    if part is not None})


_FORMS: dict[str, type | tuple[type, ...]] = {
    "question": str, "baseline": str, "paired": bool, "margin": (str, dict), "variants": list,
    "command": str, "settings": dict, "differs": dict, "curve_means": dict,
    "seeds": list, "final": dict, "labels": dict, "sweeps": dict, "varied": list,
    "search": dict, "searched": dict, "draws": dict, "shared": dict, "select_reference": str,
    "select_final": dict}


def read_declared(text: str) -> Declared:
    """Return what a file or a tag says, as far as it is of the right form.

    The text may come from any program or an older version. Fields of another form count as absent.

    Raises:
        ValueError: A margin is no amount, a curve's mean is none, or a search is none: without
            them the verdicts would be others.
    """
    try:
        given = json.loads(text)
    except (ValueError, RecursionError):
        given = None
    facts = given if isinstance(given, dict) else {}
    try:
        return Declared.model_validate({
            name: _usable(name, facts[name]) for name, form in _FORMS.items()
            if _counts(name, facts.get(name), form)})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise ValueError(f"{'.'.join(map(str, first['loc']))}: {worded(first)}") from None


def _counts(name: str, value: object, form: type | tuple[type, ...]) -> bool:
    if name == "search":  # of any form: without it draws would be compared as ordinary runs
        return value is not None
    return bool(value) and isinstance(value, form)


def _usable(name: str, value: Any) -> Any:
    """Return a field without the entries that are of another form."""
    if name == "search":
        return value
    if isinstance(value, list):
        kind = int if name == "seeds" else str
        return tuple(entry for entry in value if type(entry) is kind)
    if name in ("final", "select_final"):
        return _final_measurement(value)
    if name == "shared":
        return {variant: tuple(tuple(draw for draw in group if type(draw) is int)
                               for group in groups if isinstance(group, list))
                for variant, groups in value.items() if isinstance(groups, list)}
    if name in ("sweeps", "searched", "draws"):
        return {axis: tuple(entry for entry in names if isinstance(entry, str))
                for axis, names in value.items() if isinstance(names, list)}
    if isinstance(value, dict):
        form = (str, dict) if name == "curve_means" else str
        return {key: entry for key, entry in value.items() if isinstance(entry, form)}
    return value


def _final_measurement(value: dict[str, Any]) -> FinalMeasurement | None:
    try:
        return FinalMeasurement.model_validate_json(json.dumps(value))
    except ValidationError:
        return None


def comparison_tag(declared: Declared) -> str:
    """Return the tag of an experiment: whole JSON of at most `TAG_LIMIT` characters.

    In what variants differ is left out, and what is as it is by default. Where the facts are too
    long, the settings of draws are left out, then the seeds, then the settings, then the labels,
    then the sweeps (without them Holm's correction is stricter), then the variants; then the
    question is shortened, and a command that alone is too long is left out. The verdicts depend on
    all other facts, which always stay.

    Raises:
        ValueError: Even so they are too long.
    """
    kept = declared.with_changes(differs={}, varied=())
    if len(_json(kept)) > TAG_LIMIT:
        kept = kept.with_changes(draws={})
    if len(_json(kept)) > TAG_LIMIT:
        kept = kept.with_changes(seeds=())
    if len(_json(kept)) > TAG_LIMIT:
        kept = kept.with_changes(settings={})
    if len(_json(kept)) > TAG_LIMIT:
        kept = kept.with_changes(labels={})
    if len(_json(kept)) > TAG_LIMIT:
        kept = kept.with_changes(sweeps={})
    if len(_json(kept)) > TAG_LIMIT:
        kept = kept.with_changes(variants=())
    if len(_json(kept.with_changes(question=""))) > TAG_LIMIT:
        kept = kept.with_changes(command="")
    excess = len(_json(kept)) - TAG_LIMIT
    if excess > 0:
        kept = kept.with_changes(question=_shortened(kept.question, excess))
    text = _json(kept)
    if len(text) > TAG_LIMIT:
        raise ValueError(f"baseline, margin, curve_means and search take {len(text):,} characters "
                         f"of MLflow's tag of the experiment, which holds {TAG_LIMIT:,}; give "
                         f"fewer margins, curve means, drawn keys or draws with the same settings, "
                         f"or shorter names")
    return text


def _json(declared: Declared) -> str:
    return declared.model_dump_json(exclude_defaults=True)


def _shortened(text: str, excess: int) -> str:
    """Return the start of a text whose JSON is shorter by `excess` characters, or nothing."""
    room = len(_quoted(text)) - excess
    start = text
    while start and (over := len(_quoted(start + "…")) - room) > 0:
        # A character takes at most six in JSON, so this cuts no more than it must.
        start = start[:-max(1, over // 6)]
    return start + "…" if start else ""


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
