"""The Inception score, and the same of any other classifier, which is not to bear that name."""

from __future__ import annotations

from gan_bench.evaluation.features.base import FeatureError, Features, NonFiniteFeatures
from gan_bench.evaluation.metrics.base import refuses_unlabelled, refuses_vectors
from gan_bench.registry import METRICS, MetricFacts

SPLITS = 10  # those of Salimans et al. and of every published table
SEED = 2020  # of torch-fidelity's shuffle


@METRICS.register("is", MetricFacts(
    better="higher", extractor="inception", reference=None, refuses=refuses_vectors, least=SPLITS,
    protocol={"splits": SPLITS, "shuffle": f"seed {SEED}"}))
def inception_score(real: Features | None, fake: Features) -> float:
    """Inception score (Salimans et al. 2016, section 4), the mean over 10 splits."""
    return class_score(fake, SPLITS)


@METRICS.register("classifier_score", MetricFacts(
    better="higher", extractor="classifier", reference=None, refuses=refuses_unlabelled,
    protocol={"splits": 1}))
def classifier_score(real: Features | None, fake: Features) -> float:
    """The Inception score's formula on the embedded classifier: from 1 to the number of classes."""
    return class_score(fake, 1)


def class_score(fake: Features, splits: int) -> float:
    """Return the mean over splits of exp E KL(p(y|x) ‖ p(y)).

    The samples are shuffled before they are split, as torch-fidelity does it: a folder sorted by
    class has one class in each split otherwise, and a score of 1.

    Args:
        fake: With logits (N, K), N ≥ `splits`.
        splits: Number of parts of as near the same size as can be.

    Raises:
        FeatureError: Fewer samples than splits.
        NonFiniteFeatures: A logit is not finite.
    """
    import numpy as np
    from scipy.special import logsumexp

    assert fake.logits is not None
    if len(fake.logits) < splits:
        raise FeatureError(f"a score over {splits} splits needs {splits} samples, and there are "
                        f"{len(fake.logits)}; raise evaluate.samples")
    if not np.isfinite(fake.logits).all():
        raise NonFiniteFeatures(f"a logit of {fake.extractor} is not finite; check the images and "
                                f"the extractor's weights")
    logits = fake.logits
    if splits > 1:  # its generator too, for the same splits
        logits = logits[np.random.RandomState(SEED).permutation(len(logits))]
    log_p = logits - logsumexp(logits, axis=1, keepdims=True)
    scores = []
    cuts = [i * len(log_p) // splits for i in range(1, splits)]  # where torch-fidelity cuts
    for part in np.split(log_p, cuts):
        marginal = logsumexp(part, axis=0) - np.log(len(part))
        scores.append(np.exp((np.exp(part) * (part - marginal)).sum(axis=1).mean()))
    return float(np.mean(scores))
