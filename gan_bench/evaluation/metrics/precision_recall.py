"""Precision and recall, density and coverage: neighbourhoods of real and generated samples.

A ball around a sample reaches to its k-th neighbour in the same set. Both sets should have the same
size, as in both papers, because the balls of a larger set are smaller.
"""

from __future__ import annotations

from gan_bench.evaluation.features.base import Features
from gan_bench.evaluation.metrics.base import check, check_count, on_extractors
from gan_bench.evaluation.metrics.pairwise import BALL, WIDE_BALL, Pairs, pairs


@on_extractors("precision_{}", better="higher", range=(0, 1), reference="train",
               matched=True, least=BALL + 1, protocol={"neighbours": BALL})
def precision(real: Features, fake: Features) -> float:
    """Share of generated samples within a ball (k = 3) of a real one.

    Kynkäänniemi et al. 2019, equations 1 and 2: the edge belongs to the ball.
    """
    return float(_pairs(real, fake, BALL).in_real_ball.mean())


@on_extractors("recall_{}", better="higher", range=(0, 1), reference="train",
               matched=True, least=BALL + 1, protocol={"neighbours": BALL})
def recall(real: Features, fake: Features) -> float:
    """Share of real samples within a ball (k = 3) of a generated one.

    Kynkäänniemi et al. 2019, equations 1 and 2: the edge belongs to the ball.
    """
    return float(_pairs(real, fake, BALL).in_fake_ball.mean())


@on_extractors("density_{}", better="higher", reference="train", matched=True, least=WIDE_BALL + 1,
               protocol={"neighbours": WIDE_BALL})
def density(real: Features, fake: Features) -> float:
    """Mean number of real balls (k = 5) that a generated sample lies in, over k; may exceed 1.

    Naeem et al. 2020, equation 4; as in the authors' code, the edge does not belong to the ball.
    """
    count = _pairs(real, fake, WIDE_BALL).in_wide_balls
    return count / (WIDE_BALL * len(fake.values))


@on_extractors("coverage_{}", better="higher", range=(0, 1), reference="train",
               matched=True, least=WIDE_BALL + 1, protocol={"neighbours": WIDE_BALL})
def coverage(real: Features, fake: Features) -> float:
    """Share of real balls (k = 5) with a generated sample in them.

    Naeem et al. 2020, equation 5; as in the authors' code, the edge does not belong to the ball.
    """
    return float(_pairs(real, fake, WIDE_BALL).covered.mean())


def _pairs(real: Features, fake: Features, neighbours: int) -> Pairs:
    """The pairs of two sets, each large enough for this number of neighbours."""
    check_count(real, fake, neighbours + 1)
    check(real, fake)
    return pairs(real, fake)
