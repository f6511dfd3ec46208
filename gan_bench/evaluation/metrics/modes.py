"""Quality and coverage on a mixture of Gaussians with known modes.

The convention of VEEGAN (Srivastava et al. 2017, section 4.1) and PacGAN (Lin et al. 2018,
section 4.1): a sample is of high quality within 3 standard deviations of a mode, and a mode is
covered when it has such a sample. Points and modes come in units of the standard deviation.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gan_bench.data_facts import DataFacts
from gan_bench.evaluation.features.base import Features
from gan_bench.evaluation.metrics.base import check_finite
from gan_bench.registry import METRICS, MetricFacts

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

REACH = 3.0  # standard deviations


def refuses_other_than_points(data: DataFacts) -> str | None:
    """Accept only points in the plane."""
    return None if data.shape == (2,) else "needs known modes: use the data set gaussians"


@METRICS.register("high_quality", MetricFacts(
    better="higher", extractor="coordinates", reference="modes", range=(0, 1),
    refuses=refuses_other_than_points))
def high_quality(real: Features, fake: Features) -> float:
    """Share of samples within 3 standard deviations of a mode; a perfect fit has .98889."""
    return float(_hits(real, fake).any(axis=1).mean())


@METRICS.register("modes_covered", MetricFacts(
    better="higher", extractor="coordinates", reference="modes", refuses=refuses_other_than_points))
def modes_covered(real: Features, fake: Features) -> float:
    """Number of modes with at least one sample within 3 standard deviations."""
    return float(_hits(real, fake).any(axis=0).sum())


def _hits(real: Features, fake: Features) -> NDArray[np.bool_]:
    """(N, M): whether sample n lies within reach of mode m."""
    import numpy as np

    check_finite(fake.values, "the samples")
    gaps = fake.values[:, None, :] - real.values[None, :, :]
    hits: NDArray[np.bool_] = np.square(gaps).sum(axis=2) <= REACH**2
    return hits
