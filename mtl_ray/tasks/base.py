"""The base of every task head: labels to a loss, outputs to a prediction.

Labels are (B,) real with NaN (numbers and binary), (B,) int with -1 (multiclass) or (B, C) int8 with -1 (multilabel)
where there is none. A sum over no row is 0 and has a zero gradient, so a batch without a task's labels is harmless.
"""

from abc import ABC, abstractmethod
from typing import Generic, NamedTuple, TypeVar

import torch
from torch import Tensor

from mtl_ray.config.base import implementation_of
from mtl_ray.config.tasks import TaskConfig
from mtl_ray.schema import FittedTask

Spec = TypeVar("Spec", bound=TaskConfig)

SMALLEST_LOSS = 1e-6
"""Loss of a constant below which there is nothing to learn from the labels."""


class UserItemVectors(NamedTuple):
    """The user vector and the item vector of each of a worker's rows, for a ranking task.

    Example:
        >>> vectors = torch.eye(2)
        >>> pairs = UserItemVectors(vectors, vectors, rows=torch.tensor([3, 4]), support=torch.tensor([9, 1]))
        >>> (pairs.user * pairs.item).sum(1)  # the scores of the two rows
        tensor([1., 1.])
    """

    user: Tensor
    """(B, dim) vectors of the rows' users."""
    item: Tensor
    """(B, dim) vectors of the rows' items."""
    rows: Tensor
    """(B,) embedding rows of the items: they tell which items are the same."""
    support: Tensor
    """(B,) training rows of each item."""


