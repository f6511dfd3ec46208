"""Whether a conditional generator makes what it is asked for, class by class.

Each metric gives its score and beside it, as `class/<score>/<label>`, what it is of each class, so
that one sees which class fails. That decides nothing: verdicts are on the score.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gan_bench.data_facts import DataFacts
from gan_bench.evaluation.features.base import FeatureError, Features
from gan_bench.evaluation.features.gaussian import Gaussian, fit_gaussian
from gan_bench.evaluation.metrics.base import check, check_finite, refuses_unlabelled
from gan_bench.evaluation.metrics.frechet import distance_from
from gan_bench.journal.names import CLASS
from gan_bench.registry import METRICS, MetricFacts

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

REAL_PER_CLASS = 100  # training images: from fewer, a distance says little of the class
SAMPLES_PER_CLASS = 20  # on average, so that every class is asked for more than once
DRAWN = {"labels": "as often as in the training data"}
KEPT = "the Gaussians of the classes"  # the key under which the real set keeps them


@dataclass(frozen=True)
class Labels:
    """The classes of examples.

    Attributes:
        asked: (M,) int64, the class that each sample was asked for.
        real: (N,) int64, the class of each real example; None where a metric looks at no such.
    """

    asked: NDArray[np.int64]
    real: NDArray[np.int64] | None = None


def refuses_small_classes(data: DataFacts) -> str | None:
    """Accept labelled images of which there are enough in each class, on average."""
    if reason := refuses_unlabelled(data):
        return reason
    if data.train < REAL_PER_CLASS * data.classes:
        return (f"needs {REAL_PER_CLASS} training images a class, and there are "
                f"{data.train // data.classes}; use label_accuracy")
    return None


@METRICS.register("label_accuracy", MetricFacts(
    better="higher", extractor="classifier", reference=None, asked=True, range=(0, 1),
    refuses=refuses_unlabelled, protocol=DRAWN))
def label_accuracy(real: Features | None, fake: Features, labels: Labels) -> dict[str, float]:
    """Share of samples that the classifier takes for the class that was asked for.

    Odena et al. 2017, "Conditional image synthesis with auxiliary classifier GANs", section 4.1;
    Shmelkov et al. 2018, "How good is my GAN?", there GAN-test. The classifier has errors of its
    own, so that real images are not at 1. It says nothing of variety: one good image of each class,
    made again and again, is at 1. Guessing is at the share of the classes.

    Args:
        fake: With logits (M, K).

    Raises:
        NonFiniteFeatures: A logit is not finite.
    """
    import numpy as np

    assert fake.logits is not None
    check_finite(fake.logits, f"the logits of {fake.extractor}")
    right = fake.logits.argmax(axis=1) == labels.asked
    return {"label_accuracy": float(right.mean()), **_by_class("label_accuracy", {
        int(label): float(right[labels.asked == label].mean())
        for label in np.unique(labels.asked)})}


@METRICS.register("intra_fd_classifier", MetricFacts(
    better="lower", extractor="classifier", reference="train", asked=True,
    least_per_class=SAMPLES_PER_CLASS, range=(0, math.inf), refuses=refuses_small_classes,
    protocol=DRAWN))
def intra_fd(real: Features, fake: Features, labels: Labels) -> dict[str, float]:
    """Mean over the classes of the Fréchet distance within a class: of samples asked for and real.

    The intra FID of Miyato and Koyama 2018, "cGANs with projection discriminator", section 4.1, on
    the embedded classifier. All classes weigh the same. A G that makes good images of the wrong
    class is far off, and so is one that makes a single image of each. Biased as `fd_classifier` is,
    and more so, by the number of samples of each class.

    Args:
        real: (N, D).
        fake: (M, D).

    Raises:
        FeatureError: The two do not compare, or a class has fewer than 2 of either.
    """
    import numpy as np

    check(real, fake)
    check_classes(labels)
    assert labels.real is not None
    known: dict[int, Gaussian] = real.kept.setdefault(KEPT, {})
    distances = {}
    for label in np.unique(labels.real).tolist():
        if label not in known:
            known[label] = fit_gaussian(real.values[labels.real == label])
        distances[label] = distance_from(known[label], fake.values[labels.asked == label])
    return {"intra_fd_classifier": float(np.mean([*distances.values()])),
            **_by_class("intra_fd_classifier", distances)}


def check_classes(labels: Labels) -> None:
    """Refuse classes that no Gaussian can be fitted to.

    Raises:
        FeatureError: A class of the real examples has fewer than 2 of them, or is asked for less
            than twice.
    """
    assert labels.real is not None
    for label in check_real_classes(labels.real):
        asked = int((labels.asked == label).sum())
        if asked < 2:
            raise FeatureError(
                f"intra_fd_classifier needs 2 samples of every class, and class {label} is asked "
                f"for {asked} times: raise evaluate.samples, or use label_accuracy")


def check_real_classes(real: NDArray[np.int64]) -> list[int]:
    """Refuse classes of training images that no Gaussian can be fitted to; return the classes.

    Args:
        real: (N,), the class of each.

    Raises:
        FeatureError: A class has fewer than 2 of them.
    """
    import numpy as np

    found, counts = np.unique(real, return_counts=True)
    for label, there in zip(found.tolist(), counts.tolist(), strict=True):
        if there < 2:
            raise FeatureError(
                f"intra_fd_classifier needs 2 training images of every class, and class {label} "
                f"has {there}: give it more, take it out, or use label_accuracy")
    classes: list[int] = found.tolist()
    return classes


def _by_class(score: str, values: dict[int, float]) -> dict[str, float]:
    return {f"{CLASS}{score}/{label}": value for label, value in values.items()}
