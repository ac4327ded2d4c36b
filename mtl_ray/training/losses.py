"""The losses of the tasks over a global batch, exact however its rows are dealt over workers."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from mtl_ray.balancing import TaskLosses, model_losses
from mtl_ray.counter_rng import Stream
from mtl_ray.data.loader import Batch, to_device
from mtl_ray.models import MultiTaskModel
from mtl_ray.models.architectures.base import ModelOutput
from mtl_ray.models.masking import MaskedBatch, Masking
from mtl_ray.training.precision import Precision
from mtl_ray.training.teacher import Teacher


class LossComputer:
    """Computes the losses of a global batch from this worker's rows; every worker has to take part."""

    def __init__(
        self,
        model: MultiTaskModel,
        masking: Masking,
        precision: Precision,
        device: torch.device,
        teacher: Teacher | None = None,
    ) -> None:
        self.model, self.masking, self.precision, self.device = model, masking, precision, device
        self.teacher = teacher
        scales = [model.loss_scales[name] for name in model.tasks]
        self.scales = torch.tensor(scales, dtype=torch.float64, device=device)
        """(T,) factors of the losses, before they are weighted."""

    def masked(self, rows: Batch, epoch: int) -> MaskedBatch:
        """Return encoded rows on the device, with the inputs that training hides in this epoch."""
        return self.masking.draw(to_device(rows, self.device, self.precision.dtype), epoch)

    def forward(self, network: nn.Module, batch: MaskedBatch) -> ModelOutput:
        """Return the outputs of `network`, the model itself or its data-parallel form."""
        with self.precision.autocast:
            return network(batch.columns, batch.hidden)

    def of_outputs(self, outputs: ModelOutput, batch: MaskedBatch) -> TaskLosses:
        """Return the losses as a balancer sees them, scaled."""
        return self._losses(outputs, batch, self.teacher(batch) if self.teacher else None)

    def _losses(self, outputs: ModelOutput, batch: MaskedBatch, taught: Mapping[str, Tensor] | None) -> TaskLosses:
        dtype, loss_scale = self.precision.dtype, self.precision.scale
        return model_losses(
            self.model, outputs, batch, taught=taught, dtype=dtype, scales=self.scales, loss_scale=loss_scale
        )

    def of_batch(self, batch: MaskedBatch) -> TaskLosses:
        """Return the losses of a batch, by another pass through the model."""
        return self.of_outputs(self.forward(self.model, batch), batch)

    @torch.no_grad()
    def of_sample(self, outputs: ModelOutput, batch: MaskedBatch, share: float) -> tuple[MaskedBatch, TaskLosses]:
        """Draw a share of a batch's rows; returns them, and their losses from the outputs of the whole batch."""
        rows = batch.uniform(Stream.BALANCER_ROWS) < share
        return batch.at(rows), self.of_outputs(outputs, batch.learning_from(rows))

    def of_validation(self, rows: Batch | None, epoch: int) -> TaskLosses:
        """Return the losses of validation rows, from outputs as they are evaluated."""
        assert rows is not None, "this balancer is rewarded on validation rows"
        batch = self.masking.nothing(to_device(rows, self.device, self.precision.dtype), epoch)
        with self.precision.autocast:
            logits = self.model.evaluation_logits(batch.columns)
        return self._losses(ModelOutput(logits, None), batch, None)


def check_finite(model: MultiTaskModel, totals: Tensor, epoch: int) -> None:
    """Raise FloatingPointError, on all workers alike, before a checkpoint that cannot be resumed from.

    Args:
        model: the model, whose weights must be finite.
        totals: (2T,) loss sums and label counts over all workers.
        epoch: number of the epoch, from 0.
    """
    losses = zip(model.tasks, totals.tolist(), strict=False)
    faults = [f"tasks.{name}: the training loss" for name, total in losses if not math.isfinite(total)]
    if not faults and not all(bool(parameter.isfinite().all()) for parameter in model.parameters()):
        faults = ["a weight after a step"]
    if faults:
        raise FloatingPointError(
            f"{faults[0]} of epoch {epoch + 1} is not finite; lower training.optimizer.lr or set training.clip_norm"
        )
