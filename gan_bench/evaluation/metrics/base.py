"""Metrics: pure functions of features, in float64.

A metric is a decorated function in a module of this package:

    @METRICS.register("fid", MetricFacts(better="lower", extractor="inception",
                                         reference="train", refuses=refuses_vectors))
    def fid(real: Features, fake: Features) -> float: ...

Keyword-only parameters, if it has any, are its arguments. Its `MetricFacts`:

- `better`: `"lower"`, `"higher"`, or None where neither is.
- `extractor`: what `real` and `fake` are features of: a registered extractor, or one of the views
  `pixels` (the images themselves), `discriminator` (its logits) and `coordinates` (points in units
  of the modes' standard deviation).
- `reference`: what `real` is: the split `"train"` or `"test"`, `"modes"`, the `"frequencies"` of
  the training labels, or None where the metric looks at the samples alone and `real` is None.
  `modes` go with `coordinates`, and `frequencies` with a registered extractor.
- `held_out`: True where the function takes a third argument: held-out real examples, as many as
  samples if there are so many.
- `asked`: True where the function takes a third argument: `conditional.Labels`, of which class each
  sample was asked for. Runs without a condition, and given images, are refused.
- `matched`: True where `real` is to be no more examples than there are samples, evenly spread.
- `least`: the least number of samples and of real examples; 2 where it is not given.
- `least_per_class`: the least number of samples for each class of the data, on average.
- `least_per_feature`: the least number of samples for each feature of the extractor.
- `range`: the least and the greatest score that there can be, where there is a bound.
- `picture`: `"nearest"` where the end of a run that names the metric is to show generated images
  beside their nearest training images.
- `refuses`: DataFacts → the reason why such data cannot be measured, as the end of a sentence that
  starts with the metric's name; or None.
- `returns`: the names of the scores, where the function returns several as a dict. What else the
  dict holds has a name of its own that begins with `class/`, and is logged without being compared.
- `protocol`: a dict of what else a reader must know of how it is measured.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar

from gan_bench.data_facts import DataFacts
from gan_bench.evaluation.features.base import FeatureError, Features, NonFiniteFeatures
from gan_bench.registry import METRICS, Better, MetricFacts, Reference

if TYPE_CHECKING:
    from numpy.typing import NDArray

T = TypeVar("T")
Metric = TypeVar("Metric", bound=Callable[..., float])


def asks_d(name: str) -> bool:
    """Whether a metric asks the discriminator, which exists in training alone."""
    return METRICS[name].facts.extractor == "discriminator"


def asks_labels(name: str) -> bool:
    """Whether a metric must know which class each sample was asked for."""
    return METRICS[name].facts.asked


def refuses_nothing(data: DataFacts) -> str | None:
    """Accept any data."""
    return None


def refuses_vectors(data: DataFacts) -> str | None:
    """Accept images alone."""
    return None if data.is_image else "needs images, and this data set holds vectors"


def refuses_unlabelled(data: DataFacts) -> str | None:
    """Accept labelled images alone."""
    if data.is_image and data.classes < 2:
        return ("needs labels to train its classifier on, and this data set has none; "
                "use fid and is, or nearest_train_mse")
    return refuses_vectors(data)


# The extractors whose features have distances and neighbours, each with what it refuses.
REFUSES = {"inception": refuses_vectors, "classifier": refuses_unlabelled,
           "random": refuses_vectors, "dinov2": refuses_vectors}


def on_extractors(
    name: str, *, better: Better, reference: Reference, range: tuple[float, float] | None = None,
    matched: bool = False, least: int = 2, least_per_feature: int | None = None,
    protocol: Mapping[str, object] | None = None, inception: str | None = None,
) -> Callable[[Metric], Metric]:
    """Register the decorated function once for every extractor.

    Args:
        name: Its name, with `{}` in the place of the extractor's.
        better: A fact of the metric, as the following ones are.
        reference: A fact.
        range: A fact.
        matched: A fact.
        least: A fact.
        least_per_feature: A fact.
        protocol: A fact.
        inception: The name that the metric has on Inception's features, if it is another.
    """

    def add(metric: Metric) -> Metric:
        names = {extractor: name.format(extractor) for extractor in REFUSES}
        names["inception"] = inception or names["inception"]
        for extractor, refuses in REFUSES.items():
            METRICS.register(names[extractor], MetricFacts(
                better=better, extractor=extractor, reference=reference, refuses=refuses,
                matched=matched, least=least, least_per_feature=least_per_feature, range=range,
                protocol=protocol or {}))(metric)
        return metric

    return add


def once(function: Callable[[Features, Features], T]) -> Callable[[Features, Features], T]:
    """Keep what `function(real, fake)` returns with `fake`: several metrics begin with it."""

    @wraps(function)
    def kept(real: Features, fake: Features) -> T:
        known = fake.kept.get(function)
        if known is None or known[0] is not real:
            known = fake.kept[function] = real, function(real, fake)
        result: T = known[1]
        return result

    return kept


@once
def check(real: Features, fake: Features) -> None:
    """Refuse features that no distance can be computed from.

    Generated samples that are all the same are no error: their distances are finite, and a
    collapsed generator is a result.

    Raises:
        FeatureError: They come from two extractors, or differ in width, or there are fewer than 2,
            or the real ones are all the same or not finite.
        NonFiniteFeatures: Generated ones are not finite.
    """
    import numpy as np

    if real.extractor != fake.extractor:
        raise FeatureError(f"features of {real.extractor} do not compare with {fake.extractor}'s")
    if real.values.shape[1:] != fake.values.shape[1:]:
        raise FeatureError(f"real features of shape {real.values.shape} do not compare with "
                           f"generated ones of shape {fake.values.shape}; use one extractor")
    check_count(real, fake, 2)
    if not np.isfinite(real.values).all():
        raise FeatureError(f"a real feature of {real.extractor} is not finite; check the images "
                           f"and the extractor's weights")
    if not np.isfinite(fake.values).all():
        raise NonFiniteFeatures(f"a generated sample's feature of {fake.extractor} is not finite; "
                                f"check the images and the extractor's weights")
    if (real.values == real.values[0]).all():
        raise FeatureError(f"the features of {real.extractor} are the same for all "
                           f"{len(real.values):,} real examples; there is no spread to compare "
                           f"with: check the images")


def check_finite(values: NDArray[Any], what: str) -> None:
    """Refuse a NaN or an infinity, which a comparison or an argmax would pass over in silence.

    Raises:
        NonFiniteFeatures: `what` (in the plural) are not finite.
    """
    import numpy as np

    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise NonFiniteFeatures(f"{what} are not all finite; check what made them")


def check_count(real: Features, fake: Features, least: int) -> None:
    """Refuse too few examples.

    Raises:
        FeatureError: There are fewer than `least` real or generated ones.
    """
    for what, features in ("real examples", real), ("generated samples", fake):
        if len(features.values) < least:
            raise FeatureError(f"at least {least:,} {what} are needed, and there are "
                               f"{len(features.values):,}; give more (evaluate.samples)")
