"""The base of a metric that the user brings."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any

    from torch import Tensor


class OwnMetric(ABC):
    """A metric that the user brings, of which a larger value is better. It is made of its settings.

    It gets the rows of all workers, on the CPU, in an order that does not depend on their number.
    """

    def __init__(self, settings: Any) -> None:
        self.settings = settings

    @abstractmethod
    def __call__(self, prediction: Tensor, label: Tensor, users: Tensor) -> float | None:
        """Return the value over n rows, at least one, that all have a label; None where it is not defined.

        Args:
            prediction: (n,) float64 on the natural scale, or (n, C) probabilities.
            label: (n,), or (n, C).
            users: (n,) int64, the same number for rows of the same user.
        """
