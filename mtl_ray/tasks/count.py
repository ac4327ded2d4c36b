"""Counts: a number of events."""

import math

import torch.nn.functional as F  # noqa: N812 - its customary name
from torch import Tensor

from mtl_ray.config.tasks import CountTaskConfig
from mtl_ray.tasks.base import RowHead


class Count(RowHead[CountTaskConfig]):
    """Poisson negative log-likelihood without its constant; the tower predicts log(rate / training mean)."""

    def _log_rate(self, logits: Tensor) -> Tensor:
        return logits[:, 0].clamp(max=20) + math.log(max(self.fitted.mean, 1e-8))

    def losses(self, logits: Tensor, label: Tensor) -> Tensor:  # noqa: D102
        return F.poisson_nll_loss(self._log_rate(logits), label.to(logits.dtype), reduction="none")

    def predict(self, logits: Tensor) -> Tensor:  # noqa: D102
        return self._log_rate(logits).exp()
