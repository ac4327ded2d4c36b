"""Multilabel classification: any of several labels."""

import torch
import torch.nn.functional as F  # noqa: N812 - its customary name
from torch import Tensor

from mtl_ray.config.tasks import MultilabelTaskConfig
from mtl_ray.tasks.base import RowHead


class Multilabel(RowHead[MultilabelTaskConfig]):
    """Binary cross-entropy of each label, averaged over the labels of a row.

    Example:
        >>> from mtl_ray.schema import FittedTask
        >>> tags = Multilabel(MultilabelTaskConfig(), FittedTask(classes=("new", "used")))
        >>> tags.predict(torch.tensor([[0.0, 4.0]]))
        tensor([[0.5000, 0.9820]])
    """

    @property
    def num_outputs(self) -> int:  # noqa: D102
        return max(1, len(self.fitted.classes))

    def labelled(self, label: Tensor) -> Tensor:  # noqa: D102
        # A task without classes (no label in training) has labels of width 0, of which `all` would be true.
        return (label >= 0).all(1) & (label.shape[1] > 0)

    def label_zeros(self, size: int, dtype: torch.dtype) -> Tensor:  # noqa: D102
        return torch.zeros((size, len(self.fitted.classes)), dtype=torch.int8)

    def constant_loss(self, batch_size: int) -> float:  # noqa: D102
        shares = torch.tensor(self.fitted.shares, dtype=torch.float64).clamp(max=1)
        return (torch.special.entr(shares) + torch.special.entr(1 - shares)).mean().item()

    def losses(self, logits: Tensor, label: Tensor) -> Tensor:  # noqa: D102
        logits = logits[:, : len(self.fitted.classes)]  # a task without classes still has one output
        return F.binary_cross_entropy_with_logits(logits, label.to(logits.dtype), reduction="none").mean(1)

    def soft_losses(self, logits: Tensor, teacher: Tensor) -> Tensor:  # noqa: D102
        return self.losses(logits, teacher.sigmoid())

    def predict(self, logits: Tensor) -> Tensor:  # noqa: D102
        return logits.sigmoid()
