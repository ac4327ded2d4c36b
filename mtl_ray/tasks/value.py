"""Values: amounts that are often zero and otherwise heavy-tailed."""

import math

import torch
import torch.nn.functional as F  # noqa: N812 - its customary name
from torch import Tensor

from mtl_ray.config.tasks import ValueTaskConfig
from mtl_ray.tasks.base import RowHead


class Value(RowHead[ValueTaskConfig]):
    """Zero-inflated lognormal loss (ZILN, Wang et al. 2019).

    The outputs are the log-odds of a positive amount, and the mean and (through softplus) the deviation of its
    logarithm. Amounts are in units of the training deviation; the prediction is the expected amount.

    Example:
        >>> spent = Value(ValueTaskConfig())
        >>> spent.predict(torch.tensor([[-100.0, 0.0, 0.0]])).item() < 1e-6  # nothing is bought
        True
    """

    @property
    def num_outputs(self) -> int:  # noqa: D102
        return 3

    def constant_loss(self, batch_size: int) -> float:
        """Return the loss of the best constant if the logarithm of positive amounts is normal, with deviation 1.

        The density of amounts depends on their unit and may be above 1, so that the loss may be negative.
        """
        labels, shares = (torch.tensor(v, dtype=torch.float64) for v in (self.fitted.levels, self.fitted.shares))
        share = shares[labels > 0].sum().clamp(max=1)
        entropy = torch.special.entr(share) + torch.special.entr(1 - share)
        return (entropy + share * 0.5 * (math.log(2 * math.pi) + 1)).item()

    def losses(self, logits: Tensor, label: Tensor) -> Tensor:  # noqa: D102
        positive = label > 0
        bought = F.binary_cross_entropy_with_logits(logits[:, 0], positive.to(logits.dtype), reduction="none")
        amount = torch.where(positive, label / self.fitted.std, torch.ones_like(label)).to(logits.dtype).log()
        deviation = F.softplus(logits[:, 2]).clamp(min=1e-3)
        lognormal = amount + deviation.log() + 0.5 * math.log(2 * math.pi)
        lognormal = lognormal + 0.5 * ((amount - logits[:, 1]) / deviation).square()
        return bought + torch.where(positive, lognormal, torch.zeros_like(lognormal))

    def predict(self, logits: Tensor) -> Tensor:  # noqa: D102
        deviation = F.softplus(logits[:, 2])
        mean = (logits[:, 1] + deviation.square() / 2).clamp(max=20).exp()
        return logits[:, 0].sigmoid() * mean * self.fitted.std
