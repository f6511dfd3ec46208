"""What the entries of each registry state about themselves: a frozen record for each kind."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from gan_bench.data_facts import DataFacts
from gan_bench.errors import shown

Better = Literal["lower", "higher"] | None
Reference = Literal["train", "test", "modes", "frequencies"] | None
VIEWS = ("pixels", "discriminator", "coordinates")


def _require_one_of(facts: object, name: str, *allowed: str | None) -> None:
    """Refuse a fact whose value is not allowed."""
    if (value := getattr(facts, name)) not in allowed:
        raise ValueError(f"{type(facts).__name__}: {name} is one of "
                         f"{', '.join(map(repr, allowed))}, not {shown(value)}")


def _never(**arguments: object) -> bool:
    return False


def _without(**arguments: object) -> None:
    return None


def _accept(shape: tuple[int, ...], **arguments: object) -> str | None:
    return None


def _accept_images(shape: tuple[int, ...], **arguments: object) -> str | None:
    return None if len(shape) == 3 else "it augments images"


class _Facts:
    """Refuses by a record's annotations a flag that is no boolean, a function that is none."""

    def __post_init__(self) -> None:
        """Check the facts.

        Raises:
            ValueError: A fact has another type.
        """
        for fact in fields(self):  # type: ignore[arg-type]
            value, expected, annotation = getattr(self, fact.name), "", str(fact.type)
            if annotation == "bool" and not isinstance(value, bool):
                expected = "True or False"
            elif annotation.startswith("Callable") and not callable(value) and not (
                    value is None and annotation.endswith("| None")):
                expected = "a function"
            if expected:
                raise ValueError(f"{type(self).__name__}: {fact.name} is {expected}, not "
                                 f"{shown(value)}")


@dataclass(frozen=True)
class NoFacts:
    """The facts of a kind whose entries state nothing."""


@dataclass(frozen=True, kw_only=True)
class DatasetFacts(_Facts):
    """What a data set states.

    Attributes:
        describe: (data root, **arguments) → DataFacts, without torch and without reading the data.
        modes: **arguments → the centres of the modes and their common standard deviation, if the
            data's definition has modes.
        targets: **arguments → the data set whose images are the targets of pairs, a `Part`; None if
            the data has no pairs.
        channel: The loaded data set → the grey data set in its first channel, if it is a stack of
            grey images.
    """

    describe: Callable[..., DataFacts]
    modes: Callable[..., tuple[list[tuple[float, float]], float]] | None = None
    targets: Callable[..., Any] = _without
    channel: Callable[[Any], Any] | None = None


@dataclass(frozen=True, kw_only=True)
class ModelFacts(_Facts):
    """What a family of networks states.

    Attributes:
        refuses: (shape, **arguments) → the reason why it cannot generate such data, or None; by
            default it can generate any.
        mixes: **arguments → whether D judges an example by the others of its batch, as batch norm
            does.
        zeros: **arguments → whether D begins with layers whose weights are all 0.
        group: **arguments → how many examples D judges together by their standard deviation, with
            which gradient penalties are published; None if it does not mix so.
        scaled: **arguments → the reason why the weights of D cannot be divided by their norm, or
            None.
        bounded: Whether images stay in -1..1; otherwise levels are clipped when they are measured.
        labelled: Whether the factory takes (shape, number of classes), which is 0 if G and D are
            without labels. G then receives the label as a one-hot vector after the latents, and
            D(examples, labels) is the D of `condition: projection`.
        takes: What its networks are conditioned on: `class`, a class or nothing, as `condition`
            says; `image`, always an image. Then the factory takes (shape, shape of the input), G
            receives the input, flattened, after the latents, and D is D(examples, inputs).
        styles: Whether G maps latents to a style w for each layer: `styles(latents)` are
            (N, layers, w_dim), and `synthesis(styles)` the images.
    """

    refuses: Callable[..., str | None] = _accept
    mixes: Callable[..., bool] = _never
    zeros: Callable[..., bool] = _never
    group: Callable[..., int | None] = _without
    scaled: Callable[..., str | None] = _without
    bounded: bool = True
    labelled: bool = False
    takes: Literal["class", "image"] = "class"
    styles: bool = False

    def __post_init__(self) -> None:
        """Check the facts, as `_Facts` does."""
        super().__post_init__()
        _require_one_of(self, "takes", "class", "image")


@dataclass(frozen=True, kw_only=True)
class LossFacts(_Facts):
    """What a loss states.

    Attributes:
        needs_real: Whether G's loss depends on logits of real examples.
        one_term: Whether D's loss does not separate into a real and a fake term.
    """

    needs_real: bool = False
    one_term: bool = False


