"""The losses of the tasks over a global batch, exact however its rows are dealt over workers."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from mtl_ray.balancing import TaskLosses, make_task_losses
from mtl_ray.config import Experiment
from mtl_ray.counter_rng import Stream
from mtl_ray.data.loader import Batch, to_device
from mtl_ray.distributed import sum_over_ranks
from mtl_ray.models import MultiTaskModel
from mtl_ray.models.architectures.base import ModelOutput
from mtl_ray.models.masking import MaskedBatch
from mtl_ray.schema import ROW
from mtl_ray.training.precision import Precision
from mtl_ray.training.teacher import Teacher


class LossComputer:
    """Computes the losses of a global batch from this worker's rows; every worker has to take part."""

    def __init__(
        self,
        experiment: Experiment,
        model: MultiTaskModel,
        precision: Precision,
        device: torch.device,
        teacher: Teacher | None = None,
    ) -> None:
        self.experiment, self.model, self.precision, self.device = experiment, model, precision, device
        self.teacher = teacher
        scales = [model.loss_scales[name] for name in model.tasks]
        self.scales = torch.tensor(scales, dtype=torch.float64, device=device)
        """(T,) factors of the losses, before they are weighted."""

    def masked(self, rows: Batch, epoch: int) -> MaskedBatch:
        """Return encoded rows on the device, with the inputs that training hides in this epoch."""
        return MaskedBatch.draw(self.experiment, to_device(rows, self.device, self.precision.dtype), epoch)

    def forward(self, network: nn.Module, batch: MaskedBatch) -> ModelOutput:
        """Return the outputs of `network`, the model itself or its data-parallel form."""
        with self.precision.autocast:
            return network(batch.columns, batch.hidden)

    def of_outputs(self, outputs: ModelOutput, batch: MaskedBatch) -> tuple[TaskLosses, Tensor]:
        """Return the losses as a balancer sees them, scaled, and (2T,) loss sums and label counts over all workers."""
        taught = self.teacher(batch) if self.teacher else None
        return self._losses(outputs, batch, taught)

    def _losses(
        self, outputs: ModelOutput, batch: MaskedBatch, taught: Mapping[str, Tensor] | None
    ) -> tuple[TaskLosses, Tensor]:
        sums, counts = self.model.sum_losses(outputs, batch.columns, batch.learnable, self.precision.dtype, taught)
        size = sums[0].new_tensor(float(len(batch.columns[ROW])))
        totals = sum_over_ranks(torch.stack([*sums, *counts, size]))
        totals, num_rows = totals[:-1], totals[-1].clamp(min=1)
        tasks, scale = list(self.model.tasks), self.precision.scale
        scales = self.scales.to(totals.dtype)
        scaled = torch.cat([totals[: len(tasks)] * scales, totals[len(tasks) :]])
        sums = [loss * factor for loss, factor in zip(sums, scales, strict=True)]
        return make_task_losses(tasks, sums, scaled, num_rows, outputs, batch.epoch, scale), totals

    def of_batch(self, batch: MaskedBatch) -> TaskLosses:
        """Return the losses of a batch, by another pass through the model."""
        return self.of_outputs(self.forward(self.model, batch), batch)[0]

    @torch.no_grad()
    def of_sample(self, outputs: ModelOutput, batch: MaskedBatch, share: float) -> tuple[MaskedBatch, TaskLosses]:
        """Draw a share of a batch's rows; returns them, and their losses from the outputs of the whole batch."""
        rows = batch.uniform(Stream.BALANCER_ROWS) < share
        return batch.at(rows), self.of_outputs(outputs, batch.learning_from(rows))[0]

    def of_validation(self, rows: Batch | None, epoch: int) -> TaskLosses:
        """Return the losses of validation rows, from outputs as they are evaluated."""
        assert rows is not None, "this balancer is rewarded on validation rows"
        columns = to_device(rows, self.device, self.precision.dtype)
        batch = MaskedBatch(self.experiment, epoch, columns, hidden={}, learnable={})
        with self.precision.autocast:
            logits = self.model.evaluation_logits(batch.columns)
        return self._losses(ModelOutput(logits, None), batch, None)[0]


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
