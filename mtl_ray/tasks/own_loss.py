"""The base of a loss that the user brings."""

from abc import ABC, abstractmethod
from typing import Any

from torch import Tensor

from mtl_ray.config.base import implementation_of, settings_of
from mtl_ray.config.own_task_parts import CustomLossConfig
from mtl_ray.errors import InputError


class RowLoss(ABC):
    """The loss of single rows, for a task of kind `regression` or `binary`. It is made of its settings.

    Labels, predictions and metrics stay those of the kind. A row's loss depends on no other row, so that the sum over
    workers is that of one worker.
    """

    def __init__(self, settings: Any) -> None:
        self.settings = settings

    @abstractmethod
    def __call__(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the (B,) loss of each row, differentiable in `output`.

        Args:
            output: (B,) outputs of the tower: the standardised label (regression), or log-odds (binary).
            target: (B,) standardised labels, or 0 and 1; with `training.distill` what the teacher says of them.
        """


def own_loss(settings: Any) -> RowLoss | None:
    """Make the loss that settings of a task's `loss` describe; None if that is a name."""
    return implementation_of(settings)(settings_of(settings)) if isinstance(settings, CustomLossConfig) else None


def losses_of(loss: RowLoss, output: Tensor, target: Tensor) -> Tensor:
    """Return the (B,) loss of each row. Raises InputError if the class returns another shape."""
    losses = loss(output, target)
    if losses.shape != output.shape:
        name = f"{type(loss).__module__}:{type(loss).__name__}"
        raise InputError(f"{name}: expected the loss of each row, {tuple(output.shape)}; found {tuple(losses.shape)}")
    return losses
