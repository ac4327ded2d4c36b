"""Areas under ROC curves, over all rows and within users; one sort serves a whole and its parts."""

from functools import cached_property

import numpy as np
import torch
from torch import Tensor


class SortedRows:
    """Evaluated rows of a task that all have a label. A part takes its order from the whole and is not sorted again.

    Args:
        prediction: (n,) or (n, C) on the natural scale.
        label: (n,) or (n, C).
        users: (n,) int64 number of each row's user, from 0.

    Example:
        >>> score, label = torch.tensor([0.9, 0.2, 0.4, 0.1]), torch.tensor([1, 1, 0, 0])
        >>> rows = SortedRows(score, label, users=torch.tensor([0, 1, 1, 1]))
        >>> rows.auc(), rows.gauc()  # user 0 has one class and no AUC
        (0.75, 0.5)
        >>> rows.part(torch.tensor([True, False, True, True])).auc()
        1.0
    """

    def __init__(self, prediction: Tensor, label: Tensor, users: Tensor) -> None:
        self.prediction, self.label, self.users = prediction, label, users
        self._whole: tuple[SortedRows, np.ndarray] | None = None

    def __len__(self) -> int:
        return len(self.users)

    def part(self, inside: Tensor) -> "SortedRows":
        """Return the rows where the (n,) bool `inside` holds."""
        index = torch.nonzero(inside)[:, 0]
        part = SortedRows(self.prediction[index], self.label[index], self.users[index])
        if 16 * len(part) > len(self):  # a small part is sorted sooner than it is picked out of the whole
            part._whole = (self, inside.numpy())
        return part

    def auc(self) -> float | None:
        """Return the share of pairs of a positive and a negative row in which the positive scores higher.

        Ties count one half; None if there is no such pair.
        """
        if not len(self):
            return None
        order = self._by_score
        auc = _auc_by(np.zeros(len(self), np.int64), self._scores[order], self._positive[order])[0]
        return None if np.isnan(auc[0]) else float(auc[0])

    def gauc(self) -> float | None:
        """Return the AUC within each user, averaged with the user's rows as weights (Zhou et al. 2018, DIN).

        Users whose labels are all equal have no AUC and are left out; None if no user is left.
        """
        if not len(self):
            return None
        order = self._by_user
        user = self.users.numpy()[order]
        user = np.cumsum(np.append(False, user[1:] != user[:-1]))  # from 0, without gaps
        auc, rows = _auc_by(user, self._scores[order], self._positive[order])
        defined = ~np.isnan(auc)
        return float((auc[defined] * rows[defined]).sum() / rows[defined].sum()) if defined.any() else None

    @cached_property
    def _scores(self) -> np.ndarray:
        return self.prediction.numpy()

    @cached_property
    def _positive(self) -> np.ndarray:
        return self.label.numpy() > 0.5

    @cached_property
    def _by_score(self) -> np.ndarray:
        """(n,) positions of the rows in the order of their scores."""
        if self._whole:
            whole, inside = self._whole
            return _order_of_part(whole._by_score, inside)
        return np.argsort(self._scores)

    @cached_property
    def _by_user(self) -> np.ndarray:
        """(n,) positions of the rows by user, and within a user by score."""
        if self._whole:
            whole, inside = self._whole
            return _order_of_part(whole._by_user, inside)
        places = np.sort(self.users.numpy()[self._by_score] * len(self) + np.arange(len(self)))
        return self._by_score[places % len(self)]


def _order_of_part(order: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Return the order of the rows that are inside, as positions among these."""
    return (np.cumsum(inside) - 1)[order[inside[order]]]


def _auc_by(group: np.ndarray, score: np.ndarray, positive: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the AUC of each group, NaN for a group with only one class, and its number of rows.

    Args:
        group: (n,) int64 numbers from 0, ascending.
        score: (n,) ascending within a group.
        positive: (n,) bool.
    """
    new = np.append(True, (group[1:] != group[:-1]) | (score[1:] != score[:-1]))
    first = np.flatnonzero(new)
    positives = np.add.reduceat(positive.astype(np.int64), first)
    negatives = np.diff(np.append(first, len(group))) - positives
    below = np.cumsum(negatives) - negatives  # of all groups; those of earlier groups are taken off
    of, starts = group[first], np.flatnonzero(np.append(True, group[first][1:] != group[first][:-1]))
    below -= below[starts][of]
    twice = np.add.reduceat(positives * (2 * below + negatives), starts)
    positives, negatives = np.add.reduceat(positives, starts), np.add.reduceat(negatives, starts)
    with np.errstate(invalid="ignore"):
        return twice / (2 * positives * negatives), positives + negatives
