"""All sums over pairs that the kernel distance and the neighbour metrics need, in one pass.

Every block of squared distances is computed once, used for all metrics, and dropped: the table of
all pairs is never in memory. The pairs within a set are symmetric, so half of their blocks suffice.
Distances that are equal up to rounding count as equal.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gan_bench import rng
from gan_bench.evaluation.features.base import Features
from gan_bench.evaluation.metrics.base import once, once_per_set

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

BLOCK = 1024  # rows; a block of distances takes 8 MB
BALL = 3  # the radius of a ball for precision and recall: the distance to this neighbour
WIDE_BALL = 5  # for density and coverage
GROUPS = 64  # groups of a block's columns, for the search of the nearest
SUBSETS, SUBSET_SIZE = 100, 1000  # of the published kernel distance


@once
def pairs(real: Features, fake: Features) -> Pairs:
    """Return the sums over all pairs, with the subsets of the published convention."""
    inside = pairs_of_real(real)
    return between(inside, within(fake.values, inside.centre,
                                  draw_subsets(len(fake.values), "fake")))


@once_per_set
def pairs_of_real(real: Features) -> Within:
    """Return the sums over the pairs within the real set, centred at its mean."""
    return within(real.values, real.values.mean(axis=0), draw_subsets(len(real.values), "real"))


def draw_subsets(samples: int, side: str) -> NDArray[np.int64]:
    """Return the rows of 100 subsets, (100, 1000), drawn without replacement; (0, 0) for fewer.

    They depend only on the number of samples and on the side.
    """
    import numpy as np
    import torch

    if samples < SUBSET_SIZE:
        return np.zeros((0, 0), dtype=np.int64)
    return np.stack([torch.randperm(samples, generator=rng.generator(0, f"kernel/{side}", i))
                     [:SUBSET_SIZE].numpy() for i in range(SUBSETS)])


def within(values: NDArray[np.float64], centre: NDArray[np.float64], subsets: NDArray[np.int64],
           ) -> Within:
    """Return the sums over the pairs within one set.

    Args:
        values: (N, D), N ≥ 2.
        centre: (D,), a point near the values. ‖a‖² + ‖b‖² - 2ab of points far from the origin loses
            the digits that matter, so it is subtracted first.
        subsets: (S, m) rows of `values`.
    """
    import numpy as np

    side = _Side.of(values, centre, subsets)
    kernel = np.zeros(side.members.shape[1])
    nearest = np.full((len(values), WIDE_BALL), np.inf)
    for rows, columns, distances, kernels in _tables(side, side):
        on_diagonal = rows == columns
        if on_diagonal:  # a sample does not pair with itself
            np.fill_diagonal(distances, np.inf)
            np.fill_diagonal(kernels, 0)
        kernel += (1 if on_diagonal else 2) * side.sums(rows, kernels, side, columns)
        nearest[rows] = _least(nearest[rows], distances)
        if not on_diagonal:
            nearest[columns] = _least(nearest[columns], distances.T)
    return Within(values, centre, subsets, kernel / values.shape[1] ** 3, nearest)


def between(real: Within, fake: Within) -> Pairs:
    """Return the sums over the pairs of a real and a generated sample."""
    import numpy as np

    subsets = min(len(real.subsets), len(fake.subsets))
    fake_side = _Side.of(fake.values, real.centre, fake.subsets[:subsets])
    real_side = _Side.of(real.values, real.centre, real.subsets[:subsets])
    kernel = np.zeros(fake_side.members.shape[1])
    _, real_outer = real_side.edges(real.nearest[:, BALL - 1])
    _, fake_outer = fake_side.edges(fake.nearest[:, BALL - 1])
    wide_inner, _ = real_side.edges(real.nearest[:, WIDE_BALL - 1])
    in_real = np.zeros(len(fake_side.values), bool)
    in_fake, covered = np.zeros((2, len(real_side.values)), bool)
    count = 0
    for rows, columns, distances, kernels in _tables(fake_side, real_side):
        kernel += fake_side.sums(rows, kernels, real_side, columns)
        in_real[rows] |= (distances <= real_outer[columns]).any(axis=1)
        in_fake[columns] |= (distances <= fake_outer[rows, None]).any(axis=0)
        inside = distances < wide_inner[columns]
        count += int(np.count_nonzero(inside))
        covered[columns] |= inside.any(axis=0)
    return Pairs(real, fake, kernel / real.values.shape[1] ** 3, in_real, in_fake, count, covered)


@dataclass(frozen=True)
class Within:
    """One set of samples, and the pairs within it.

    Attributes:
        values: (N, D).
        centre: (D,).
        subsets: (S, m) rows of `values`.
        kernel: (1 + S,) the sum of the kernel over all pairs i ≠ j, both orders; then the same
            within each subset.
        nearest: (N, 5) half the squared distances to the nearest other samples, ascending; inf
            if the set is smaller.
    """

    values: NDArray[np.float64]
    centre: NDArray[np.float64]
    subsets: NDArray[np.int64]
    kernel: NDArray[np.float64]
    nearest: NDArray[np.float64]


@dataclass(frozen=True)
class Pairs:
    """The pairs of N real and M generated samples.

    A ball around a sample reaches to its 3rd neighbour in the same set, a wide ball to its 5th.

    Attributes:
        kernel: (1 + S,) the sum of the kernel over all pairs; then over the pairs of the i-th
            subsets of both sides.
        in_real_ball: (M,) whether a generated sample lies in a ball of a real one, edge included.
        in_fake_ball: (N,) whether a real sample lies in a ball of a generated one, edge included.
        in_wide_balls: Number of pairs with the generated sample in the wide ball of the real one,
            edge excluded.
        covered: (N,) whether a real sample has such a pair.
    """

    real: Within
    fake: Within
    kernel: NDArray[np.float64]
    in_real_ball: NDArray[np.bool_]
    in_fake_ball: NDArray[np.bool_]
    in_wide_balls: int
    covered: NDArray[np.bool_]


@dataclass(frozen=True)
class _Side:
    """One set of samples, prepared for blocks of pairs.

    Attributes:
        half_norms: (N,) half the squared norms of the centred values.
        offsets: (N,) D / 2 plus half the squared norms of the values, minus `half_norms`. The
            offsets of two samples and the product of their centred values add up to xy + D.
        members: (N, 1 + S) ones, then whether a sample belongs to each subset.
    """

    values: NDArray[np.float64]
    centre: NDArray[np.float64]
    half_norms: NDArray[np.float64]
    offsets: NDArray[np.float64]
    members: NDArray[np.float64]

    @classmethod
    def of(cls, values: NDArray[np.float64], centre: NDArray[np.float64],
           subsets: NDArray[np.int64]) -> _Side:
        import numpy as np

        samples, width = values.shape
        members = np.zeros((samples, 1 + len(subsets)))
        members[:, 0] = 1
        for i, rows in enumerate(subsets):
            members[rows, 1 + i] = 1
        side = cls(values, centre, np.empty(samples), np.empty(samples), members)
        for rows, block in side.blocks():
            side.half_norms[rows] = np.einsum("nd,nd->n", block, block) / 2
            whole = np.einsum("nd,nd->n", values[rows], values[rows])
            side.offsets[rows] = (width + whole) / 2 - side.half_norms[rows]
        return side

    def edges(self, radii: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Below and above half the squared radii (N,), by more than rounding can make of them.

        Between these two a sample lies on the edge of a ball: features with few values have many
        equal distances, and which of them rounding makes the larger must decide nothing. Half a
        squared distance has an error of at most 2 (D + 8) ε/2 (a + b), where a and b are half the
        squared norms of its ends; on an edge, both ends and the neighbour have at most 2 a + 2 r.
        """
        import numpy as np

        bound = 4 * (self.values.shape[1] + 8) * np.finfo(np.float64).eps / 2
        known = np.isfinite(radii)  # a small set has no such neighbour
        width = np.where(known, bound * (3 * self.half_norms + 2 * np.where(known, radii, 0)), 0)
        return radii - width, radii + width

    def blocks(self, start: int = 0) -> Iterator[tuple[slice, NDArray[np.float64]]]:
        """The blocks of the centred values from row `start`, each with its rows."""
        for first in range(start, len(self.values), BLOCK):
            rows = slice(first, min(first + BLOCK, len(self.values)))
            yield rows, self.values[rows] - self.centre

    def sums(self, rows: slice, kernels: NDArray[np.float64], other: _Side, columns: slice,
             ) -> NDArray[np.float64]:
        """(1 + S,): the sum of a block of the kernel over all pairs, and over each subset's."""
        total: NDArray[np.float64] = (
            (kernels @ other.members[columns]) * self.members[rows]).sum(axis=0)
        return total


