"""How the discriminator itself judges."""

from __future__ import annotations

from gan_bench.features import Features
from gan_bench.metrics import refuses_nothing
from gan_bench.registry import METRICS


@METRICS.register("d_accuracy", better=None, extractor="discriminator", reference="test",
                  refuses=refuses_nothing, returns=("d_accuracy_real", "d_accuracy_fake"))
def d_accuracy(real: Features, fake: Features) -> dict[str, float]:
    """D's accuracy on held-out real and on generated images: logits above and below 0.

    A logit of exactly 0 is right on neither side.
    """
    return {"d_accuracy_real": float((real.values > 0).mean()),
            "d_accuracy_fake": float((fake.values < 0).mean())}
