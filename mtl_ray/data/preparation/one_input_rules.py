"""Rules that predict a label from one input alone: the label that goes with a value, or with the surest of several."""

from typing import NamedTuple

import numpy as np

from mtl_ray.schema import FIRST, NULL, PADDING

BUCKETS = 256
"""Largest number of quantile buckets into which a number is cut."""
ACCURACY, EXPLAINED_ERRORS, EXPLAINED_VARIANCE = 0.99, 0.9, 0.99
"""A rule nearly tells a class if it is right this often and spares this share of the errors of the most frequent label
(which alone may be right more often still); it nearly tells a number if it explains this share of the variance. What
people do is seldom that certain, while a copy of the label that is cut or has some gaps still is."""
CASES = 20
"""Fewest rows, users or items of which the constant prediction is wrong; a rule is not right on so many by chance."""


class Rule(NamedTuple):
    """A label for each token, and for rows without a known one."""

    tokens: np.ndarray
    """(K,) known tokens, ascending."""
    labels: np.ndarray
    """(K,) the label that each stands for."""
    sureness: np.ndarray
    """(K,) how sure that is; the surest token of a row speaks for it."""
    otherwise: float

    def __call__(self, tokens: np.ndarray) -> np.ndarray:
        """Predict the (n,) labels of rows with the (n, L) tokens."""
        if not len(self.tokens):
            return np.full(len(tokens), self.otherwise)
        places = np.searchsorted(self.tokens, tokens).clip(max=len(self.tokens) - 1)
        sureness = np.where(self.tokens[places] == tokens, self.sureness[places], -np.inf)
        surest = sureness.argmax(1)[:, None]
        said = np.take_along_axis(self.labels[places], surest, 1)[:, 0]
        return np.where(np.isneginf(np.take_along_axis(sureness, surest, 1)[:, 0]), self.otherwise, said)


def class_rule(tokens: np.ndarray, labels: np.ndarray) -> Rule:
    """Return the rule "the most frequent label of this token".

    Args:
        tokens: (n, L) int64, of which `PADDING` is none.
        labels: (n,) classes from 0.
    """
    labels = labels.astype(np.int64)
    num_classes = labels.max(initial=0) + 1
    pairs, counts = np.unique(_pairs(tokens, labels, num_classes), return_counts=True)
    token, label = np.divmod(pairs, num_classes)
    known, first, place = np.unique(token, return_index=True, return_inverse=True)
    best = np.lexsort((label, -counts, token))[first]
    totals = np.bincount(place, counts, len(known))
    # One is added to the total, so that a token that was seen once is not as sure as one that was seen often.
    return Rule(known, label[best], counts[best] / (totals + 1), float(np.bincount(labels).argmax()))


def _pairs(tokens: np.ndarray, labels: np.ndarray, num_classes: int) -> np.ndarray:
    pairs = tokens * num_classes + labels[:, None]
    return pairs[tokens != PADDING]


def number_rule(tokens: np.ndarray, labels: np.ndarray) -> Rule:
    """Return the rule "the mean label of this token"; arguments as those of `class_rule`, with numbers as labels."""
    mean, spread = labels.mean(), labels.var()
    away = np.broadcast_to((labels - mean)[:, None], tokens.shape)[tokens != PADDING]
    known, place = np.unique(tokens[tokens != PADDING], return_inverse=True)
    counts, sums, squares = (np.bincount(place, weights, len(known)) for weights in (None, away, away**2))
    means = sums / counts
    return Rule(known, mean + means, -(squares - counts * means**2 + spread) / (counts + 1), float(mean))


def tokens_of(values: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Return an encoded column as (n, L) int64 tokens; a plain number becomes one of its quantile buckets.

    Args:
        values: (n,) or (n, L) rows of an embedding table, or (n,) numbers.
        chosen: (n,) bool: rows that choose the buckets.
    """
    if values.dtype.kind != "f":
        return values.reshape(len(values), -1).astype(np.int64)
    finite = values[chosen & ~np.isnan(values)]
    borders = np.unique(np.quantile(finite, np.linspace(0, 1, BUCKETS + 1)[1:-1])) if len(finite) else np.zeros(0)
    buckets = np.searchsorted(borders, values, side="right") + FIRST
    return np.where(np.isnan(values), NULL, buckets)[:, None]


def reached(
    tokens: np.ndarray, labels: np.ndarray, chosen: np.ndarray, owner: np.ndarray, *, is_number: bool
) -> dict[str, float] | None:
    """Return what the rule of an input reaches, None if it does not nearly tell the label.

    Args:
        tokens: (n, L) int64, see `tokens_of`.
        labels: (n,) float64 classes from 0, or numbers; NaN for none.
        chosen: (n,) bool: rows that choose the rule; it is tried on the others.
        owner: (n,) whose value it is: what a rule gets right by chance is counted by owners.
        is_number: whether labels are numbers.

    Returns:
        For classes the `accuracy` of the rule and of the most frequent label (`constant`), for numbers the share of
        the variance that the rule explains (`explained`).
    """
    choosing, trying = chosen & ~np.isnan(labels), ~chosen & ~np.isnan(labels)
    if not choosing.any() or not trying.any():
        return None
    rule = (number_rule if is_number else class_rule)(tokens[choosing], labels[choosing])
    said, true = rule(tokens[trying]), labels[trying]
    errors, constant = ((x - true) ** 2 if is_number else (x != true) for x in (said, rule.otherwise))
    if len(np.unique(owner[trying][constant > 0])) < CASES:
        return None
    explained = 1 - errors.sum() / constant.sum()
    if is_number:
        return {"explained": round(float(explained), 6)} if explained >= EXPLAINED_VARIANCE else None
    accuracy = 1 - errors.mean()
    if accuracy < ACCURACY or explained < EXPLAINED_ERRORS:
        return None
    return {"accuracy": round(float(accuracy), 6), "constant": round(float(1 - constant.mean()), 6)}
