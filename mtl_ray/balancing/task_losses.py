"""The losses and gradients of one training step as a balancer sees them, the same on every worker."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from mtl_ray.distributed import sum_over_ranks
from mtl_ray.models.architectures.base import ModelOutput


@dataclass
class TaskLosses:
    """Losses and gradients of the tasks in one global batch, of which this worker holds some rows.

    A balancer decides only from numbers of the whole global batch: loss values, and inner products of the tasks'
    gradients. They are the same on every worker, and so are its decisions.
    """

    losses: Sequence[Tensor]
    """This worker's part of the mean loss of each task, with gradient: the parts add up to the mean. They are not one
    (T,) tensor, since the gradient of an element would go through the graphs of all."""
    values: Tensor
    """(T,) float64 mean losses of the global batch; 0 for a task without a label in it."""
    present: Tensor
    """(T,) bool: tasks with a label in the global batch."""
    shared: Tensor | None = None
    """(B, ...) the representation that the tasks share, for this worker's rows."""
    task_representations: Sequence[Sequence[Tensor]] = ()
    """Tensors of each task (rows of a micro-batch, ..., d) through which alone its loss depends on `shared`; if empty,
    `shared` itself."""
    mixture_weights: Tensor | None = None
    """(T, B, E) if the task representations are mixtures sum_e mixture_weights[t, :, e] shared[:, e], plus terms that
    are not shared."""
    penalty: Tensor | None = None
    """This worker's part of the penalty that the model adds to the loss, with gradient; no balancer weighs it."""
    epoch: int = 0
    loss_scale: float = 1.0
    """Factor that keeps gradients in the range of float16."""

    @cached_property
    def representation_gradients(self) -> Tensor:
        """(T, rows, d) gradients D_t of the tasks on their own representations, for this worker's rows.

        The gradient on `shared` is D_t itself, or `mixture_weights`_t D_t' row by row. So no backward pass goes through
        the mixtures of experts, and no task holds gradients of E vectors per row.
        """
        parts = [gradients[: len(own)] for gradients, own in zip(self._passes, self._task_representations, strict=True)]
        return torch.stack([torch.cat([g.reshape(-1, g.shape[-1]) for g in part]) for part in parts])

    @cached_property
    def parameter_gradients(self) -> Tensor:
        """(T, P) gradients of the tasks on the parameters below the representation, over the global batch."""
        rows = [self.gradient(loss, self.shared_parameters) for loss in self.losses]
        return sum_over_ranks(torch.stack([torch.cat([gradient.flatten() for gradient in row]) for row in rows]))

    @cached_property
    def gramian(self) -> Tensor:
        """(T, T) float64 inner products of the tasks' gradients on the representation, over the global batch.

        The representation of the global batch consists of the rows of all workers, hence the sum over workers.
        """
        if self.mixture_weights is None:
            rows = self.representation_gradients.flatten(1)
            return sum_over_ranks((rows @ rows.T).double())
        factors = (self.mixture_weights, self.representation_gradients)
        mixture_weights, gradients = (torch.bmm(factor.transpose(0, 1), factor.permute(1, 2, 0)) for factor in factors)
        return sum_over_ranks((mixture_weights * gradients).sum(0).double())

    def as_task_representations(self, x: Tensor) -> Tensor:
        """Return the task representations, (T or 1, rows, d), that result if `x`, shaped as `shared`, replaces it."""
        if self.mixture_weights is None:
            return x.reshape(1, -1, x.shape[-1])
        return torch.bmm(self.mixture_weights.transpose(0, 1), x).transpose(0, 1)

    def on_representation(self, gradients: Tensor) -> Tensor:
        """Return the flat gradient on `shared` of the sum of the tasks.

        Args:
            gradients: (T, rows, d) gradients of the tasks on their own representations.
        """
        if self.mixture_weights is None:
            return gradients.sum(0).flatten()
        return torch.bmm(self.mixture_weights.permute(1, 2, 0), gradients.transpose(0, 1)).flatten()

    @cached_property
    def parameter_gramian(self) -> Tensor:
        """(T, T) float64 inner products of the tasks' gradients on the parameters below the representation."""
        rows = self.parameter_gradients
        return (rows @ rows.T).double()

    @property
    def representation(self) -> Tensor:
        """The shared representation. Raises ValueError if the architecture shares none."""
        if self.shared is None:
            raise ValueError(
                "balancing.kind: this method compares the tasks' gradients on a shared representation, and model.kind "
                "has none; choose another architecture or a method by loss values"
            )
        return self.shared

    @property
    def _task_representations(self) -> Sequence[Sequence[Tensor]]:
        return self.task_representations or [[self.representation]] * len(self.losses)

    @cached_property
    def shared_parameters(self) -> list[Tensor]:
        """Parameters from which the representation is computed."""
        return leaves([self.representation])

    @cached_property
    def _heads(self) -> list[Tensor]:
        """Parameters between the task representations and the losses.

        Empty if the losses also reach parameters below the task representations in another way.
        """
        representations = [tensor for own in self._task_representations for tensor in own]
        heads = leaves(self.losses, representations)
        return [] if set(heads) & set(leaves(representations)) else heads

    @cached_property
    def _passes(self) -> list[list[Tensor]]:
        """Gradients of each task on its own representations and on the heads."""
        return [
            self.gradient(loss, [*own, *self._heads])
            for loss, own in zip(self.losses, self._task_representations, strict=True)
        ]

    def weighted_loss(self, weights: Tensor) -> Tensor:
        """Return a scalar with the gradient of this worker's part of weights @ losses.

        If the tasks' gradients have been computed and depend on nothing but the heads, it is the linear function with
        that gradient: the backward pass then begins at the task representations.
        """
        passes = self.__dict__.get("_passes")
        if not passes or not self._heads or any(gradient.is_sparse for task in passes for gradient in task):
            return weights @ torch.stack(tuple(self.losses))
        received: dict[Tensor, list[Tensor]] = {}
        for weight, own, gradients in zip(weights, self._task_representations, self._passes, strict=True):
            for tensor, gradient in zip([*own, *self._heads], gradients, strict=True):
                received.setdefault(tensor, []).append(weight * gradient)
        # A representation is of half width in mixed precision.
        terms = [(tensor.to(weights.dtype) * sum(parts)).sum() for tensor, parts in received.items()]
        return torch.stack(terms).sum()

    def gradient(self, loss: Tensor, of: list[Tensor]) -> list[Tensor]:
        """Return the gradients of this worker's part of a loss; the graph is kept."""
        scaled = torch.autograd.grad(loss * self.loss_scale, of, retain_graph=True, materialize_grads=True)
        return [gradient.to(loss.dtype) / self.loss_scale for gradient in scaled]


