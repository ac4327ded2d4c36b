"""The loss of generated id embeddings that are to learn fast (Pan et al. 2019, SIGIR)."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from mtl_ray.distributed import gather_rows, gather_rows_with_gradient
from mtl_ray.experiment.cold_start import MetaEmbedding

Losses = Callable[[Mapping[str, Tensor], Tensor], tuple[Tensor, Tensor]]
"""From what is added to the generated vectors, (B, dim) by set of tables, and (B,) bool rows: the summed loss of these
rows, and this worker's part of the global batch's mean loss over such rows."""


def meta_loss(
    losses: Losses, shifts: Mapping[str, Tensor], rows: Tensor, first: Tensor, spec: MetaEmbedding, scale: float = 1.0
) -> Tensor:
    """This worker's part of alpha l_a + (1 - alpha) l_b, which teaches the generator c(x) of id embeddings.

    l_a is the loss of a first half of the rows with the generated embedding phi. One step on an entity's rows among
    them gives phi' = phi - step * (mean gradient of their losses on phi), and l_b is the loss of the other half with
    phi'. The gradient goes through the step, second derivatives included.

    Deviations from the paper, which draws two batches of K rows of one entity and teaches the generator after all else
    is trained: the rows of an entity are those in the global batch, on whichever worker, one without a row in the first
    half takes no step; and the generator learns beside the model, of which it sees a fixed copy.

    Args:
        losses: see `Losses`.
        shifts: zeros (B, dim) by set of tables.
        rows: (B,) embedding rows of the ids: which entity each row is of.
        first: (B,) bool, rows of the first half.
        spec: alpha and step.
        scale: keeps gradients in the range of float16.
    """
    for shift in shifts.values():
        shift.requires_grad_()
    total, cold = losses(shifts, first)
    gradients = torch.autograd.grad(total * scale, list(shifts.values()), create_graph=True, materialize_grads=True)
    same = (rows[:, None] == gather_rows(rows)) & gather_rows(first)
    share = (same / same.sum(1, keepdim=True).clamp(min=1)).to(total.dtype)
    moves = [spec.step * (share @ gather_rows_with_gradient(gradient)) / scale for gradient in gradients]
    _, warm = losses({name: -move for name, move in zip(shifts, moves, strict=True)}, ~first)
    return spec.alpha * cold + (1 - spec.alpha) * warm
