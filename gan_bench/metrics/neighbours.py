"""Precision and recall, density and coverage: who lies in whose neighbourhood.

A ball around a sample reaches to its k-th nearest of its own set. The sets should be of one size,
as in both papers: the balls of a larger set are smaller.
"""

from __future__ import annotations

from gan_bench.features import Features
from gan_bench.metrics import check, check_count, on_extractors
from gan_bench.metrics.pairs import BALL, WIDE_BALL, pairs


@on_extractors("precision_{}", better="higher", reference="train", matched=True, least=BALL + 1,
               protocol={"neighbours": BALL})
def precision(real: Features, fake: Features) -> float:
    """Share of generated samples within a ball (k = 3) of a real one.

    Kynkäänniemi et al. 2019, equations 1 and 2: the edge belongs to the ball.
    """
    check_count(real, fake, BALL + 1)
    check(real, fake)
    return float(pairs(real, fake).in_real_ball.mean())


@on_extractors("recall_{}", better="higher", reference="train", matched=True, least=BALL + 1,
               protocol={"neighbours": BALL})
def recall(real: Features, fake: Features) -> float:
    """Share of real samples within a ball (k = 3) of a generated one.

    Kynkäänniemi et al. 2019, equations 1 and 2: the edge belongs to the ball.
    """
    check_count(real, fake, BALL + 1)
    check(real, fake)
    return float(pairs(real, fake).in_fake_ball.mean())


@on_extractors("density_{}", better="higher", reference="train", matched=True, least=WIDE_BALL + 1,
               protocol={"neighbours": WIDE_BALL})
def density(real: Features, fake: Features) -> float:
    """Mean number of real balls (k = 5) that a generated sample lies in, over k; may exceed 1.

    Naeem et al. 2020, equation 4; as in the authors' code, the edge does not belong to the ball.
    """
    check_count(real, fake, WIDE_BALL + 1)
    check(real, fake)
    return pairs(real, fake).in_wide_balls / (WIDE_BALL * len(fake.values))


@on_extractors("coverage_{}", better="higher", reference="train", matched=True, least=WIDE_BALL + 1,
               protocol={"neighbours": WIDE_BALL})
def coverage(real: Features, fake: Features) -> float:
    """Share of real balls (k = 5) with a generated sample in them.

    Naeem et al. 2020, equation 5; as in the authors' code, the edge does not belong to the ball.
    """
    check_count(real, fake, WIDE_BALL + 1)
    check(real, fake)
    return float(pairs(real, fake).covered.mean())
