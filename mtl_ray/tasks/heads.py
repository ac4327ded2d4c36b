"""Task kinds: loss as (sum, count), and the prediction on the natural scale.

Labels: (B,) real with NaN (numbers and binary), (B,) int with -1 (multiclass), (B, C) int8 with -1 (multilabel) for
"no label". A sum over no row is 0 and has a zero gradient, so that a batch without a task's labels is harmless.
"""

import math
from abc import ABC, abstractmethod
from typing import Generic, NamedTuple, TypeVar

import torch
import torch.nn.functional as F  # noqa: N812 - its customary name
from torch import Tensor

from mtl_ray.config.tasks import (
    BinaryTaskConfig,
    CountTaskConfig,
    MulticlassTaskConfig,
    MultilabelTaskConfig,
    OrdinalTaskConfig,
    RankingTaskConfig,
    RealTaskConfig,
    RegressionTaskConfig,
    TaskConfig,
    ValueTaskConfig,
)
from mtl_ray.distributed import gather_rows, gather_rows_with_gradient
from mtl_ray.schema import FittedTask

Spec = TypeVar(
    "Spec", bound=RealTaskConfig | BinaryTaskConfig | RankingTaskConfig | MulticlassTaskConfig | MultilabelTaskConfig
)


class UserItemVectors(NamedTuple):
    """The two sides of each row of a worker, as a ranking task has them."""

    user: Tensor
    """(B, dim) vectors of the rows' users."""
    item: Tensor
    """(B, dim) vectors of the rows' items."""
    rows: Tensor
    """(B,) embedding rows of the items: which of them are the same."""
    support: Tensor
    """(B,) training rows of each item."""


class TaskHead(ABC, Generic[Spec]):
    """What a task does with the outputs of its tower."""

    def __init__(self, spec: Spec, fitted: FittedTask) -> None:
        self.spec = spec
        self.fitted = fitted

    @property
    def num_outputs(self) -> int:
        """Width of the tower's output."""
        return 1

    @property
    def start(self) -> float:
        """Output that an untrained tower starts from."""
        return 0.0

    def labelled(self, label: Tensor) -> Tensor:
        """(B,) bool: rows that have a label."""
        return ~torch.isnan(label)

    @abstractmethod
    def loss(
        self, logits: Tensor, label: Tensor, mask: Tensor, pairs: UserItemVectors | None = None
    ) -> tuple[Tensor, Tensor]:
        """Summed loss over the rows of `mask` and the number of its terms (of rows, unless the kind says otherwise).

        Args:
            logits: (B, num_outputs).
            label: see the module.
            mask: (B,) bool, only rows that have a label.
            pairs: of a ranking task.
        """

    @abstractmethod
    def predict(self, logits: Tensor) -> Tensor:
        """(B,) or (B, C): the prediction on the natural scale."""


class RowHead(TaskHead[Spec]):
    """A task in which every row has a loss of its own."""

    def loss(  # noqa: D102
        self, logits: Tensor, label: Tensor, mask: Tensor, pairs: UserItemVectors | None = None
    ) -> tuple[Tensor, Tensor]:
        # A row outside the mask gets a harmless label, since 0 * NaN is NaN in the gradient too.
        shaped = mask if label.ndim == 1 else mask[:, None]
        label = torch.where(shaped, label, torch.zeros_like(label))
        losses = self.losses(logits, label)
        return torch.where(mask, losses, torch.zeros_like(losses)).sum(), (self.num_terms(label) * mask).sum()

    def num_terms(self, label: Tensor) -> Tensor:
        """(B,) or (): the terms that a row's loss is a sum of."""
        return torch.ones((), dtype=torch.int64, device=label.device)

    @abstractmethod
    def losses(self, logits: Tensor, label: Tensor) -> Tensor:
        """(B,) loss of each row."""


class Regression(RowHead[RegressionTaskConfig]):
    """Squared, absolute or Huber error in units of the training labels' deviation; the tower predicts
    (y - mean) / std."""

    def losses(self, logits: Tensor, label: Tensor) -> Tensor:  # noqa: D102
        target = (label - self.fitted.mean) / self.fitted.std
        loss = {"mse": F.mse_loss, "mae": F.l1_loss, "huber": F.huber_loss}[self.spec.loss]
        return loss(logits[:, 0], target.to(logits.dtype), reduction="none")

    def predict(self, logits: Tensor) -> Tensor:  # noqa: D102
        value = self.fitted.mean + self.fitted.std * logits[:, 0]
        return value if self.spec.range is None else value.clamp(*self.spec.range)


