"""The loss of meta-learned cold-start vectors: the tasks' losses under a fixed copy of the model."""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call

from mtl_ray.counter_rng import Stream
from mtl_ray.distributed import sum_over_ranks
from mtl_ray.models.cold_start.base import MetaLearnedColdStart, ReadIdVector
from mtl_ray.models.masking import MaskedBatch
from mtl_ray.models.model import MultiTaskModel
from mtl_ray.schema import UNKNOWN


class MetaLoss:
    """Computes the loss of one id's meta-learned vectors."""

    def __init__(self, model: MultiTaskModel, key: str, parts: Mapping[str, MetaLearnedColdStart]) -> None:
        """Prepare the loss for the id feature `key`, whose module is in `parts` by set of tables."""
        self.model, self.key, self.parts = model, key, parts

    def __call__(
        self, batch: MaskedBatch, weights: Tensor, autocast: AbstractContextManager[Any], loss_scale: float
    ) -> Tensor:
        """Return this worker's part of the loss.

        Args:
            batch: this worker's rows of the global batch; the id is hidden in all of them.
            weights: (T,) weights of the tasks, of the type of the losses.
            autocast: context of a forward pass.
            loss_scale: factor that keeps gradients in the range of float16.
        """
        own = {parameter for part in self.parts.values() for parameter in part.parameters()}
        fixed = {name: p.detach() for name, p in self.model.named_parameters() if p not in own}
        ids = batch.columns[self.key]
        known = ids > UNKNOWN
        batch = batch.hiding(self.key)

        def losses(read: Mapping[str, ReadIdVector], rows: Tensor) -> tuple[Tensor, Tensor]:
            with autocast:
                instead = {name: {self.key: reading} for name, reading in read.items()}
                outputs = functional_call(self.model, fixed, (batch.columns, batch.hidden, instead))
            learnable = batch.learning_from(rows & known).learnable
            sums, counts = self.model.sum_losses(outputs, batch.columns, learnable, weights.dtype)
            total = torch.stack(sums)
            return weights @ total, weights @ (total / sum_over_ranks(torch.stack(counts)).clamp(min=1))

        first = known & (batch.uniform(Stream.HALVES) < 0.5)
        return next(iter(self.parts.values())).meta_loss(self.parts, losses, ids, first, loss_scale)


def meta_losses(model: MultiTaskModel) -> list[MetaLoss]:
    """Return the losses of a model's meta-learned vectors, one for each id that has them."""
    found: dict[str, dict[str, MetaLearnedColdStart]] = {}
    for name, inputs in model.inputs.items():
        for key, part in inputs.cold_starts.items():  # pyright: ignore[reportAttributeAccessIssue, reportCallIssue]
            if isinstance(part, MetaLearnedColdStart):
                found.setdefault(key, {})[name] = part
    return [MetaLoss(model, key, parts) for key, parts in found.items()]
