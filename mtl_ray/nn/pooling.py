"""Sums of embeddings over the entries of a list."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from mtl_ray.schema import PADDING

MULTI_HOT_ROWS = 16
"""A table with at most so many rows an entry is summed as a product with counts of the rows, on a CPU."""


class Unlisted(NamedTuple):
    """Entries of lists (B, L) whose vectors are in no table."""

    where: Tensor
    """(B, L) bool: true for these entries."""
    vectors: Tensor
    """(n, dim), in the order of the lists."""

    def added_to(self, sums: Tensor, values: Tensor | None = None) -> Tensor:
        """Return the (B, dim) sums of the lists with these entries, weighted by (B, L) `values`."""
        vectors = self.vectors if values is None else self.vectors * values[self.where][:, None]
        return sums.index_add(0, self.where.nonzero()[:, 0], vectors.to(sums.dtype))

    def put_into(self, vectors: Tensor) -> Tensor:
        """Return the (B, L, dim) vectors of the lists with those of these entries."""
        return vectors.index_put(self.where.nonzero(as_tuple=True), self.vectors.to(vectors.dtype))


def list_sizes(table: nn.Module, rows: Tensor) -> Tensor:
    """Count the entries of each list (B, L) that are not padding: (B, 1), in the table's precision."""
    return (rows != PADDING).sum(1, keepdim=True).to(next(table.parameters()).dtype)


def pooled(table: nn.Module, rows: Tensor, values: Tensor | None = None) -> list[Tensor]:
    """Sum the vectors of each list, and with `values` sum them a second time, weighted.

    Long lists over a small table are a matrix of counts times the table, which needs no (B, L, dim) numbers: on a CPU
    3.5 times as fast with 200 entries and 1,685 rows of 48 (`tests/benchmarks/test_pooling.py`). In training on a CPU,
    lists of which three quarters are padding are summed entry by entry, which leaves the padding out.

    Args:
        table: embeddings, that of padding zero.
        rows: (B, L) int rows of the table.
        values: (B, L), 0 at padding.

    Returns:
        (B, dim), and with `values` a second one.
    """
    limit = MULTI_HOT_ROWS * rows.shape[1] if rows.device.type == "cpu" else 0
    if isinstance(table, nn.Embedding) and not table.sparse and table.num_embeddings <= limit:
        index = rows.long()
        shape = (rows.shape[0], table.num_embeddings)
        weights = [(rows != PADDING).to(table.weight.dtype), *([] if values is None else [values])]
        return [w.new_zeros(shape).scatter_add_(1, index, w) @ table.weight for w in weights]
    present = rows != PADDING
    # Elsewhere the number of entries must not be asked for: a GPU would have to be waited for, an export has no number.
    if rows.device.type == "cpu" and torch.is_grad_enabled() and 4 * int(present.sum()) < present.numel():
        return _summed_entries(table, rows, values, present)
    embedded = table(rows)
    total = embedded.sum(1)  # the padding row is zero and stays so, hence adds nothing
    return [total] if values is None else [total, torch.bmm(values[:, None], embedded)[:, 0]]


def _summed_entries(table: nn.Module, rows: Tensor, values: Tensor | None, present: Tensor) -> list[Tensor]:
    """Return what `pooled` does, without looking at padding; `present` is (B, L) bool."""
    vectors, lists = table(rows[present]), present.nonzero()[:, 0]
    nothing = vectors.new_zeros(rows.shape[0], vectors.shape[1])
    total = nothing.index_add(0, lists, vectors)
    return [total] if values is None else [total, nothing.index_add(0, lists, vectors * values[present][:, None])]