class TaskHead(ABC, Generic[Spec]):
    """The loss and the prediction of a task, from the outputs of its tower.

    Args:
        spec: settings of the task.
        fitted: what `prepare` found in its training labels, such as their mean.

    Example:
        >>> from mtl_ray.config.tasks import RegressionTaskConfig
        >>> stars = build_task(RegressionTaskConfig(range=(1, 5)), FittedTask(mean=3.5, std=1.0))
        >>> logits, label = torch.tensor([[0.5], [9.0], [0.0]]), torch.tensor([4.0, 5.0, torch.nan])
        >>> stars.loss(logits, label, stars.labelled(label))  # summed, and the number of its terms
        (tensor(56.2500), tensor(2))
        >>> stars.predict(logits)
        tensor([4.0000, 5.0000, 3.5000])
    """

    def __init__(self, spec: Spec, fitted: FittedTask = FittedTask()) -> None:  # noqa: B008 - it is frozen
        self.spec = spec
        self.fitted = fitted

    @property
    def num_outputs(self) -> int:
        """Width of the tower's output."""
        return 1

    @property
    def initial_bias(self) -> float:
        """Output of an untrained tower."""
        return 0.0

    def labelled(self, label: Tensor) -> Tensor:
        """Return (B,) bool: rows that have a label."""
        return ~torch.isnan(label)

    def label_zeros(self, size: int, dtype: torch.dtype) -> Tensor:
        """Return zeros shaped and typed as the labels of `size` rows; `dtype` is that of real labels."""
        return torch.zeros(size, dtype=dtype)

    @abstractmethod
    def loss(
        self, logits: Tensor, label: Tensor, mask: Tensor, pairs: UserItemVectors | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return the summed loss over the rows of `mask`, and the number of its terms.

        A term is a row unless the kind says otherwise.

        Args:
            logits: (B, num_outputs).
            label: see the module.
            mask: (B,) bool, only rows that have a label.
            pairs: user and item vectors, for a ranking task.
        """

    def distilled(self, logits: Tensor, teacher: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return the summed loss over the rows of `mask` with another model's outputs as labels, and their number.

        Args:
            logits: (B, num_outputs).
            teacher: (B, num_outputs) outputs of the other model.
            mask: (B,) bool.
        """
        losses = self.soft_losses(logits, teacher)
        return torch.where(mask, losses, torch.zeros_like(losses)).sum(), mask.sum()

    def soft_losses(self, logits: Tensor, teacher: Tensor) -> Tensor:
        """Return the (B,) loss of each row, smallest where the outputs are those of the teacher.

        It is the mean squared difference of the outputs (Ba and Caruana 2014), unless a kind of task has its own.
        """
        return (logits - teacher).square().mean(1)

    def loss_scale(self, batch_size: int) -> float:
        """Return the factor after which a loss of 1 is that of a constant; 1 if the schema lacks the labels, as before.

        Args:
            batch_size: see `constant_loss`.
        """
        constant = self.constant_loss(batch_size) if self.fitted.shares else 0.0
        return 1 / constant if constant > SMALLEST_LOSS else 1.0

    @abstractmethod
    def constant_loss(self, batch_size: int) -> float:
        """Return the mean loss, over the training labels, of the best output that is the same for all rows.

        Args:
            batch_size: rows of a global batch, for a loss that depends on them.
        """

    @abstractmethod
    def predict(self, logits: Tensor) -> Tensor:
        """Return predictions (B,) or (B, C) on the natural scale, from logits (B, num_outputs)."""


class RowHead(TaskHead[Spec]):
    """A task in which every row has a loss of its own: a subclass says `losses` and `predict`.

    Example:
        >>> class Absolute(RowHead):
        ...     def losses(self, logits, label):
        ...         return (logits[:, 0] - label).abs()
        ...
        ...     def predict(self, logits):
        ...         return logits[:, 0]
        >>> from mtl_ray.config.tasks import RegressionTaskConfig
        >>> head, label = Absolute(RegressionTaskConfig()), torch.tensor([2.0, torch.nan])
        >>> head.loss(torch.tensor([[1.5], [7.0]]), label, head.labelled(label))
        (tensor(0.5000), tensor(1))
    """

    def loss(  # noqa: D102
        self, logits: Tensor, label: Tensor, mask: Tensor, pairs: UserItemVectors | None = None
    ) -> tuple[Tensor, Tensor]:
        # A row outside the mask gets a harmless label, since 0 * NaN is NaN in the gradient too.
        shaped = mask if label.ndim == 1 else mask[:, None]
        label = torch.where(shaped, label, torch.zeros_like(label))
        losses = self.losses(logits, label)
        return torch.where(mask, losses, torch.zeros_like(losses)).sum(), (self.num_terms(label) * mask).sum()

    def num_terms(self, label: Tensor) -> Tensor:
        """Return (B,) or (): the number of terms in each row's loss."""
        return torch.ones((), dtype=torch.int64, device=label.device)

    def constant_loss(self, batch_size: int) -> float:  # noqa: D102
        labels, shares = (torch.tensor(v, dtype=torch.float64) for v in (self.fitted.levels, self.fitted.shares))
        output = torch.zeros((1, self.num_outputs), dtype=torch.float64, requires_grad=True)
        optimizer = torch.optim.LBFGS([output], max_iter=100, line_search_fn="strong_wolfe")

        def mean_loss() -> Tensor:
            optimizer.zero_grad()
            losses = self.losses(output.expand(len(labels), -1), labels)
            loss = (shares * losses).sum() / (shares * self.num_terms(labels)).sum()
            loss.backward()
            return loss

        with torch.enable_grad():
            optimizer.step(mean_loss)  # pyright: ignore[reportArgumentType]
            return mean_loss().item()

    @abstractmethod
    def losses(self, logits: Tensor, label: Tensor) -> Tensor:
        """Return the (B,) loss of each row."""


def build_task(spec: TaskConfig, fitted: FittedTask = FittedTask()) -> TaskHead:  # noqa: B008 - it is frozen
    """Build the head of a task.

    Args:
        spec: settings of the task.
        fitted: what `prepare` found in its training labels, such as their mean.

    Example:
        >>> from mtl_ray.config.tasks import MulticlassTaskConfig
        >>> build_task(MulticlassTaskConfig(), FittedTask(classes=("home", "garden"))).num_outputs
        2
    """
    return implementation_of(spec)(spec, fitted)
