"""Embedding rows as values whose distribution is compared over time."""

import numpy as np

from mtl_ray.schema import NULL, PADDING, UNKNOWN

NO_VALUE, NOT_SEEN = np.nan, np.inf
"""Codes for null and for a value that training did not see."""


def marked(values: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return (n,) `values`, marked where the embedding rows (n,) are those of null and unknown values."""
    return np.where(rows == NULL, NO_VALUE, np.where(rows == UNKNOWN, NOT_SEEN, values))


def observed_rows(rows: np.ndarray) -> np.ndarray:
    """Return the values of (n,) embedding rows, or of all entries of (n, length) lists, an empty one being a null."""
    if rows.ndim == 2:
        rows = np.where((rows == PADDING).all(1, keepdims=True) & (np.arange(rows.shape[1]) == 0), NULL, rows)
        rows = rows[rows != PADDING]
    return marked(rows.astype(float), rows)
