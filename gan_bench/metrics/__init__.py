"""Metrics: pure functions of features, in float64.

A metric is a decorated function in a module of this package:

    @METRICS.register("fid", better="lower", extractor="inception", reference="train",
                      refuses=refuses_vectors)
    def fid(real: Features, fake: Features) -> float: ...

Keyword-only parameters, if it has any, are its arguments. Its facts:

- `better`: `"lower"`, `"higher"`, or None where neither is.
- `extractor`: what `real` and `fake` are features of: a registered extractor, or one of the views
  `pixels` (the images themselves), `discriminator` (its logits) and `coordinates` (points in units
  of the modes' standard deviation).
- `reference`: what `real` is: the split `"train"` or `"test"`, `"modes"`, or None where the metric
  looks at the samples alone and `real` is None.
- `refuses`: DataFacts → the reason why such data cannot be measured, as the end of a sentence that
  starts with the metric's name; or None.
- `least`: the smallest number of samples that it can be measured on; 2 if not given.
- `returns`: the names of the scores, where the function returns several as a dict.
- `protocol`: a dict of what else a reader must know of how it is measured.
"""

from __future__ import annotations

from gan_bench.facts import DataFacts


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
