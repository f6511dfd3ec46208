"""What the kernel distance and the neighbour metrics need of all pairs, from one pass over them.

Every block of squared distances is computed once, used for all of it, and dropped: no table of all
pairs is ever in memory. The pairs within one set are symmetric, so half of their blocks do.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gan_bench import rng
from gan_bench.evaluation.features.base import Features
from gan_bench.evaluation.metrics.base import once

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

BLOCK = 1024  # rows; a block of distances takes 8 MB
BALL = 3  # neighbours that a ball reaches to for precision and recall
WIDE_BALL = 5  # for density and coverage
GROUPS = 64  # of a block's columns, where the nearest are looked for
SUBSETS, SUBSET_SIZE = 100, 1000  # of the published kernel distance
KEPT = "pairs within the set"  # the key under which the real set keeps what is known of it


@once
def pairs(real: Features, fake: Features) -> Pairs:
    """Return what the metrics need of all pairs, with the subsets of the published convention."""
    if KEPT not in real.kept:
        real.kept[KEPT] = within(real.values, real.values.mean(axis=0),
                                 draw_subsets(len(real.values), "real"))
    inside: Within = real.kept[KEPT]
    return between(inside, within(fake.values, inside.centre,
                                  draw_subsets(len(fake.values), "fake")))


def draw_subsets(samples: int, side: str) -> NDArray[np.int64]:
    """Return the rows of 100 subsets, (100, 1000), drawn without replacement; (0, 0) for fewer.

    They depend on the number of samples and on the side alone.
    """
    import numpy as np
    import torch

    if samples < SUBSET_SIZE:
        return np.zeros((0, 0), dtype=np.int64)
    return np.stack([torch.randperm(samples, generator=rng.generator(0, f"kernel/{side}", i))
                     [:SUBSET_SIZE].numpy() for i in range(SUBSETS)])


def within(values: NDArray[np.float64], centre: NDArray[np.float64], subsets: NDArray[np.int64],
           ) -> Within:
    """Return what there is to know of the pairs within one set.

    Args:
        values: (N, D), N ≥ 2.
        centre: (D,), near the values: ‖a‖² + ‖b‖² - 2ab of points far from the origin loses the
            digits that matter.
        subsets: (S, m) rows of `values`.
    """
    import numpy as np

    side = _Side.of(values, centre, subsets)
    kernel = np.zeros(side.members.shape[1])
    nearest = np.full((len(values), WIDE_BALL), np.inf)
    for rows, columns, distances, kernels in _tables(side, side):
        own = rows == columns
        if own:  # a sample is no neighbour, and no pair, of itself
            np.fill_diagonal(distances, np.inf)
            np.fill_diagonal(kernels, 0)
        kernel += (1 if own else 2) * side.sums(rows, kernels, side, columns)
        nearest[rows] = _least(nearest[rows], distances)
        if not own:
            nearest[columns] = _least(nearest[columns], distances.T)
    return Within(values, centre, subsets, kernel / values.shape[1] ** 3, nearest)


def between(real: Within, fake: Within) -> Pairs:
    """Return what there is to know of the pairs of a real and a generated sample each."""
    import numpy as np

    subsets = min(len(real.subsets), len(fake.subsets))
    one = _Side.of(fake.values, real.centre, fake.subsets[:subsets])
    two = _Side.of(real.values, real.centre, real.subsets[:subsets])
    kernel = np.zeros(one.members.shape[1])
    in_real = np.zeros(len(one.values), bool)
    in_fake, covered = np.zeros((2, len(two.values)), bool)
    count = 0
    for rows, columns, distances, kernels in _tables(one, two):
        kernel += one.sums(rows, kernels, two, columns)
        in_real[rows] |= (distances <= real.nearest[columns, BALL - 1]).any(axis=1)
        in_fake[columns] |= (distances <= fake.nearest[rows, BALL - 1, None]).any(axis=0)
        inside = distances < real.nearest[columns, WIDE_BALL - 1]
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
            where there are not so many.
    """

    values: NDArray[np.float64]
    centre: NDArray[np.float64]
    subsets: NDArray[np.int64]
    kernel: NDArray[np.float64]
    nearest: NDArray[np.float64]


