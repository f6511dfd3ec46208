"""Scores of the discriminator's own logits."""

from __future__ import annotations

from gan_bench.evaluation.features.base import Features
from gan_bench.evaluation.metrics.base import check_finite, refuses_nothing
from gan_bench.registry import METRICS, MetricFacts

LOGITS = "the discriminator's logits"


@METRICS.register("d_accuracy", MetricFacts(
    better=None, extractor="discriminator", reference="test", refuses=refuses_nothing, range=(0, 1),
    returns=("d_accuracy_real", "d_accuracy_fake")))
def d_accuracy(real: Features, fake: Features) -> dict[str, float]:
    """D's accuracy on held-out real and on generated images: logits above and below 0.

    The loss's boundary, (a + b) / 2 for `lsgan`, is subtracted from the logits. A logit of exactly
    0 is wrong for both kinds of images.
    """
    check_finite(real.values, LOGITS)
    check_finite(fake.values, LOGITS)
    return {"d_accuracy_real": float((real.values > 0).mean()),
            "d_accuracy_fake": float((fake.values < 0).mean())}


@METRICS.register("d_gap", MetricFacts(
    better=None, extractor="discriminator", reference="train", held_out=True,
    refuses=refuses_nothing))
def d_gap(real: Features, fake: Features, held_out: Features) -> float:
    """D's mean logit on training minus its mean logit on held-out real images: D's overfitting.

    Near 0: both look equally real to D. Above 0: D has memorised the training images, and its
    gradients for G no longer describe the data (Karras et al. 2020, "Training GANs with limited
    data", figure 1, shows both logits). The unit is that of D's logits, which differs between
    losses.
    """
    check_finite(real.values, LOGITS)
    check_finite(held_out.values, LOGITS)
    return float(real.values.mean() - held_out.values.mean())
