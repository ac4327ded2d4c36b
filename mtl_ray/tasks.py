"""Task kinds: loss as (sum, count), and the prediction on the natural scale.

Labels: (B,) real with NaN (regression, binary), (B,) int with -1 (multiclass), (B, C) int8 with -1 (multilabel) for
"no label". A sum over no row is 0 and has a zero gradient, so that a batch without a task's labels is harmless.
"""

from abc import ABC, abstractmethod
from typing import Generic, TypeVar

import torch
import torch.nn.functional as F  # noqa: N812 - its customary name
from torch import Tensor

from mtl_ray.experiment.tasks import BinaryTask, MulticlassTask, MultilabelTask, RegressionTask, Task
from mtl_ray.schema import FittedTask

Spec = TypeVar("Spec", bound=RegressionTask | BinaryTask | MulticlassTask | MultilabelTask)


class TaskHead(ABC, Generic[Spec]):
    """What a task does with the outputs of its tower."""

    def __init__(self, spec: Spec, fitted: FittedTask) -> None:
        self.spec = spec
        self.fitted = fitted

    @property
    def num_outputs(self) -> int:
        """Width of the tower's output."""
        return 1

    def labelled(self, label: Tensor) -> Tensor:
        """(B,) bool: rows that have a label."""
        return ~torch.isnan(label)

    def loss(self, logits: Tensor, label: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Summed loss over the rows of `mask` and their number.

        Args:
            logits: (B, num_outputs).
            label: see the module.
            mask: (B,) bool, only rows that have a label.
        """
        # A row outside the mask gets a harmless label, since 0 * NaN is NaN in the gradient too.
        shaped = mask if label.ndim == 1 else mask[:, None]
        losses = self.losses(logits, torch.where(shaped, label, torch.zeros_like(label)))
        return torch.where(mask, losses, torch.zeros_like(losses)).sum(), mask.sum()

    @abstractmethod
    def losses(self, logits: Tensor, label: Tensor) -> Tensor:
        """(B,) loss of each row."""

    @abstractmethod
    def predict(self, logits: Tensor) -> Tensor:
        """(B,) or (B, C): the prediction on the natural scale."""


class Regression(TaskHead[RegressionTask]):
    """Squared error in units of the training labels' deviation; the tower predicts (y - mean) / std."""

    def losses(self, logits: Tensor, label: Tensor) -> Tensor:  # noqa: D102
        return (logits[:, 0] - (label - self.fitted.mean) / self.fitted.std).square()

    def predict(self, logits: Tensor) -> Tensor:  # noqa: D102
        value = self.fitted.mean + self.fitted.std * logits[:, 0]
        return value if self.spec.range is None else value.clamp(*self.spec.range)


class Binary(TaskHead[BinaryTask]):
    """Binary cross-entropy; the tower predicts the log-odds."""

    def losses(self, logits: Tensor, label: Tensor) -> Tensor:  # noqa: D102
        return F.binary_cross_entropy_with_logits(logits[:, 0], label.to(logits.dtype), reduction="none")

    def predict(self, logits: Tensor) -> Tensor:  # noqa: D102
        return logits[:, 0].sigmoid()


class Multiclass(TaskHead[MulticlassTask]):
    """Cross-entropy over the classes seen in training."""

    @property
    def num_outputs(self) -> int:  # noqa: D102
        return max(1, len(self.fitted.classes))

    def labelled(self, label: Tensor) -> Tensor:  # noqa: D102
        return label >= 0

    def losses(self, logits: Tensor, label: Tensor) -> Tensor:  # noqa: D102
        return F.cross_entropy(logits, label.long(), reduction="none")

    def predict(self, logits: Tensor) -> Tensor:  # noqa: D102
        return logits.softmax(1)


class Multilabel(TaskHead[MultilabelTask]):
    """Binary cross-entropy of each label, averaged over the labels of a row."""

    @property
    def num_outputs(self) -> int:  # noqa: D102
        return max(1, len(self.fitted.classes))

    def labelled(self, label: Tensor) -> Tensor:  # noqa: D102
        # A task without classes (no label in training) has labels of width 0, of which `all` would be true.
        return (label >= 0).all(1) & (label.shape[1] > 0)

    def losses(self, logits: Tensor, label: Tensor) -> Tensor:  # noqa: D102
        logits = logits[:, : len(self.fitted.classes)]  # a task without classes still has one output
        return F.binary_cross_entropy_with_logits(logits, label.to(logits.dtype), reduction="none").mean(1)

    def predict(self, logits: Tensor) -> Tensor:  # noqa: D102
        return logits.sigmoid()


def build_task(spec: Task, fitted: FittedTask) -> TaskHead:
    """The head of a task."""
    match spec:
        case RegressionTask():
            return Regression(spec, fitted)
        case BinaryTask():
            return Binary(spec, fitted)
        case MulticlassTask():
            return Multiclass(spec, fitted)
        case MultilabelTask():
            return Multilabel(spec, fitted)