@dataclass(frozen=True)
class Pairs:
    """The pairs of N real and M generated samples.

    A ball around a sample reaches to its 3rd nearest of its own set, a wide one to its 5th.

    Attributes:
        kernel: (1 + S,) the sum of the kernel over all pairs; then over those of each two subsets,
            as many as both sides have.
        in_real_ball: (M,) whether a generated sample lies in the ball of a real one, edge included.
        in_fake_ball: (N,) the other way round.
        in_wide_balls: Number of pairs with the generated sample in the wide ball of the real one,
            edge excluded.
        covered: (N,) whether such a pair is there for each real sample.
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
    """One set of samples, made ready for blocks of pairs.

    Attributes:
        size: (N,) half the squared norms of the centred values.
        rest: (N,) D / 2, and by how much the values as they are have more of it.
        members: (N, 1 + S) ones, then whether a sample belongs to each subset.
    """

    values: NDArray[np.float64]
    centre: NDArray[np.float64]
    size: NDArray[np.float64]
    rest: NDArray[np.float64]
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
            side.size[rows] = np.einsum("nd,nd->n", block, block) / 2
            whole = np.einsum("nd,nd->n", values[rows], values[rows])
            side.rest[rows] = (width + whole) / 2 - side.size[rows]
        return side

    def blocks(self, start: int = 0) -> Iterator[tuple[slice, NDArray[np.float64]]]:
        """The centred values from row `start` on, block by block, each with its rows."""
        for first in range(start, len(self.values), BLOCK):
            rows = slice(first, min(first + BLOCK, len(self.values)))
            yield rows, self.values[rows] - self.centre

    def sums(self, rows: slice, kernels: NDArray[np.float64], other: _Side, columns: slice,
             ) -> NDArray[np.float64]:
        """(1 + S,): the sum of a block of the kernel over all pairs, and over each subset's."""
        total: NDArray[np.float64] = (
            (kernels @ other.members[columns]) * self.members[rows]).sum(axis=0)
        return total


def _tables(one: _Side, two: _Side,
            ) -> Iterator[tuple[slice, slice, NDArray[np.float64], NDArray[np.float64]]]:
    """Distances and kernel of all pairs, block by block, with their rows and columns.

    Of a side with itself, those blocks alone that are on the diagonal or above. The distances are
    squared, and half of them; so no factor takes a pass over the table. The kernel is that of
    Bińkowski et al. 2018, section 4, times D³: (xy + D)³. Both tables are overwritten by those of
    the next block.
    """
    import numpy as np

    room = np.empty((3, BLOCK * BLOCK))
    for rows, block in one.blocks():
        for columns, other in two.blocks(rows.start if one is two else 0):
            if one is two and rows == columns:
                other = block  # a product with itself takes half the time
            shape = len(block), len(other)
            distances, kernels, squares = (part[: shape[0] * shape[1]].reshape(shape)
                                           for part in room)
            np.matmul(block, other.T, out=kernels)
            # In this order the sum is the same, to the last bit, with the sides exchanged. Rounding
            # may take those of equal samples below 0, the radii around such samples just as much.
            np.add(one.size[rows, None], two.size[columns], out=distances)
            distances -= kernels
            kernels += one.rest[rows, None]
            kernels += two.rest[columns]
            np.multiply(kernels, kernels, out=squares)
            kernels *= squares
            yield rows, columns, distances, kernels


def _least(known: NDArray[np.float64], distances: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return, row by row, the 5 least of the known ones and of a table's, ascending.

    They are in the 5 groups of columns with the least minima, the rest of which need no look.
    Numpy alone: torch's threads and those of numpy's BLAS wait for each other in turn.
    """
    import numpy as np

    count, width = distances.shape
    if missing := -width % GROUPS:
        distances = np.pad(distances, ((0, 0), (0, missing)), constant_values=np.inf)
    groups = distances.reshape(count, -1, GROUPS)  # a group's columns are GROUPS apart
    near = np.argpartition(groups.min(axis=1), WIDE_BALL - 1, axis=1)[:, None, :WIDE_BALL]
    found = np.take_along_axis(groups, near, axis=2).reshape(count, -1)
    found = np.concatenate([known, found], axis=1)
    found.partition(WIDE_BALL - 1, axis=1)
    return np.sort(found[:, :WIDE_BALL], axis=1)