def _tables(left: _Side, right: _Side,
            ) -> Iterator[tuple[slice, slice, NDArray[np.float64], NDArray[np.float64]]]:
    """Distances and kernel of all pairs, block by block, with their rows and columns.

    Of a side with itself, only the blocks on the diagonal and above. The distances are half the
    squared ones, so that no factor needs a pass over the table. The kernel is that of
    Bińkowski et al. 2018, section 4, times D³: (xy + D)³. The next block overwrites both tables.
    """
    import numpy as np

    room = np.empty((3, BLOCK * BLOCK))
    same = left is right
    for rows, block in left.blocks():
        for columns, other in right.blocks(rows.start if same else 0):
            if same and rows == columns:
                other = block  # a product with itself takes half the time
            shape = len(block), len(other)
            distances, kernels, squares = (part[: shape[0] * shape[1]].reshape(shape)
                                           for part in room)
            np.matmul(block, other.T, out=kernels)
            # This order gives the same bits with the sides exchanged. Rounding may give equal
            # samples a distance below 0; `edges` allows for it.
            np.add(left.half_norms[rows, None], right.half_norms[columns], out=distances)
            distances -= kernels
            kernels += left.offsets[rows, None]
            kernels += right.offsets[columns]
            np.multiply(kernels, kernels, out=squares)
            kernels *= squares
            yield rows, columns, distances, kernels


def _least(least: NDArray[np.float64], distances: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return, for each row, the 5 least of `least` (N, 5) and of a table (N, M), ascending.

    They lie in the 5 groups of columns with the least minima; the other groups are skipped.
    Only numpy computes here: torch's threads and those of numpy's BLAS would wait for each other.
    """
    import numpy as np

    count, width = distances.shape
    if missing := -width % GROUPS:
        distances = np.pad(distances, ((0, 0), (0, missing)), constant_values=np.inf)
    groups = distances.reshape(count, -1, GROUPS)  # a group's columns are GROUPS apart
    near = np.argpartition(groups.min(axis=1), WIDE_BALL - 1, axis=1)[:, None, :WIDE_BALL]
    candidates = np.take_along_axis(groups, near, axis=2).reshape(count, -1)
    candidates = np.concatenate([least, candidates], axis=1)
    candidates.partition(WIDE_BALL - 1, axis=1)
    return np.sort(candidates[:, :WIDE_BALL], axis=1)
