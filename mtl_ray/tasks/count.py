"""Counts: a number of events."""

import math

import torch
import torch.nn.functional as F  # noqa: N812 - its customary name
from torch import Tensor

from mtl_ray.config.tasks import CountTaskConfig
from mtl_ray.tasks.base import RowHead


class Count(RowHead[CountTaskConfig]):
    """Half the Poisson deviance, rate - y - y log(rate / y); the tower predicts log(rate / training mean).

    Example:
        >>> from mtl_ray.schema import FittedTask
        >>> Count(CountTaskConfig(), FittedTask(mean=2.0)).predict(torch.tensor([[0.0]]))
        tensor([2.])
    """

    def _log_rate(self, logits: Tensor) -> Tensor:
        return logits[:, 0].clamp(max=20) + math.log(max(self.fitted.mean, 1e-8))

    def losses(self, logits: Tensor, label: Tensor) -> Tensor:  # noqa: D102
        label = label.to(logits.dtype)
        return F.poisson_nll_loss(self._log_rate(logits), label, reduction="none") + torch.xlogy(label, label) - label

    def soft_losses(self, logits: Tensor, teacher: Tensor) -> Tensor:  # noqa: D102
        return self.losses(logits, self.predict(teacher))

    def predict(self, logits: Tensor) -> Tensor:  # noqa: D102
        return self._log_rate(logits).exp()
