"""How the discriminator itself judges."""

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

    The logits are taken about the loss's boundary, (a + b) / 2 for `lsgan`. One of exactly 0 is
    right on neither side.
    """
    check_finite(real.values, LOGITS)
    check_finite(fake.values, LOGITS)
    return {"d_accuracy_real": float((real.values > 0).mean()),
            "d_accuracy_fake": float((fake.values < 0).mean())}


@METRICS.register("d_gap", MetricFacts(
    better=None, extractor="discriminator", reference="train", held_out=True,
    refuses=refuses_nothing))
def d_gap(real: Features, fake: Features, held_out: Features) -> float:
    """D's mean logit on training minus that on held-out real images: how far D overfits.

    Near 0: D takes both for equally real. Above: it knows the training images by heart, and what
    it tells G is no longer about the data (Karras et al. 2020, "Training GANs with limited data",
    figure 1, shows both logits). In the units of D's logits, which differ between losses.
    """
    check_finite(real.values, LOGITS)
    check_finite(held_out.values, LOGITS)
    return float(real.values.mean() - held_out.values.mean())
