"""Distributions of each input and each prediction, counted in bins that reference rows set.

The reference of a model is made when its training ends and is kept in its checkpoint folder; `drift` counts new rows in
the same bins.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from scipy.stats import chi2, norm
from torch import Tensor

from mtl_ray.config import Experiment
from mtl_ray.config.base import Section
from mtl_ray.features.base import feature_kinds
from mtl_ray.schema import SplitName

REFERENCE = "reference.json"
"""The file in a checkpoint folder."""

BINS, LARGEST = 10, 20
"""Bins of equal reference counts for a number, and the most frequent values that have a bin each."""


class Distribution(Section):
    """Counts of values by bin."""

    edges: tuple[float, ...] | None = None
    """Inner borders of the bins of a number, ascending; a value at a border is above it."""
    rows: tuple[int, ...] | None = None
    """Embedding rows with a bin each; all others share the last bin."""
    counts: tuple[int, ...]
    """Null, not seen in training, then the bins."""

    @property
    def total(self) -> int:
        """Values counted."""
        return sum(self.counts)

    @property
    def null_rate(self) -> float:
        """Share of nulls."""
        return self.counts[0] / max(1, self.total)

    @property
    def unknown_rate(self) -> float:
        """Share of values that training did not see."""
        return self.counts[1] / max(1, self.total)

    def count(self, values: np.ndarray) -> np.ndarray:
        """Count (n,) values in the same bins; see `counts`."""
        known = values[np.isfinite(values)]
        if self.rows is None:
            places = np.searchsorted(np.asarray(self.edges), known, side="right")
        else:
            found = pd.Index(self.rows, dtype=float).get_indexer(pd.Index(known))
            places = np.where(found < 0, len(self.rows), found)
        bins = np.bincount(places, minlength=len(self.counts) - 2)
        return np.array([np.isnan(values).sum(), np.isinf(values).sum(), *bins])

    def with_counts(self, counts: np.ndarray) -> "Distribution":
        """Return other counts in the same bins."""
        return self.model_copy(update={"counts": tuple(int(count) for count in counts)})


class Reference(Section):
    """Distributions of a model's inputs and predictions when its training ended."""

    split: SplitName
    """The rows that were counted: those of the test split, unless it has none."""
    num_rows: int
    distributions: dict[str, Distribution]
    """Values by the name of an input, and by `predicted_TASK`."""


def distribution_of(values: np.ndarray, *, categories: bool) -> Distribution:
    """Count (n,) reference values in bins: the most frequent ones of categories, quantiles of numbers."""
    known = values[np.isfinite(values)]
    if categories:
        distinct, counts = np.unique(known, return_counts=True)
        rows = distinct[np.argsort(-counts, kind="stable")][:LARGEST]
        empty = Distribution(rows=tuple(int(row) for row in rows), counts=(0,) * (len(rows) + 3))
    else:
        edges = np.unique(np.quantile(known, np.linspace(0, 1, BINS + 1)[1:-1])) if len(known) else np.zeros(0)
        empty = Distribution(edges=tuple(edges.tolist()), counts=(0,) * (len(edges) + 3))
    return empty.with_counts(empty.count(values))


def values_of(
    experiment: Experiment, batch: Mapping[str, Tensor], predictions: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Return (n,) float64 values of encoded rows and their predictions, by the names of `Reference.distributions`.

    For (n, C) probabilities the value is the likeliest class.
    """
    values = {name: kind.observed(batch) for name, kind in feature_kinds(experiment).items()}
    for task, found in predictions.items():
        values[f"predicted_{task}"] = (found if found.ndim == 1 else found.argmax(1)).astype(float)
    return values


def reference_of(
    experiment: Experiment, batch: Mapping[str, Tensor], predictions: Mapping[str, np.ndarray], split: SplitName
) -> Reference:
    """Make the reference from encoded rows of a split and their predictions."""
    categories = {name for name, kind in feature_kinds(experiment).items() if kind.is_category}
    categories |= {f"predicted_{task}" for task, found in predictions.items() if found.ndim == 2}
    values = values_of(experiment, batch, predictions)
    distributions = {name: distribution_of(v, categories=name in categories) for name, v in values.items()}
    return Reference(split=split, num_rows=len(next(iter(batch.values()))), distributions=distributions)


def stability_index(reference: Distribution, found: Distribution) -> tuple[float, float]:
    """Return the population stability index, and what it stays below in 999 of 1000 samples of unchanged values.

    PSI = sum_b (q_b - p_b) log(q_b / p_b) over the bins that either has, shares taken with half a count more in each,
    so that an empty bin has a logarithm. Of samples of sizes n and m from one distribution it is about
    (1 / n + 1 / m) chi^2 with B - 1 degrees of freedom (Yurdakul 2018, "Statistical properties of the population
    stability index").
    """
    counts = np.array([reference.counts, found.counts], float)
    counts = counts[:, counts.sum(0) > 0] + 0.5
    sizes = counts.sum(1, keepdims=True)
    p, q = counts / sizes
    noise = float((1 / sizes).sum() * chi2.ppf(0.999, max(1, counts.shape[1] - 1)))
    return float(((q - p) * np.log(q / p)).sum()), noise


def rate_noise(then: float, now: float, num_then: int, num_now: int) -> float:
    """Return what the rise of an unchanged share stays below in 999 of 1000 samples, both sizes being large."""
    share = (then * num_then + now * num_now) / max(1, num_then + num_now)
    return float(norm.ppf(0.999) * np.sqrt(share * (1 - share) * (1 / max(1, num_then) + 1 / max(1, num_now))))
