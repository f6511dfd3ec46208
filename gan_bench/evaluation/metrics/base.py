"""Metrics: pure functions of features, in float64.

A metric is a decorated function in a module of this package:

    @METRICS.register("fid", MetricFacts(better="lower", extractor="inception",
                                         reference="train", refuses=refuses_vectors))
    def fid(real: Features, fake: Features) -> float: ...

Keyword-only parameters of the function are the metric's arguments. Its `MetricFacts`:

- `better`: `"lower"`, `"higher"`, or None if neither is better.
- `extractor`: where the features `real` and `fake` come from: a registered extractor, or one of the
  views `pixels` (the images themselves), `discriminator` (its logits) and `coordinates` (points in
  units of the modes' standard deviation).
- `reference`: the content of `real`: the split `"train"` or `"test"`, `"modes"`, the
  `"frequencies"` of the training labels, or None if the metric needs only the samples; `real` is
  None then. `modes` go with `coordinates`, and `frequencies` with a registered extractor.
- `held_out`: True if the function takes held-out real examples as a third argument: as many as
  there are samples, or all.
- `asked`: True if the function takes `conditional.Labels` as a third argument: the class that each
  sample was generated for. Runs without a condition, and images from files, are refused.
- `paired`: True if the function takes the shape `(C, H, W)` of an image as a third argument, and
  row i of `real` is the target of the input that sample i was made from. It goes with the view
  `pixels`, the reference `test` and `matched`. Runs without inputs, and files, are refused.
- `matched`: True if `real` holds at most as many examples as there are samples, evenly spread.
- `gaussian`: True if of `real` the function uses only the Gaussian; statistics from a file, without
  examples, may then take the place of the split.
- `least`: the least number of samples and of real examples; 2 by default.
- `least_per_class`: the least number of samples for each class of the data, on average.
- `least_per_feature`: the least number of samples for each feature of the extractor.
- `range`: the least and the greatest possible score, if the score has bounds.
- `picture`: `"nearest"` if a run with this metric ends with a picture of generated images beside
  their nearest training images.
- `refuses`: DataFacts → None, or the reason why such data cannot be measured. The message starts
  with the metric's name, and the reason completes the sentence.
- `returns`: the names of the scores, if the function returns several in a dict. Other entries of
  the dict have names that begin with `class/`; they are logged and not compared.
- `protocol`: a dict of further details of the measurement that a reader must know.
- `score_protocols`: the same of single scores, by the names in `returns`. A new definition of a
  score changes its protocol, so that older values are not compared with it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakKeyDictionary, ref

from gan_bench.data_facts import DataFacts
from gan_bench.evaluation.features.base import FeatureError, Features, NonFiniteFeatures
from gan_bench.registry import METRICS, Better, MetricFacts, Reference

if TYPE_CHECKING:
    from numpy.typing import NDArray

T = TypeVar("T")
Other = TypeVar("Other")
Metric = TypeVar("Metric", bound=Callable[..., float])


def asks_d(name: str) -> bool:
    """Whether a metric needs the discriminator, which exists only in training."""
    return METRICS[name].facts.extractor == "discriminator"


def asks_labels(name: str) -> bool:
    """Whether a metric needs the class that each sample was generated for."""
    return METRICS[name].facts.asked


def asks_pairs(name: str) -> bool:
    """Whether a metric compares samples with the targets of their inputs."""
    return METRICS[name].facts.paired


def refuses_nothing(data: DataFacts) -> str | None:
    """Accept any data."""
    return None


def refuses_vectors(data: DataFacts) -> str | None:
    """Accept only images."""
    return None if data.is_image else "needs images, and this data set holds vectors"


def refuses_unlabelled(data: DataFacts) -> str | None:
    """Accept only labelled images."""
    if data.is_image and data.classes < 2:
        return ("needs labels to train its classifier on, and this data set has none; "
                "use fid and is, or nearest_train_mse")
    return refuses_vectors(data)


# The extractors whose features have distances and neighbours, each with its check of the data.
REFUSES = {"inception": refuses_vectors, "classifier": refuses_unlabelled,
           "random": refuses_vectors, "dinov2": refuses_vectors}


def on_extractors(
    name: str, *, better: Better, reference: Reference, range: tuple[float, float] | None = None,
    matched: bool = False, gaussian: bool = False, least: int = 2,
    least_per_feature: int | None = None,
    protocol: Mapping[str, object] | None = None, inception: str | None = None,
) -> Callable[[Metric], Metric]:
    """Register the decorated function once for every extractor.

    `name` holds `{}` in the place of the extractor's name; `inception` is the metric's name on
    Inception's features, if it differs. The other arguments are facts of the metric.
    """

    def add(metric: Metric) -> Metric:
        names = {extractor: name.format(extractor) for extractor in REFUSES}
        names["inception"] = inception or names["inception"]
        for extractor, refuses in REFUSES.items():
            METRICS.register(names[extractor], MetricFacts(
                better=better, extractor=extractor, reference=reference, refuses=refuses,
                matched=matched, gaussian=gaussian, least=least,
                least_per_feature=least_per_feature, range=range,
                protocol=protocol or {}))(metric)
        return metric

    return add


def once(function: Callable[[Other, Features], T]) -> Callable[[Other, Features], T]:
    """Remember the result of `function(other, features)`, because several metrics need it.

    It is remembered as long as the features exist, for the last `other` alone: the same object, as
    an equal one is not recognised.
    """
    results: WeakKeyDictionary[Features, tuple[ref[Other], T]] = WeakKeyDictionary()

    @wraps(function)
    def remembered(other: Other, features: Features) -> T:
        earlier = results.get(features)
        if earlier is not None and earlier[0]() is other:
            return earlier[1]
        result = function(other, features)
        results[features] = ref(other), result
        return result

    return remembered


def once_per_set(function: Callable[[Features], T]) -> Callable[[Features], T]:
    """Remember the result of `function(features)` as long as the features exist."""
    results: WeakKeyDictionary[Features, T] = WeakKeyDictionary()

    @wraps(function)
    def remembered(features: Features) -> T:
        if features not in results:
            results[features] = function(features)
        return results[features]

    return remembered


@once
def check(real: Features, fake: Features) -> None:
    """Refuse features between which no distance can be computed.

    Generated samples may all be the same: their distances are finite, and a collapsed generator is
    a result.

    Raises:
        FeatureError: The features come from two extractors, or differ in width, or there are fewer
            than 2, or the real features are all the same or not finite.
        NonFiniteFeatures: Generated features are not finite.
    """
    import numpy as np

    if real.extractor != fake.extractor:
        raise FeatureError(f"features of {real.extractor} do not compare with {fake.extractor}'s")
    if real.values.shape[1:] != fake.values.shape[1:]:
        raise FeatureError(f"real features of shape {real.values.shape} do not compare with "
                           f"generated ones of shape {fake.values.shape}; use one extractor")
    check_count(real, fake, 2)
    if not real.has_examples:  # they were checked when the file was read
        _check_fake(fake)
        return
    if not np.isfinite(real.values).all():
        raise FeatureError(f"a real feature of {real.extractor} is not finite; check the images "
                           f"and the extractor's weights")
    _check_fake(fake)
    if (real.values == real.values[0]).all():
        raise FeatureError(f"the features of {real.extractor} are the same for all "
                           f"{len(real.values):,} real examples, so they have no spread to compare "
                           f"with; check the images")


def _check_fake(fake: Features) -> None:
    import numpy as np

    if not np.isfinite(fake.values).all():
        raise NonFiniteFeatures(f"a generated sample's feature of {fake.extractor} is not finite; "
                                f"check the images and the extractor's weights")


def check_finite(values: NDArray[Any], name: str) -> None:
    """Refuse a NaN or an infinity, which a comparison or an argmax would silently ignore.

    Args:
        name: Of the values, in the plural, for the message.

    Raises:
        NonFiniteFeatures: A value is not finite.
    """
    import numpy as np

    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise NonFiniteFeatures(f"{name} are not all finite; check their source")


def check_count(real: Features, fake: Features, least: int) -> None:
    """Refuse too few examples.

    Raises:
        FeatureError: There are fewer than `least` real examples or generated samples.
    """
    for name, features in ("real examples", real), ("generated samples", fake):
        if features.has_examples and len(features.values) < least:
            raise FeatureError(f"at least {least:,} {name} are needed, and there are "
                               f"{len(features.values):,}; give more (evaluate.samples)")
