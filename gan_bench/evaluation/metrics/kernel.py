"""The kernel distance: the squared maximum mean discrepancy between two sets of features.

Bińkowski et al. 2018, section 4: the kernel (xy / D + 1)³ of D-dimensional features, and the
unbiased estimate. If the two distributions are the same, it is below 0 about half of the time, so
it is never clamped. The estimate over all pairs varies less than the published mean over subsets;
this module has both.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gan_bench.evaluation.features.base import Features
from gan_bench.evaluation.metrics.base import check, check_count, on_extractors
from gan_bench.evaluation.metrics.pairwise import SUBSET_SIZE, SUBSETS, Pairs, pairs

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

KERNEL = {"kernel": "(xy / D + 1)^3"}
OVER_SUBSETS = {**KERNEL, "subsets": SUBSETS, "subset_size": SUBSET_SIZE}


@on_extractors("kd_{}", inception="kid", better="lower", reference="train", matched=True,
               protocol=KERNEL)
def kernel_distance(real: Features, fake: Features) -> float:
    """Kernel distance (KID on Inception), unbiased, over all pairs; may be negative."""
    check(real, fake)
    return float(unbiased(pairs(real, fake))[0])


@on_extractors("kd_{}_subsets", inception="kid_subsets", better="lower", reference="train",
               matched=True, least=SUBSET_SIZE, protocol=OVER_SUBSETS)
def kernel_distance_of_subsets(real: Features, fake: Features) -> float:
    """Kernel distance, the mean over 100 subsets of 1,000, as most publish it."""
    check_count(real, fake, SUBSET_SIZE)
    check(real, fake)
    return float(unbiased(pairs(real, fake))[1:].mean())


@on_extractors("kd_{}_spread", inception="kid_spread", better=None, reference="train",
               matched=True, least=SUBSET_SIZE, protocol=OVER_SUBSETS)
def kernel_distance_spread(real: Features, fake: Features) -> float:
    """Standard deviation (ddof 0) of the kernel distance over 100 subsets of 1,000.

    It describes the estimate on 1,000 samples, so it is not the error of the one over all pairs.
    """
    check_count(real, fake, SUBSET_SIZE)
    check(real, fake)
    return float(unbiased(pairs(real, fake))[1:].std())


def unbiased(pair_sums: Pairs) -> NDArray[np.float64]:
    """Return the unbiased estimates (1 + S,): over all pairs, then of each subset."""
    import numpy as np

    count = len(pair_sums.kernel)
    estimate, pairs_across = np.zeros(count), np.ones(count)
    for side in pair_sums.real, pair_sums.fake:
        sizes = np.array([len(side.values)] + [side.subsets.shape[1]] * (count - 1), dtype=float)
        estimate += side.kernel[:count] / (sizes * (sizes - 1))
        pairs_across *= sizes
    return estimate - 2 * pair_sums.kernel / pairs_across
