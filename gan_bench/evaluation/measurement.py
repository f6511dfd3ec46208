"""What is measured, by which metrics and against which data, and the report of the scores.

The samples come from elsewhere: `evaluation.given_images` reads them, and
`training.trained_scores` generates them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from torch import Tensor

from gan_bench.components import data as datasets
from gan_bench.config.spec import data_facts, describe_shape
from gan_bench.config.statistics_file import Statistics
from gan_bench.errors import Say, UserError
from gan_bench.evaluation.metrics.base import asks_d, asks_labels, asks_pairs
from gan_bench.evaluation.scorer import Scorer
from gan_bench.journal.layout import Workspace
from gan_bench.journal.scores.score_names import CLASS
from gan_bench.registry import EXTRACTORS, METRICS, MetricEntry, Part

Side = Literal["train", "test"] | None


@dataclass(frozen=True)
class Wanted:
    """What to measure; None: as the source says, or the default.

    Attributes:
        data_set: What to measure against.
        metrics: Names of metrics.
        samples: The number of samples to generate, or to read from the images.
        split: The split of the data set with the real images for metrics of features.
        resize: Whether images of another size are resampled.
        log: Whether to add the scores to a run; images are then refused.
        statistics: What Fréchet distances compare with, in place of the data set's images.
    """

    data_set: Part | None = None
    metrics: list[str] | None = None
    samples: int | None = None
    split: Side = None
    resize: bool = False
    log: bool = False
    statistics: Statistics | None = None


@dataclass(frozen=True)
class Measurement:
    """What is measured, when the source has settled what the user left open.

    Attributes:
        data_set: The data set to measure against.
        metrics: Names of metrics.
        samples: Number of samples.
        shape: Of a sample.
        split, statistics: As in `Wanted`.
    """

    data_set: Part
    metrics: Sequence[str]
    samples: int
    shape: tuple[int, ...]
    split: Side = None
    statistics: Statistics | None = None


@dataclass(frozen=True)
class Report:
    """Scores, and how they were measured.

    Attributes:
        source: What was measured.
        scores: By name.
        protocols: By the same names.
        classes: The scores of single classes, as `class/<score>/<label>`.
        journalled: The same scores in the run's journal, if measured in the same way.
        not_alike: Why other scores in the journal are not comparable, by name.
        is_final: Whether a run was measured as its experiment measures it after the last step, if
            on another number of samples or by other metrics.
        notes: What limits the scores, a line each.
    """

    source: str
    scores: dict[str, float]
    protocols: dict[str, dict[str, Any]]
    classes: dict[str, float] = field(default_factory=dict)
    journalled: dict[str, float] = field(default_factory=dict)
    not_alike: dict[str, str] = field(default_factory=dict)
    is_final: bool = False
    notes: tuple[str, ...] = ()


def prepare_scorer(measurement: Measurement, workspace: Workspace, device: str, say: Say,
                   ) -> Scorer:
    """Prepare the data and what the metrics need, after refusing what cannot be measured.

    Raises:
        UserError: There is no metric, or one does not apply to the data; the samples have another
            shape than the data; or as `Scorer`.
    """
    data_set, data_root, cache = measurement.data_set, workspace.data_root, workspace.cache
    if not measurement.metrics:
        raise UserError("none of its metrics can be measured without the discriminator; name "
                        "others with --metric")
    facts = data_facts(data_set, data_root)
    if facts.shape != measurement.shape:
        raise UserError(f"the run makes {describe_shape(measurement.shape)}, but {data_set} holds "
                        f"{describe_shape(facts.shape)}; name another --dataset")
    entries = [_against(METRICS[name], measurement.split) for name in measurement.metrics]
    for entry in entries:
        if asks_d(entry.name):
            raise UserError(f"{entry.name} needs the discriminator, which only training has; "
                            f"leave it out of --metric")
        if reason := entry.facts.refuses(facts):
            raise UserError(f"{entry.name} {reason}")
    if measurement.statistics is not None and not any(entry.facts.gaussian for entry in entries):
        raise UserError("only Fréchet distances (fid, fd_…) compare with --statistics; name one "
                        "with --metric")
    datasets.prepare_data(data_set, data_root, cache, say)
    data = datasets.load(data_set, data_root, cache, device, facts=facts)
    return Scorer(entries, measurement.samples, data_set, data, cache, say,
                  measurement.statistics)


def refuse_metrics_of_labels(names: Sequence[str], why: str) -> None:
    """Refuse metrics that need the class that each sample was generated for.

    Args:
        names: The metrics.
        why: Why these samples have no such class; it completes the message.

    Raises:
        UserError: A metric needs it.
    """
    for name in names:
        if asks_labels(name):
            raise UserError(f"{name} compares each sample with its requested class, but "
                            f"{why}; name others with --metric")


def refuse_metrics_of_pairs(names: Sequence[str], why: str) -> None:
    """Refuse metrics that compare each sample with the target of its input.

    Args:
        names: The metrics.
        why: Why these samples have no inputs; it completes the message.

    Raises:
        UserError: A metric needs them.
    """
    for name in names:
        if asks_pairs(name):
            raise UserError(f"{name} compares each image with the target of its input, but {why}; "
                            f"name others with --metric")


def has_split(entry: MetricEntry) -> bool:
    """Whether a metric compares features with those of real images, of either split."""
    return entry.facts.extractor in EXTRACTORS.names() and entry.facts.reference == "train"


def measure(source: str, scorer: Scorer, samples: Tensor, how: dict[str, object],
            asked: Tensor | None = None) -> Report:
    """Return the report on samples.

    Args:
        source: What the samples are, for the reader.
        scorer: Measures them.
        samples: As the scorer takes them.
        how: Where they come from, for the protocols.
        asked: The class that each was generated for.

    Raises:
        UserError: A feature is not finite, or a metric cannot be computed.
    """
    try:
        values = scorer(samples, None, asked)
    except FloatingPointError as error:
        raise UserError(str(error)) from None
    scores = {name: value for name, value in values.items() if not name.startswith(CLASS)}
    classes = {name: value for name, value in values.items() if name.startswith(CLASS)}
    return Report(source, scores, scorer.protocol(**how), classes,
                  notes=_few_samples(scorer, len(samples)))


def _few_samples(scorer: Scorer, count: int) -> tuple[str, ...]:
    """Return the notes on distances that too few samples make too large."""
    thin = scorer.thin_gaussians()
    return tuple(
        f"{', '.join(name for name in thin if thin[name] == width)}: {count:,} samples for "
        f"{width:,} features are too few, and the distance is far too large: compare it only with "
        f"scores of as many samples; several times {width:,} are usual"
        for width in sorted(set(thin.values())))


def _against(entry: MetricEntry, split: Side) -> MetricEntry:
    """Return the metric with another reference split, if it compares features."""
    if split in (None, entry.facts.reference) or entry.facts.reference is None:
        return entry
    if not has_split(entry):
        raise UserError(f"{entry.name} uses only {entry.facts.reference}; leave it out of "
                        f"--metric, or leave out --split")
    return replace(entry, facts=replace(entry.facts, reference=split))
