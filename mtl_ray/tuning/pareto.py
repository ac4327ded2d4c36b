"""Trade-offs between objectives: the front, its knee, and the gain over single-task training."""

from collections.abc import Sequence

import numpy as np


def pareto_front(values: Sequence[Sequence[float]], higher: Sequence[bool]) -> list[int]:
    """Return the positions of the points that no other point dominates.

    A point dominates another if it is at least as good in every objective and better in one.

    Args:
        values: (n, k) objectives.
        higher: (k,) true where higher is better.
    """
    costs = _costs(values, higher)
    better = (costs[:, None] <= costs[None]).all(2) & (costs[:, None] < costs[None]).any(2)
    return [int(i) for i in np.flatnonzero(~better.any(0))]


def knee(values: Sequence[Sequence[float]], higher: Sequence[bool]) -> int:
    """Return the position of the front's point that is furthest below the plane through its extremes (Das 1999).

    Objectives are scaled so that the best of the front is 0 and the worst 1; the plane then is sum_k f_k = 1, and in
    two dimensions the line between the two extremes. With one objective it is the best point.

    Args:
        values: (n, k) objectives of the front, at least one point.
        higher: (k,) whether higher is better.
    """
    costs = _costs(values, higher)
    low, high = costs.min(0), costs.max(0)
    scaled = (costs - low) / np.where(high > low, high - low, 1.0)
    return int(np.argmin(scaled.sum(1)))


def delta_m(values: Sequence[float], references: Sequence[float], higher: Sequence[bool]) -> float:
    """Return the mean relative gain over single-task training; positive is better (Maninis et al. 2019, eq. 4).

    1/k sum_k s_k (M_k - B_k) / |B_k| with s_k = 1 where higher is better and -1 otherwise.

    Args:
        values: (k,) objectives M.
        references: (k,) objectives B of single-task training.
        higher: (k,) whether higher is better.
    """
    gains = [
        (1 if up else -1) * (value - base) / abs(base)
        for value, base, up in zip(values, references, higher, strict=True)
    ]
    return float(np.mean(gains))


def _costs(values: Sequence[Sequence[float]], higher: Sequence[bool]) -> np.ndarray:
    return np.asarray(values, float).reshape(-1, len(higher)) * np.where(higher, -1.0, 1.0)
