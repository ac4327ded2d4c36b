"""What a balancer sees of one training step, the same on every worker."""

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

    losses: Tensor
    """(T,) this worker's part of the mean loss of each task, with gradient: the parts add up to the mean."""
    values: Tensor
    """(T,) float64 mean losses of the global batch; 0 for a task without label in it."""
    present: Tensor
    """(T,) bool: tasks with a label in the global batch."""
    shared: Tensor | None = None
    """(B, ...) the representation that the tasks share, of this worker's rows."""
    epoch: int = 0
    loss_scale: float = 1.0
    """Factor that keeps gradients in the range of float16."""

    @cached_property
    def representation_gradients(self) -> Tensor:
        """(T, numel) gradients of the tasks on this worker's rows of the representation."""
        return torch.stack([self._flat_gradient(loss, [self.representation]) for loss in self.losses])

    @cached_property
    def parameter_gradients(self) -> Tensor:
        """(T, P) gradients of the tasks on the parameters below the representation, of the global batch."""
        return sum_over_ranks(torch.stack([self._flat_gradient(loss, self.shared_parameters) for loss in self.losses]))

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

    @cached_property
    def shared_parameters(self) -> list[Tensor]:
        """Parameters from which the representation is computed."""
        return leaves(self.representation)

    def gradient(self, loss: Tensor, of: list[Tensor]) -> list[Tensor]:
        """Gradients of this worker's part of a loss; the graph is kept."""
        scaled = torch.autograd.grad(loss * self.loss_scale, of, retain_graph=True, materialize_grads=True)
        return [gradient.to(self.losses.dtype) / self.loss_scale for gradient in scaled]

    def _flat_gradient(self, loss: Tensor, of: list[Tensor]) -> Tensor:
        return torch.cat([gradient.flatten() for gradient in self.gradient(loss, of)])


def make_step(losses: Tensor, counts: Tensor, forward: Forward, epoch: int = 0, loss_scale: float = 1.0) -> Step:
    """A step from this worker's (T,) summed losses, with gradient, and the (2T,) sums and counts of all workers.

    Args:
        losses: (T,) sums over this worker's labelled rows.
        counts: (2T,) sums over all workers: of `losses`, then of labelled rows.
        forward: what the model gave.
        epoch: number of the epoch.
        loss_scale: see `Step`.
    """
    num_labels = counts[len(losses) :]
    rows = num_labels.clamp(min=1)
    values = counts[: len(losses)].double() / rows
    return Step(losses / rows, values, num_labels > 0, forward.shared, epoch, loss_scale)


def leaves(tensor: Tensor) -> list[Tensor]:
    """The leaf tensors with gradient from which `tensor` was computed, in a fixed order."""
    found: dict[Tensor, None] = {}
    waiting, seen = [tensor.grad_fn], set()
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            found[node.variable] = None
        waiting += [following for following, _ in node.next_functions]
    return list(found)
