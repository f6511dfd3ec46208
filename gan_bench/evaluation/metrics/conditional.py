"""Whether a conditional generator generates the requested class.

Each metric returns its score, and the same for each class as `class/<score>/<label>`, which shows
the classes that fail. Variants are compared by the score alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gan_bench.data_facts import DataFacts
from gan_bench.evaluation.features.base import FeatureError, Features
from gan_bench.evaluation.features.gaussian import Gaussian, fit_gaussian
from gan_bench.evaluation.metrics.base import check, check_finite, once, refuses_unlabelled
from gan_bench.evaluation.metrics.frechet import distance_from
from gan_bench.journal.scores.score_names import CLASS
from gan_bench.registry import METRICS, MetricFacts

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

REAL_PER_CLASS = 100  # training images: with fewer, a distance says little about the class
SAMPLES_PER_CLASS = 20  # on average, so that every class has more than one sample
LABEL_PROTOCOL = {"labels": "as often as in the training data"}


@dataclass(frozen=True)
class Labels:
    """The classes of examples.

    Attributes:
        asked: (M,) int64, the class that each sample was generated for.
        real: (N,) int64, the class of each real example; None if the metric needs only samples.
    """

    asked: NDArray[np.int64]
    real: NDArray[np.int64] | None = None


def refuses_small_classes(data: DataFacts) -> str | None:
    """Accept labelled images with enough training images in each class, on average."""
    if reason := refuses_unlabelled(data):
        return reason
    count = data.whole or data.train  # a run that is trained with a part compares with all
    if count < REAL_PER_CLASS * data.classes:
        return (f"needs {REAL_PER_CLASS} training images a class, and there are "
                f"{count // data.classes}; use label_accuracy")
    return None


@METRICS.register("label_accuracy", MetricFacts(
    better="higher", extractor="classifier", reference=None, asked=True, range=(0, 1),
    refuses=refuses_unlabelled, protocol=LABEL_PROTOCOL))
def label_accuracy(real: Features | None, fake: Features, labels: Labels) -> dict[str, float]:
    """Share of samples that the classifier assigns to the requested class.

    Odena et al. 2017, "Conditional image synthesis with auxiliary classifier GANs", section 4.1;
    Shmelkov et al. 2018, "How good is my GAN?", there GAN-test. The classifier makes errors too, so
    real images have less than 1. The score ignores variety: a single good image of each class,
    repeated, has 1. Guessing has the share of the classes.

    Args:
        fake: With logits (M, K).

    Raises:
        NonFiniteFeatures: A logit is not finite.
    """
    import numpy as np

    assert fake.logits is not None
    check_finite(fake.logits, f"the logits of {fake.extractor}")
    right = fake.logits.argmax(axis=1) == labels.asked
    by_class = {int(label): float(right[labels.asked == label].mean())
                for label in np.unique(labels.asked)}
    return {"label_accuracy": float(right.mean()), **_class_scores("label_accuracy", by_class)}


@METRICS.register("intra_fd_classifier", MetricFacts(
    better="lower", extractor="classifier", reference="train", asked=True,
    least_per_class=SAMPLES_PER_CLASS, range=(0, math.inf), refuses=refuses_small_classes,
    protocol=LABEL_PROTOCOL))
def intra_fd(real: Features, fake: Features, labels: Labels) -> dict[str, float]:
    """Mean over the classes of the Fréchet distance between its samples and its real images.

    The intra FID of Miyato and Koyama 2018, "cGANs with projection discriminator", section 4.1, on
    the embedded classifier. All classes have the same weight. A G that generates good images of the
    wrong class has a large distance, and so has a G that generates a single image of each class.
    The number of samples of each class biases it as it biases `fd_classifier`, and more so.

    Args:
        real: (N, D).
        fake: (M, D).

    Raises:
        FeatureError: The features do not compare, or a class has fewer than 2 of either.
    """
    import numpy as np

    check(real, fake)
    check_classes(labels)
    assert labels.real is not None
    distances = {label: distance_from(gaussian, fake.values[labels.asked == label])
                 for label, gaussian in class_gaussians(labels.real, real).items()}
    return {"intra_fd_classifier": float(np.mean([*distances.values()])),
            **_class_scores("intra_fd_classifier", distances)}


@once
def class_gaussians(labels: NDArray[np.int64], real: Features) -> dict[int, Gaussian]:
    """Return the Gaussian fitted to the real features of each class.

    Args:
        labels: (N,), the class of each real example.
        real: (N, D).
    """
    import numpy as np

    return {label: fit_gaussian(real.values[labels == label])
            for label in np.unique(labels).tolist()}


def check_classes(labels: Labels) -> None:
    """Refuse classes that are too small to fit a Gaussian.

    Raises:
        FeatureError: A class of the real examples has fewer than 2 real examples or samples.
    """
    assert labels.real is not None
    for label in check_real_classes(labels.real):
        asked = int((labels.asked == label).sum())
        if asked < 2:
            raise FeatureError(
                f"intra_fd_classifier needs 2 samples of every class, and class {label} has "
                f"{asked}; raise evaluate.samples, or use label_accuracy")


def check_real_classes(real: NDArray[np.int64]) -> list[int]:
    """Return the classes of training images; refuse those that are too small to fit a Gaussian.

    Args:
        real: (N,), the class of each image.

    Raises:
        FeatureError: A class has fewer than 2 images.
    """
    import numpy as np

    labels, counts = np.unique(real, return_counts=True)
    for label, count in zip(labels.tolist(), counts.tolist(), strict=True):
        if count < 2:
            raise FeatureError(
                f"intra_fd_classifier needs 2 training images of every class, and class {label} "
                f"has {count}; add images to it, remove it, or use label_accuracy")
    classes: list[int] = labels.tolist()
    return classes


def _class_scores(score: str, values: dict[int, float]) -> dict[str, float]:
    return {f"{CLASS}{score}/{label}": value for label, value in values.items()}