def make_task_losses(
    tasks: Sequence[str],
    sums: Sequence[Tensor],
    totals: Tensor,
    num_rows: Tensor,
    forward: ModelOutput,
    epoch: int = 0,
    loss_scale: float = 1.0,
) -> TaskLosses:
    """Build the losses of a step from this worker's sums, with gradient, and the sums and counts of all workers.

    Args:
        tasks: names of the tasks.
        sums: by task, summed losses over this worker's labelled rows.
        totals: (2T,) over all workers: the sums, then the numbers of labelled rows.
        num_rows: () rows of the global batch.
        forward: outputs of the model.
        epoch: number of the epoch.
        loss_scale: see `TaskLosses`.
    """
    num_labels = totals[len(sums) :]
    rows = num_labels.clamp(min=1)
    values = totals[: len(sums)].double() / rows
    losses = [loss / row for loss, row in zip(sums, rows, strict=True)]
    penalty = None if forward.penalty is None else forward.penalty.sum() / num_rows
    if forward.shared is not None and torch.is_grad_enabled() and not forward.shared.requires_grad:
        forward = forward._replace(shared=None)  # all below is frozen
    task_representations, mixture_weights = _representations(tasks, forward, losses[0].dtype)
    return TaskLosses(
        losses,
        values,
        num_labels > 0,
        forward.shared,
        task_representations,
        mixture_weights,
        penalty,
        epoch,
        loss_scale,
    )


def _representations(
    tasks: Sequence[str], forward: ModelOutput, dtype: torch.dtype
) -> tuple[list[list[Tensor]], Tensor | None]:
    """Return, by task, its representations, and the (T, B, E) mixture weights; see `TaskLosses`."""
    parts = forward.parts or (forward,)
    if forward.shared is None:
        return [], None
    if not parts[0].mixtures:
        return [[part.shared for part in parts]] * len(tasks), None  # pyright: ignore[reportReturnType]
    # A task that reads none of the mixtures has a gradient of 0 on any of them.
    readings = [[part.mixtures.get(task) or next(iter(part.mixtures.values())) for part in parts] for task in tasks]
    mixture_weights = [torch.cat([mixture.weights.detach() for mixture in reading]) for reading in readings]
    return [[mixture.value for mixture in reading] for reading in readings], torch.stack(mixture_weights).to(dtype)


def leaves(tensors: Iterable[Tensor], past: Iterable[Tensor] = ()) -> list[Tensor]:
    """Return the leaf tensors with gradient from which `tensors` were computed, in a fixed order.

    Leaves that are only reached through `past` are left out.
    """
    found: dict[Tensor, None] = {}
    waiting = [tensor.grad_fn for tensor in tensors]
    seen = {tensor.grad_fn for tensor in past}
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            found[node.variable] = None
        waiting += [following for following, _ in node.next_functions]
    return list(found)


def cosines(gramian: Tensor) -> Tensor:
    """Return (T, T) cosines from inner products; 0 for a gradient of 0."""
    norms = gramian.diagonal().clamp(min=0).sqrt()
    return (gramian / (norms[:, None] * norms).clamp(min=torch.finfo(gramian.dtype).tiny)).clamp(-1, 1)
