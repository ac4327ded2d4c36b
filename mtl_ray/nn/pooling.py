"""Sums of embeddings over the entries of a list."""

import torch
from torch import Tensor, nn

from mtl_ray.schema import PADDING

MULTI_HOT_ROWS = 16
"""A table with at most so many rows an entry is summed as a product with counts of the rows, on a CPU."""


def list_sizes(table: nn.Module, rows: Tensor) -> Tensor:
    """(B, 1): entries of each list (B, L) that are not padding, in the table's precision."""
    return (rows != PADDING).sum(1, keepdim=True).to(next(table.parameters()).dtype)


def pooled(table: nn.Module, rows: Tensor, values: Tensor | None = None) -> list[Tensor]:
    """Sum of the vectors of each list, and the sum weighted by `values`.

    Long lists over a small table are a matrix of counts times the table, which needs no (B, L, dim) numbers: on a CPU
    3.5 times as fast with 200 entries and 1,685 rows of 48 (`tests/benchmarks/test_pooling.py`).

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
    embedded = table(rows)
    total = embedded.sum(1)  # the padding row is zero and stays so, hence adds nothing
    return [total] if values is None else [total, torch.bmm(values[:, None], embedded)[:, 0]]
