"""Ordinal regression: a number from a few ordered levels."""

import torch
import torch.nn.functional as F  # noqa: N812 - its customary name
from torch import Tensor

from mtl_ray.config.tasks import OrdinalTaskConfig
from mtl_ray.schema import FittedTask
from mtl_ray.tasks.base import RowHead


class Ordinal(RowHead[OrdinalTaskConfig]):
    """CORN (Shi et al. 2023): output k is the log-odds of y > level k given y > level k - 1.

    Output k learns only on rows with y > level k - 1, and the loss is the mean over all such (row, k): a row of level i
    of K counts as min(i + 1, K - 1) terms. The prediction is the expected level.

    Example:
        >>> stars = Ordinal(OrdinalTaskConfig(), FittedTask(classes=("1", "2", "3")))
        >>> stars.predict(torch.tensor([[0.0, 0.0]]))  # above 1 with probability 1/2, above 2 with 1/4
        tensor([1.7500])
    """

    def __init__(self, spec: OrdinalTaskConfig, fitted: FittedTask) -> None:
        super().__init__(spec, fitted)
        levels = [float(c) for c in fitted.classes] or [0.0]
        self.levels = torch.tensor(levels, dtype=torch.float64, device="cpu")  # no checkpoint has them

    @property
    def num_outputs(self) -> int:  # noqa: D102
        return max(1, len(self.levels) - 1)

    def _index(self, label: Tensor) -> Tensor:
        """Return the (B,) number of each label's level; a label between levels counts as the one below."""
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
