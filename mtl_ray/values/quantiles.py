"""Distributions of numbers in few values, added up over partitions, and the borders of their quantile buckets."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

SIZE = 1024
"""Parts of equal weight by which a distribution of many values is described."""


@dataclass(frozen=True)
class Distribution:
    """Values in ascending order, each with the number of rows from it up to the next one. Two add up to that of both.

    Up to `SIZE` different values are all there. Of more, those at the quantiles and both ends are, and each value that
    has more than its share of rows, with the next value, so that its number of rows is exact.
    """

    values: np.ndarray
    counts: np.ndarray

    @classmethod
    def of(cls, numbers: np.ndarray) -> "Distribution":
        """Describe (n,) numbers, leaving out NaN."""
        values, counts = np.unique(numbers[~np.isnan(numbers)], return_counts=True)
        if len(values) <= SIZE:
            return cls(values, counts)
        share, last = counts.sum() / SIZE, len(values) - 1
        heavy = np.flatnonzero(counts > share)
        at_quantiles = np.searchsorted(np.cumsum(counts), np.arange(SIZE) * share, side="right")
        kept = np.unique(np.concatenate([[0], at_quantiles, heavy, np.minimum(heavy + 1, last), [last]]))
        return cls(values[kept], np.add.reduceat(counts, kept))

    def __add__(self, other: "Distribution") -> "Distribution":
        values = np.concatenate([self.values, other.values])
        values, places = np.unique(values, return_inverse=True)
        counts = np.bincount(places, np.concatenate([self.counts, other.counts]), len(values))
        return Distribution(values, counts.astype(np.int64))

    def levels(self, most: int) -> tuple[np.ndarray, np.ndarray]:
        """Return values, ascending, and their shares of the rows: all, or the middles of `most` equal parts."""
        total = self.counts.sum()
        if len(self.values) <= most:
            return self.values, self.counts / max(1, total)
        middles = (np.arange(most) + 0.5) / most * total
        return self.values[np.searchsorted(np.cumsum(self.counts), middles)], np.full(most, 1 / most)

    def quantiles(self, pieces: int) -> tuple[float, ...]:
        """Return the borders of at most so many pieces, cut as buckets are, from the lowest value to the highest."""
        ends = self.values[[0, -1]].tolist() if len(self.values) else []
        return tuple(sorted({*self.borders(pieces), *ends}))

    def borders(self, buckets: int) -> tuple[float, ...]:
        """Return the inner borders of at most so many buckets; a bucket begins with its lower border.

        If there are no more values than buckets, each has its own. Otherwise a value whose rows would fill a bucket has
        one to itself, and the others are cut into buckets of about the same number of rows.
        """
        if len(self.values) <= buckets:
            return tuple(self.values[1:].tolist())
        starts = _starts(self.counts, buckets)
        return tuple(self.values[starts].tolist())


def _starts(counts: np.ndarray, buckets: int) -> np.ndarray:
    """Return the places where buckets begin, but for the first."""
    heavy = np.flatnonzero(counts * buckets >= counts.sum())
    heavy = heavy[np.argsort(-counts[heavy], kind="stable")]
    while True:  # each heavy value may cut the others into one more run, which needs a bucket, too
        edges = np.unique(np.concatenate([[0, len(counts)], heavy, heavy + 1]))
        runs = [(a, b) for a, b in pairwise(edges) if a not in heavy]
        if len(heavy) + len(runs) <= buckets:
            break
        heavy = heavy[:-1]
    left = buckets - len(heavy)
    sizes = np.array([counts[a:b].sum() for a, b in runs], float)
    numbers = _shares(sizes, np.array([b - a for a, b in runs]), left)
    starts = [edges[1:-1]]
    for (a, b), number in zip(runs, numbers, strict=True):
        below = np.cumsum(counts[a:b])
        starts.append(a + np.searchsorted(below, np.arange(1, number) / number * below[-1]) + 1)
    found = np.unique(np.concatenate(starts))
    return found[(found > 0) & (found < len(counts))]


def _shares(sizes: np.ndarray, most: np.ndarray, total: int) -> np.ndarray:
    """Return how many buckets each run gets: one at least, `most` at most, the next to where rows are the densest."""
    numbers = np.ones(len(sizes), int)
    while numbers.sum() < total and (numbers < most).any():
        numbers[np.argmax(np.where(numbers < most, sizes / numbers, -1))] += 1
    return numbers
