"""What a balancer sees of one training step, the same on every worker."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from mtl_ray.distributed import sum_over_ranks
from mtl_ray.models.layers import Forward


@dataclass
class Step:
    """Losses and gradients of the tasks in one global batch of which this worker holds some rows.

    Whatever a balancer decides, it decides from numbers of the whole global batch: loss values, and inner products of
    the tasks' gradients. They are the same on every worker, and so are its decisions.
    """

    losses: Sequence[Tensor]
    """This worker's part of the mean loss of each task, with gradient: the parts add up to the mean. They are no (T,)
    tensor, since the gradient of an element would go through the graphs of all."""
    values: Tensor
    """(T,) float64 mean losses of the global batch; 0 for a task without label in it."""
    present: Tensor
    """(T,) bool: tasks with a label in the global batch."""
    shared: Tensor | None = None
    """(B, ...) the representation that the tasks share, of this worker's rows."""
    slices: tuple[Tensor, ...] = ()
    """The tensors that `shared` was put together from, each of the rows of a micro-batch; see `Forward`."""
    penalty: Tensor | None = None
    """This worker's part of what the architecture adds to the loss, with gradient: no balancer weighs it."""
    epoch: int = 0
    loss_scale: float = 1.0
    """Factor that keeps gradients in the range of float16."""

    @cached_property
    def representation_gradients(self) -> Tensor:
        """(T, numel) gradients of the tasks on this worker's rows of the representation."""
        number = len(self._slices)
        return torch.stack([torch.cat([g.flatten() for g in gradients[:number]]) for gradients in self._passes])

    @cached_property
    def parameter_gradients(self) -> Tensor:
        """(T, P) gradients of the tasks on the parameters below the representation, of the global batch."""
        rows = [self.gradient(loss, self.shared_parameters) for loss in self.losses]
        return sum_over_ranks(torch.stack([torch.cat([gradient.flatten() for gradient in row]) for row in rows]))

    @cached_property
    def gramian(self) -> Tensor:
        """(T, T) float64 inner products of the tasks' gradients on the representation, of the global batch.

        The representation of the global batch has the rows of all workers, one after the other, hence the sum.
        """
        rows = self.representation_gradients
        return sum_over_ranks((rows @ rows.T).double())

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
    def _slices(self) -> tuple[Tensor, ...]:
        return self.slices or (self.representation,)

    @cached_property
    def shared_parameters(self) -> list[Tensor]:
        """Parameters from which the representation is computed."""
        return leaves(self._slices)

    @cached_property
    def _heads(self) -> list[Tensor]:
        """Parameters that the losses reach past the representation; none if the losses also reach some below it so."""
        heads = leaves(self.losses, self._slices)
        return [] if set(heads) & set(self.shared_parameters) else heads

    @cached_property
    def _passes(self) -> list[list[Tensor]]:
        """By task, its gradients on the representation and on the heads."""
        return [self.gradient(loss, [*self._slices, *self._heads]) for loss in self.losses]

    def weighted_loss(self, weights: Tensor) -> Tensor:
        """A scalar with the gradient of this worker's part of weights @ losses.

        Where the heads were gone through for the tasks' gradients, and nothing but they is past the representation, it
        is the linear function with that gradient: the backward pass then begins at the representation.
        """
        if "_passes" not in self.__dict__ or not self._heads:
            return weights @ torch.stack(tuple(self.losses))
        z = self.representation.flatten().to(weights.dtype)  # of half width in mixed precision
        terms = [z @ (weights @ self.representation_gradients)]
        for number, head in enumerate(self._heads, len(self._slices)):
            gradient = torch.stack([row[number].flatten() for row in self._passes])
            terms.append(head.flatten() @ (weights @ gradient))
        return torch.stack(terms).sum()

    def gradient(self, loss: Tensor, of: list[Tensor]) -> list[Tensor]:
        """Gradients of this worker's part of a loss; the graph is kept."""
        scaled = torch.autograd.grad(loss * self.loss_scale, of, retain_graph=True, materialize_grads=True)
        return [gradient.to(loss.dtype) / self.loss_scale for gradient in scaled]


def make_step(
    sums: Sequence[Tensor],
    totals: Tensor,
    num_rows: Tensor,
    forward: Forward,
    epoch: int = 0,
    loss_scale: float = 1.0,
) -> Step:
    """A step from this worker's summed losses, with gradient, and the sums and counts of all workers.

    Args:
        sums: by task, over this worker's labelled rows.
        totals: (2T,) over all workers: of `sums`, then of labelled rows.
        num_rows: (), rows of the global batch.
        forward: what the model gave.
        epoch: number of the epoch.
        loss_scale: see `Step`.
    """
    num_labels = totals[len(sums) :]
    rows = num_labels.clamp(min=1)
    values = totals[: len(sums)].double() / rows
    losses = [loss / row for loss, row in zip(sums, rows, strict=True)]
    penalty = None if forward.penalty is None else forward.penalty.sum() / num_rows
    return Step(losses, values, num_labels > 0, forward.shared, forward.slices, penalty, epoch, loss_scale)


def leaves(tensors: Iterable[Tensor], past: Iterable[Tensor] = ()) -> list[Tensor]:
    """The leaf tensors with gradient from which `tensors` were computed, in a fixed order; not those behind `past`."""
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
