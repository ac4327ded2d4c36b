"""The losses of a model's tasks in one global batch, as a balancer sees them."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from mtl_ray.balancing.task_losses import TaskLosses
from mtl_ray.models.architectures.base import ModelOutput
from mtl_ray.models.masking import MaskedBatch
from mtl_ray.models.model import MultiTaskModel


def model_losses(
    model: MultiTaskModel,
    outputs: ModelOutput,
    batch: MaskedBatch,
    *,
    taught: Mapping[str, Tensor] | None = None,
    dtype: torch.dtype | None = None,
    scales: Tensor | None = None,
    loss_scale: float = 1.0,
) -> TaskLosses:
    """Return the losses of a global batch, from the outputs of this worker's rows; every worker has to take part.

    Args:
        model: the model, whose tasks have the losses.
        outputs: its outputs, also if they went through its data-parallel form.
        batch: this worker's rows.
        taught: by task, (B, num_outputs) outputs that stand in place of labels.
        dtype: type of the losses; that of the outputs by default.
        scales: (T,) the model's `loss_scales`, if they are at hand as a tensor.
        loss_scale: factor that keeps gradients in the range of float16.

    Example:
        >>> from mtl_ray.config.features import IdFeatureConfig
        >>> from mtl_ray.config.model import SharedBottomConfig
        >>> from mtl_ray.config.tasks import BinaryTaskConfig
        >>> from mtl_ray.models import Masking
        >>> from mtl_ray.schema import ROW, Fitted, FittedFeature, FittedTask
        >>> features = {"user": IdFeatureConfig(entity="user"), "item": IdFeatureConfig(entity="item")}
        >>> tasks, ids = {"click": BinaryTaskConfig()}, FittedFeature(num_embeddings=9)
        >>> fitted = Fitted(features=dict.fromkeys(features, ids), tasks={"click": FittedTask(mean=0.5)})
        >>> model = MultiTaskModel(features, tasks, SharedBottomConfig(), fitted)
        >>> rows = {"user": torch.tensor([3, 4]), "item": torch.tensor([5, 2]), ROW: torch.arange(2)}
        >>> batch = Masking(features, tasks).draw({**rows, "click.label": torch.tensor([1.0, torch.nan])}, epoch=0)
        >>> losses = model_losses(model, model(batch.columns, batch.hidden), batch)
        >>> losses.totals[1], losses.shared.shape  # one row has a label
        (tensor(1.), torch.Size([2, 64]))
    """
    if outputs.shared is not None and torch.is_grad_enabled() and not outputs.shared.requires_grad:
        outputs = outputs._replace(shared=None)  # all below is frozen
    sums, counts = model.sum_losses(outputs, batch.columns, batch.learnable, dtype, taught)
    if scales is None:
        scales = torch.tensor(list(model.loss_scales.values()), dtype=torch.float64, device=sums[0].device)
    task_representations, mixture_weights = _representations(list(model.tasks), outputs, sums[0].dtype)
    return TaskLosses.of(
        sums,
        counts,
        shared=outputs.shared,
        scales=scales,
        penalty=outputs.penalty,
        task_representations=task_representations,
        mixture_weights=mixture_weights,
        epoch=batch.epoch,
        loss_scale=loss_scale,
    )


def _representations(
    tasks: Sequence[str], outputs: ModelOutput, dtype: torch.dtype
) -> tuple[list[list[Tensor]], Tensor | None]:
    """Return, by task, its representations, and the (T, B, E) mixture weights; see `TaskLosses`."""
    parts = outputs.parts or (outputs,)
    if outputs.shared is None:
        return [], None
    if not parts[0].mixtures:
        return [[part.shared for part in parts]] * len(tasks), None  # pyright: ignore[reportReturnType]
    # A task that reads none of the mixtures has a gradient of 0 on any of them.
    readings = [[part.mixtures.get(task) or next(iter(part.mixtures.values())) for part in parts] for task in tasks]
    mixture_weights = [torch.cat([mixture.weights.detach() for mixture in reading]) for reading in readings]
    return [[mixture.value for mixture in reading] for reading in readings], torch.stack(mixture_weights).to(dtype)
