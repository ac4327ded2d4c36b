"""Means over repeated trainings, the paired test between two variants, and the interval of a single measurement."""

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from scipy.stats import t as student
from scipy.stats import ttest_rel

Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True)
class Summary:
    """A summary of repeated measurements.

    Example:
        >>> Summary(mean=0.8, sd=None, n=1).mean
        0.8
    """

    mean: float
    sd: float | None
    """Standard deviation of the sample (n - 1); None for a single measurement."""
    n: int


def summarize(values: Sequence[float]) -> Summary:
    """Return the mean and the deviation of repeated measurements.

    Args:
        values: (n,) measurements, at least one.

    Example:
        >>> summarize([1.0, 2.0, 3.0])
        Summary(mean=2.0, sd=1.0, n=3)
    """
    sd = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return Summary(float(np.mean(values)), sd, len(values))


def paired_p(values: Sequence[float], baseline: Sequence[float]) -> float | None:
    """Return the two-sided p value of the paired t-test (Student 1908) of equal means.

    None if the test says nothing: with fewer than two pairs, or with differences that do not vary.

    Args:
        values: (n,) measurements.
        baseline: (n,) measurements of the baseline on the same folds and seeds.

    Example:
        >>> round(paired_p([0.81, 0.83, 0.82], [0.80, 0.81, 0.79]), 4)
        0.0742
        >>> paired_p([0.81], [0.80]) is None
        True
    """
    differences = np.asarray(values, float) - np.asarray(baseline, float)
    scale = max(1.0, float(np.abs(baseline).max(initial=0)))
    if len(differences) < 2 or float(np.std(differences)) <= 1e-12 * scale:
        return None
    p = float(ttest_rel(values, baseline).pvalue)
    return None if math.isnan(p) else p


def holm(p_values: Mapping[Key, float]) -> dict[Key, float]:
    """Adjust p values so that the probability of any false discovery below a level is at most that level.

    With p_(1) <= ... <= p_(m): p'_(i) = max_{j <= i} min(1, (m - j + 1) p_(j)) (Holm 1979).

    Args:
        p_values: those of all m tests, by any key.

    Example:
        >>> holm({"click": 0.01, "like": 0.04, "buy": 0.03})
        {'click': 0.03, 'like': 0.06, 'buy': 0.06}
    """
    adjusted: dict[Key, float] = {}
    highest = 0.0
    for rank, key in enumerate(sorted(p_values, key=lambda key: p_values[key])):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[key]))
        adjusted[key] = highest
    return {key: adjusted[key] for key in p_values}


def jackknife_interval(estimate: float, left_out: Sequence[float], level: float = 0.95) -> tuple[float, float]:
    """Return the confidence interval of an estimate, from the estimates without each of G random groups of its units.

    se^2 = (G - 1) / G sum_g (theta_g - mean theta)^2, and Student's t with G - 1 degrees of freedom (the delete-a-group
    jackknife, Kott 2001).

    Args:
        estimate: estimate over all units.
        left_out: (G,) estimates without one group each, at least two.
        level: probability that the interval covers the truth.

    Example:
        >>> low, high = jackknife_interval(2.0, [1.9, 2.0, 2.1])
        >>> round(low, 3), round(high, 3)
        (1.503, 2.497)
    """
    number = len(left_out)
    error = math.sqrt((number - 1) * float(np.var(left_out)))
    width = float(student.ppf((1 + level) / 2, number - 1)) * error
    return estimate - width, estimate + width


def bootstrap_bounds(
    statistic: Callable[[np.ndarray], float], num_clusters: int, draws: int, level: float, seed: int = 0
) -> tuple[float, float]:
    """Return the lower and the upper bound of a statistic, each crossed with probability `level`.

    They are percentiles of its values on resamples of whole clusters (Efron 1979; clusters: Field & Welsh 2007).

    Args:
        statistic: maps (num_clusters,) cluster numbers, drawn with replacement, to a value; NaN if it is undefined.
        num_clusters: number of independent units, such as users, whose rows are not independent.
        draws: number of resamples.
        level: probability of each side.
        seed: seed of the draws.

    Returns:
        The two bounds; NaN twice if no draw defines the statistic.

    Example:
        >>> values = np.arange(5.0)
        >>> low, high = bootstrap_bounds(lambda drawn: values[drawn].mean(), num_clusters=5, draws=200, level=0.025)
        >>> low < 2.0 < high
        True
    """
    generator = np.random.default_rng(seed)
    values = np.array([statistic(generator.integers(num_clusters, size=num_clusters)) for _ in range(draws)])
    defined = values[~np.isnan(values)]
    if not len(defined):
        return math.nan, math.nan
    low, high = np.quantile(defined, [level, 1 - level])
    return float(low), float(high)
