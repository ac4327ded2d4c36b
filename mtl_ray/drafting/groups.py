"""Whether a column says something about an id: its value is the same in nearly all rows of the id."""

import numpy as np

BELONGS = 0.9
"""Share of the errors of the most frequent value that knowing the id spares, from which on a column belongs to it."""
FEWEST_REPEATS = 50
"""Fewest rows of ids that come again."""


def spared(ids: np.ndarray, codes: np.ndarray) -> float:
    """Return the share of the errors of "the most frequent value" that "the most frequent value of this id" spares.

    Rows without a value or an id, and ids of a single row, tell nothing. 0 if too few rows are left.

    Args:
        ids: (n,) int64, -1 for none.
        codes: (n,) int64 values, -1 for none.
    """
    known = (ids >= 0) & (codes >= 0)
    ids, codes = ids[known], codes[known]
    again = np.bincount(ids)[ids] > 1 if len(ids) else np.zeros(0, bool)
    ids, codes = ids[again], codes[again]
    if len(ids) < FEWEST_REPEATS:
        return 0.0
    pairs, counts = np.unique(ids * (codes.max() + 1) + codes, return_counts=True)
    best = np.zeros(ids.max() + 1, np.int64)
    np.maximum.at(best, pairs // (codes.max() + 1), counts)
    wrong = len(ids) - np.bincount(codes).max()
    return float(1 - (len(ids) - best.sum()) / wrong) if wrong else 0.0
