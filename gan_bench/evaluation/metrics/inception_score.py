"""The Inception score, and the same formula on the embedded classifier under another name."""

from __future__ import annotations

from gan_bench.evaluation.features.base import FeatureError, Features, NonFiniteFeatures
from gan_bench.evaluation.metrics.base import refuses_unlabelled, refuses_vectors
from gan_bench.registry import METRICS, MetricFacts

SPLITS = 10  # as in Salimans et al. and in every published table
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

    The samples are shuffled before they are split, as in torch-fidelity. Otherwise each split of a
    folder that is sorted by class has one class, and the score is 1.

    Args:
        fake: With logits (N, K), N ≥ `splits`.
        splits: Number of parts, whose sizes differ by at most 1.

    Raises:
        FeatureError: There are fewer samples than splits.
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
    if splits > 1:  # torch-fidelity's generator, for the same splits
        logits = logits[np.random.RandomState(SEED).permutation(len(logits))]
    log_p = logits - logsumexp(logits, axis=1, keepdims=True)
    scores = []
    cuts = [i * len(log_p) // splits for i in range(1, splits)]  # as torch-fidelity
    for part in np.split(log_p, cuts):
        marginal = logsumexp(part, axis=0) - np.log(len(part))
        scores.append(np.exp((np.exp(part) * (part - marginal)).sum(axis=1).mean()))
    return float(np.mean(scores))
