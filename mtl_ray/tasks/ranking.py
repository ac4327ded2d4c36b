"""Ranking: the items that a user takes, by a dot product of two vectors."""

import math

import torch
import torch.nn.functional as F  # noqa: N812 - its customary name
from torch import Tensor

from mtl_ray.config.tasks import RankingTaskConfig
from mtl_ray.distributed import gather_rows, gather_rows_with_gradient
from mtl_ray.tasks.base import TaskHead, UserItemVectors


class Ranking(TaskHead[RankingTaskConfig]):
    """Softmax or BPR loss of scores u.v of a user vector and an item vector.

    Each positive row's item is compared with the items of all rows of the global batch, whichever worker holds them.
    Rows with the same item as the positive are no negatives. An item is in a batch as often as it is in the training
    rows; the softmax subtracts the logarithm of that probability from each score, so that popular items are not
    learned to be bad (Yi et al. 2019, eq. 5). The number of training rows, by which a support would be divided, shifts
    all scores alike and is left out.

    Example:
        >>> taken, user, item = Ranking(RankingTaskConfig(loss="bpr")), torch.eye(2), torch.eye(2)
        >>> pairs = UserItemVectors(user, item, rows=torch.tensor([3, 4]), support=torch.tensor([1, 1]))
        >>> scores = (user * item).sum(1, keepdim=True)
        >>> taken.loss(scores, torch.tensor([1.0, 0.0]), torch.tensor([True, True]), pairs)  # one positive row
        (tensor(0.3133), tensor(1))
    """

    def loss(  # noqa: D102
        self, logits: Tensor, label: Tensor, mask: Tensor, pairs: UserItemVectors | None = None
    ) -> tuple[Tensor, Tensor]:
        if pairs is None:  # evaluated rows come in batches of any size, which this loss depends on
            return logits.new_zeros(()), torch.zeros_like(mask, dtype=torch.int64).sum()
        positive = torch.nonzero(mask & (label > 0.5))[:, 0]
        user, item = pairs.user.to(logits.dtype), pairs.item.to(logits.dtype)
        own = (user[positive] * item[positive]).sum(1) / self.spec.temperature
        scores = user[positive] @ gather_rows_with_gradient(item).T / self.spec.temperature
        same = pairs.rows[positive][:, None] == gather_rows(pairs.rows)
        if self.spec.loss == "bpr":
            above = F.softplus(scores - own[:, None]).masked_fill(same, 0).sum(1)  # -log sigmoid(own - score)
            losses = above / (~same).sum(1).clamp(min=1)
        else:
            log_q = pairs.support.clamp(min=1).to(logits.dtype).log()
            own = own - log_q[positive]
            others = (scores - gather_rows(log_q)).masked_fill(same, -math.inf)
            losses = torch.cat([own[:, None], others], 1).logsumexp(1) - own
        return losses.sum(), torch.ones_like(positive).sum()

    def constant_loss(self, batch_size: int) -> float:
        """Return the loss of equal scores, where all items are equally frequent."""
        return math.log(2 if self.spec.loss == "bpr" else max(2, batch_size))

    def predict(self, logits: Tensor) -> Tensor:  # noqa: D102
        return logits[:, 0]
