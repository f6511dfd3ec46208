"""The classes of the generated images, as the classifier predicts them.

On `stacked_mnist` the classes are the 1000 modes, and the published tables count them over 26,000
samples: a mode is covered when one sample is classified as it (Metz et al. 2017, section 3.3.1;
Srivastava et al. 2017, "VEEGAN", section 4.2; Lin et al. 2018, "PacGAN").
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gan_bench.errors import UserError
from gan_bench.evaluation.features.base import Features
from gan_bench.evaluation.metrics.base import check_finite, refuses_unlabelled
from gan_bench.registry import METRICS, MetricFacts

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@METRICS.register("classes_covered", MetricFacts(
    better="higher", extractor="classifier", reference=None, refuses=refuses_unlabelled))
def classes_covered(real: Features | None, fake: Features) -> float:
    """Number of classes with at least one generated image."""
    return float((class_counts(fake) > 0).sum())


@METRICS.register("class_kl", MetricFacts(
    better="lower", extractor="classifier", reference="frequencies", refuses=refuses_unlabelled))
def class_kl(real: Features, fake: Features) -> float:
    """KL(generated ‖ training) of the class frequencies, in nats: 0 where they agree.

    The reverse KL of Metz et al. 2017, section 3.3.1. A class that is never generated adds 0, its
    limit, so a single class out of K equal ones gives ln K; the frequencies are not smoothed. A
    perfect generator has about (K - 1) / 2N at N samples: .0192 for 1000 modes and 26,000 samples.

    Args:
        real: (K, 1), the share of each class among the training labels.
        fake: With logits (N, K).

    Raises:
        UserError: A generated image belongs to a class without training examples: KL is infinite.
    """
    from scipy.special import rel_entr

    counts, expected = class_counts(fake), real.values[:, 0]
    if unknown := [k for k in counts.nonzero()[0].tolist() if expected[k] == 0]:
        raise UserError(f"class_kl is infinite: there are generated images of class {unknown[0]}, "
                        "and no training example has that label; leave class_kl out")
    return float(rel_entr(counts / counts.sum(), expected).sum())


def class_counts(fake: Features) -> NDArray[np.intp]:
    """Return how many samples the classifier assigns to each class, (K,).

    Raises:
        NonFiniteFeatures: A logit is not finite.
    """
    import numpy as np

    assert fake.logits is not None
    check_finite(fake.logits, f"the logits of {fake.extractor}")
    return np.bincount(fake.logits.argmax(axis=1), minlength=fake.logits.shape[1])
