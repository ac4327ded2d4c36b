"""Regression: a number."""

import torch.nn.functional as F  # noqa: N812 - its customary name
from torch import Tensor

from mtl_ray.config.tasks import RegressionTaskConfig
from mtl_ray.schema import FittedTask
from mtl_ray.tasks.base import RowHead
from mtl_ray.tasks.own_loss import losses_of, own_loss


class Regression(RowHead[RegressionTaskConfig]):
    """Squared, absolute or Huber error, or one of the user's, of the standardised label (y - mean) / std, which the
    tower predicts.

    Example:
        >>> import torch
        >>> rating = Regression(RegressionTaskConfig(loss="mae"))
        >>> rating.losses(torch.tensor([[1.0]]), torch.tensor([3.0]))
        tensor([2.])
    """

    def __init__(self, spec: RegressionTaskConfig, fitted: FittedTask = FittedTask()) -> None:  # noqa: B008 - frozen
        super().__init__(spec, fitted)
        self.own_loss = own_loss(spec.loss)

    def constant_loss(self, batch_size: int) -> float:  # noqa: D102
        return 1.0 if self.spec.loss == "mse" else super().constant_loss(batch_size)

    def losses(self, logits: Tensor, label: Tensor) -> Tensor:  # noqa: D102
        target = (label - self.fitted.mean) / self.fitted.std
        if self.own_loss is not None:
            return losses_of(self.own_loss, logits[:, 0], target.to(logits.dtype))
        loss = {"mse": F.mse_loss, "mae": F.l1_loss, "huber": F.huber_loss}[str(self.spec.loss)]
        return loss(logits[:, 0], target.to(logits.dtype), reduction="none")

    def predict(self, logits: Tensor) -> Tensor:  # noqa: D102
        value = self.fitted.mean + self.fitted.std * logits[:, 0]
        return value if self.spec.range is None else value.clamp(*self.spec.range)
