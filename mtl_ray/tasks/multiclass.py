"""Multiclass classification: one of several classes."""

import torch
import torch.nn.functional as F  # noqa: N812 - its customary name
from torch import Tensor

from mtl_ray.config.tasks import MulticlassTaskConfig
from mtl_ray.tasks.base import RowHead


class Multiclass(RowHead[MulticlassTaskConfig]):
    """Cross-entropy over the classes seen in training.

    Example:
        >>> from mtl_ray.schema import FittedTask
        >>> topic, label = Multiclass(MulticlassTaskConfig(), FittedTask(classes=("a", "b"))), torch.tensor([1, -1])
        >>> topic.loss(torch.zeros(2, 2), label, topic.labelled(label))  # -1 is no label
        (tensor(0.6931), tensor(1))
    """

    @property
    def num_outputs(self) -> int:  # noqa: D102
        return max(1, len(self.fitted.classes))

    def labelled(self, label: Tensor) -> Tensor:  # noqa: D102
        return label >= 0

    def label_zeros(self, size: int, dtype: torch.dtype) -> Tensor:  # noqa: D102
        return torch.zeros(size, dtype=torch.int32)

    def constant_loss(self, batch_size: int) -> float:  # noqa: D102
        shares = torch.tensor(self.fitted.shares, dtype=torch.float64)
        smoothed = torch.lerp(shares, torch.full_like(shares, 1 / len(shares)), self.spec.label_smoothing)
        return torch.special.entr(smoothed).sum().item()

    def losses(self, logits: Tensor, label: Tensor) -> Tensor:  # noqa: D102
        return F.cross_entropy(logits, label.long(), reduction="none", label_smoothing=self.spec.label_smoothing)

    def soft_losses(self, logits: Tensor, teacher: Tensor) -> Tensor:  # noqa: D102
        return F.cross_entropy(logits, teacher.softmax(1), reduction="none")

    def predict(self, logits: Tensor) -> Tensor:  # noqa: D102
        return logits.softmax(1)
