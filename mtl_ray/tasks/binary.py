"""Binary classification: whether something happens."""

import math

import torch
import torch.nn.functional as F  # noqa: N812 - its customary name
from torch import Tensor

from mtl_ray.config.tasks import BinaryTaskConfig
from mtl_ray.schema import FittedTask
from mtl_ray.tasks.base import RowHead
from mtl_ray.tasks.own_loss import losses_of, own_loss


class Binary(RowHead[BinaryTaskConfig]):
    """Binary cross-entropy, or focal loss (Lin et al. 2017, without its class weight); the tower predicts the log-odds.

    It starts from the log-odds of the training labels (ibid., section 4.1): otherwise the first steps of a rare task
    would be spent on that number. A loss of the user's takes the place of both.

    Example:
        >>> click = Binary(BinaryTaskConfig(loss="focal", gamma=2.0))
        >>> click.loss(torch.tensor([[0.0], [4.0]]), torch.tensor([1.0, 1.0]), torch.tensor([True, True]))
        (tensor(0.1733), tensor(2))
    """

    def __init__(self, spec: BinaryTaskConfig, fitted: FittedTask = FittedTask()) -> None:  # noqa: B008 - it is frozen
        super().__init__(spec, fitted)
        self.own_loss = own_loss(spec.loss)

    @property
    def initial_bias(self) -> float:  # noqa: D102
        mean = min(max(self.fitted.mean, 1e-4), 1 - 1e-4)
        return math.log(mean / (1 - mean))

    def losses(self, logits: Tensor, label: Tensor) -> Tensor:  # noqa: D102
        if self.own_loss is not None:
            return losses_of(self.own_loss, logits[:, 0], label.to(logits.dtype))
        losses = F.binary_cross_entropy_with_logits(logits[:, 0], label.to(logits.dtype), reduction="none")
        # -expm1(-loss) is 1 - p of the label
        return losses if self.spec.loss == "bce" else (-torch.expm1(-losses)) ** self.spec.gamma * losses

    def soft_losses(self, logits: Tensor, teacher: Tensor) -> Tensor:  # noqa: D102
        return self.losses(logits, teacher[:, 0].sigmoid())

    def predict(self, logits: Tensor) -> Tensor:  # noqa: D102
        return logits[:, 0].sigmoid()