class Ordinal(RowHead[OrdinalTaskConfig]):
    """CORN (Shi et al. 2023): output k is the log-odds of y > level k given y > level k - 1.

    Output k learns on the rows with y > level k - 1 alone, and the loss is the mean over all such (row, k): a row of
    level i of K counts as min(i + 1, K - 1) terms. The prediction is the expected level.
    """

    def __init__(self, spec: OrdinalTaskConfig, fitted: FittedTask) -> None:
        super().__init__(spec, fitted)
        self.levels = torch.tensor([float(c) for c in fitted.classes] or [0.0], dtype=torch.float64)

    @property
    def num_outputs(self) -> int:  # noqa: D102
        return max(1, len(self.levels) - 1)

    def _index(self, label: Tensor) -> Tensor:
        """(B,) number of each label's level; a label between levels counts as the one below."""
        levels = self.levels.to(label.device)
        return (torch.searchsorted(levels, label.double(), right=True) - 1).clamp(min=0)

    def losses(self, logits: Tensor, label: Tensor) -> Tensor:  # noqa: D102
        index = self._index(label)[:, None]
        steps = torch.arange(self.num_outputs, device=logits.device)
        terms = F.binary_cross_entropy_with_logits(logits, (index > steps).to(logits.dtype), reduction="none")
        return torch.where(index >= steps, terms, torch.zeros_like(terms)).sum(1)

    def num_terms(self, label: Tensor) -> Tensor:  # noqa: D102
        return (self._index(label) + 1).clamp(max=self.num_outputs)

    def predict(self, logits: Tensor) -> Tensor:  # noqa: D102
        levels = self.levels.to(logits.device, logits.dtype)
        above = F.logsigmoid(logits).cumsum(1).exp()  # ONNX has no cumulative product
        return levels[0] + above[:, : len(levels) - 1] @ levels.diff()


class Count(RowHead[CountTaskConfig]):
    """Poisson negative log-likelihood, without its constant; the tower predicts the log of the rate over the training
    mean."""

    def _log_rate(self, logits: Tensor) -> Tensor:
        return logits[:, 0].clamp(max=20) + math.log(max(self.fitted.mean, 1e-8))

    def losses(self, logits: Tensor, label: Tensor) -> Tensor:  # noqa: D102
        return F.poisson_nll_loss(self._log_rate(logits), label.to(logits.dtype), reduction="none")

    def predict(self, logits: Tensor) -> Tensor:  # noqa: D102
        return self._log_rate(logits).exp()


class Value(RowHead[ValueTaskConfig]):
    """Zero-inflated lognormal (ZILN, Wang et al. 2019): log-odds of a positive amount, mean and (by softplus) deviation
    of its logarithm. Amounts are in units of the training deviation; the prediction is the expected amount."""

    @property
    def num_outputs(self) -> int:  # noqa: D102
        return 3

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


class Binary(RowHead[BinaryTaskConfig]):
    """Binary cross-entropy, or focal loss (Lin et al. 2017, without its class weight); the tower predicts the
    log-odds, and starts from those of the training labels (ibid., section 4.1): the first steps of a rare task would
    otherwise go into that number."""

    @property
    def start(self) -> float:  # noqa: D102
        mean = min(max(self.fitted.mean, 1e-4), 1 - 1e-4)
        return math.log(mean / (1 - mean))

    def losses(self, logits: Tensor, label: Tensor) -> Tensor:  # noqa: D102
        losses = F.binary_cross_entropy_with_logits(logits[:, 0], label.to(logits.dtype), reduction="none")
        # -expm1(-loss) is 1 - p of the label
        return losses if self.spec.loss == "bce" else (-torch.expm1(-losses)) ** self.spec.gamma * losses

    def predict(self, logits: Tensor) -> Tensor:  # noqa: D102
        return logits[:, 0].sigmoid()


class Ranking(TaskHead[RankingTaskConfig]):
    """Scores u.v of a user and an item, in which each positive row's item is set against the items of all rows of the
    global batch, on whichever worker they are. Rows with the same item as the positive are no negatives.

    An item comes into a batch as often as it is in the training rows. The softmax takes log Q of that probability off
    each score, so that popular items are not learned to be bad (Yi et al. 2019, eq. 5); the number of training rows
    by which a support is divided shifts all scores alike, and is left out.
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

    def predict(self, logits: Tensor) -> Tensor:  # noqa: D102
        return logits[:, 0]


class Multiclass(RowHead[MulticlassTaskConfig]):
    """Cross-entropy over the classes seen in training."""

    @property
    def num_outputs(self) -> int:  # noqa: D102
        return max(1, len(self.fitted.classes))

    def labelled(self, label: Tensor) -> Tensor:  # noqa: D102
        return label >= 0

    def losses(self, logits: Tensor, label: Tensor) -> Tensor:  # noqa: D102
        return F.cross_entropy(logits, label.long(), reduction="none", label_smoothing=self.spec.label_smoothing)

    def predict(self, logits: Tensor) -> Tensor:  # noqa: D102
        return logits.softmax(1)


class Multilabel(RowHead[MultilabelTaskConfig]):
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


def build_task(spec: TaskConfig, fitted: FittedTask) -> TaskHead:
    """The head of a task."""
    match spec:
        case RegressionTaskConfig():
            return Regression(spec, fitted)
        case OrdinalTaskConfig():
            return Ordinal(spec, fitted)
        case CountTaskConfig():
            return Count(spec, fitted)
        case ValueTaskConfig():
            return Value(spec, fitted)
        case BinaryTaskConfig():
            return Binary(spec, fitted)
        case RankingTaskConfig():
            return Ranking(spec, fitted)
        case MulticlassTaskConfig():
            return Multiclass(spec, fitted)
        case MultilabelTaskConfig():
            return Multilabel(spec, fitted)