@dataclass(frozen=True, kw_only=True)
class PenaltyFacts(_Facts):
    """What a penalty states.

    Attributes:
        on_examples: Whether it needs a D that computes every example separately.
        term: Whether it is a term of D's loss.
        g_term: Whether it is a term of G's loss.
        judges: Which examples its term of D's loss gives to D, under whose labels: `real`, `fake`,
            both or a mixture (`both`), or none (None).
        needs_styles: Whether it needs a G with styles (`ModelFacts.styles`).
        needs_targets: Whether it compares G's images with the targets of their inputs.
        divides: Whether it divides weights by their norm.
        whole_run: Whether what it does at a step depends on the number of all steps, as noise that
            fades over the run does; a run with more steps is another one from its first step on.
    """

    on_examples: bool
    term: bool
    g_term: bool = False
    judges: Literal["real", "fake", "both"] | None = "both"
    needs_styles: bool = False
    needs_targets: bool = False
    divides: bool = False
    whole_run: bool = False

    def __post_init__(self) -> None:
        """Check the facts, as `_Facts` does."""
        super().__post_init__()
        _require_one_of(self, "judges", "real", "fake", "both", None)


@dataclass(frozen=True, kw_only=True)
class AugmentationFacts(_Facts):
    """What an augmentation states.

    Attributes:
        refuses: (shape, **arguments) → the reason why it cannot augment such data, or has no use
            for these arguments, or None; by default it can augment all images.
        has_p: Whether it has a probability, which is logged as `train/augment_p`.
    """

    refuses: Callable[..., str | None] = _accept_images
    has_p: bool = False


@dataclass(frozen=True, kw_only=True)
class MetricFacts(_Facts):
    """What a metric states; `gan_bench.evaluation.metrics.base` says what each fact means."""

    better: Better
    extractor: str
    reference: Reference
    refuses: Callable[[DataFacts], str | None]
    held_out: bool = False
    asked: bool = False
    matched: bool = False
    paired: bool = False
    gaussian: bool = False
    least: int = 2
    least_per_class: int | None = None
    least_per_feature: int | None = None
    range: tuple[float, float] | None = None
    picture: Literal["nearest"] | None = None
    returns: tuple[str, ...] = ()
    protocol: Mapping[str, object] = field(default_factory=dict)
    score_protocols: Mapping[str, Mapping[str, object]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse values that no metric can have, and facts that contradict each other."""
        super().__post_init__()
        _require_one_of(self, "better", "lower", "higher", None)
        _require_one_of(self, "reference", "train", "test", "modes", "frequencies", None)
        _require_one_of(self, "picture", "nearest", None)
        counts = {name: getattr(self, name) for name in
                  ("least", "least_per_class", "least_per_feature")}
        for name, count in counts.items():
            if (type(count) is not int or count < 1) and (name == "least" or count is not None):
                raise ValueError(f"MetricFacts: {name} is a whole number from 1, not "
                                 f"{shown(count)}")
        if self.range is not None and not (
                isinstance(self.range, tuple) and len(self.range) == 2
                and self.range[0] < self.range[1]):
            raise ValueError(f"MetricFacts: range is (least, greatest), not {shown(self.range)}")
        if not isinstance(self.returns, tuple) or len({*self.returns}) < len(self.returns):
            raise ValueError(f"MetricFacts: returns is a tuple of different names, not "
                             f"{shown(self.returns)}")
        if unknown := {*self.score_protocols} - {*self.returns}:
            raise ValueError(f"MetricFacts: score_protocols names {min(unknown)}, which is not in "
                             f"returns")
        if problem := self._contradiction():
            raise ValueError(f"MetricFacts: {problem}")

    def _contradiction(self) -> str | None:
        """Return why these facts contradict each other; None if they do not."""
        view, reference = self.extractor, self.reference
        examples = reference in ("train", "test")
        if view == "coordinates" and reference not in ("modes", None):
            return (f"extractor 'coordinates' compares with reference 'modes' or None, not "
                    f"{reference!r}")
        if reference == "modes" and view != "coordinates":
            return f"reference 'modes' needs extractor 'coordinates', not {view!r}"
        if reference == "frequencies" and view in VIEWS:
            return f"reference 'frequencies' needs a registered extractor, not the view {view!r}"
        if self.asked and (view == "discriminator" or self.matched
                           or reference in ("modes", "frequencies")):
            return ("asked goes with reference 'train', 'test' or None, and neither with matched "
                    "nor with extractor 'discriminator'")
        if self.paired and ((view, reference) != ("pixels", "test") or not self.matched):
            return "paired goes with extractor 'pixels', reference 'test' and matched"
        for name in ("matched", "gaussian", "least_per_feature"):
            if getattr(self, name) and (view == "discriminator" or not examples):
                return (f"{name} goes with reference 'train' or 'test', and not with extractor "
                        f"'discriminator'")
        return None
