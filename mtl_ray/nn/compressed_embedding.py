"""Embedding tables with fewer rows than values."""

import torch
from torch import Tensor, nn

from mtl_ray.config.features import CompressionConfig
from mtl_ray.config.training import is_sparse
from mtl_ray.schema import FIRST, PADDING

INITIAL_STD = 0.05

PRIME = 2**31 - 1
MULTIPLIER = 1_103_515_245
"""Universal hashing (Carter and Wegman 1979): x -> (a x mod p) mod m."""


def new_table(size: int, dim: int, *, sparse: bool) -> nn.Embedding:
    """Make an embedding table (size, dim), trained row by row if `sparse`."""
    table = nn.Embedding(size, dim, padding_idx=PADDING, sparse=sparse)
    with torch.no_grad():
        nn.init.normal_(table.weight, std=INITIAL_STD)
        table.weight[PADDING].zero_()
    return table


class CompressedTable(nn.Module):
    """Vectors of n values from tables with fewer rows.

    - `hash`: a value reads one row, which it shares with others;
    - `quotient_remainder`: a value with code c reads the product of row c mod m of a table and row c // m of a second
      one, of which no two values share both (Shi et al. 2020, with element-wise multiplication). Ours: factors of the
      second table start around 1.

    Padding, no value, and a value not seen in training have rows of their own. Codes are kept with the weights, so that
    a value keeps its code, and with it its vector, when the vocabulary grows (`training.warm_start`).
    """

    codes: Tensor
    """(n,) int32; below FIRST the number itself."""

    def __init__(self, num_embeddings: int, dim: int, spec: CompressionConfig, *, sparse: bool) -> None:
        """Make tables for `num_embeddings` values, the reserved ones included."""
        super().__init__()
        self.num_embeddings, self.embedding_dim, self.spec = num_embeddings, dim, spec
        rows, number = spec.rows, max(0, num_embeddings - FIRST)
        self.table = new_table(FIRST + rows, dim, sparse=sparse)
        codes = torch.arange(number)
        if spec.kind == "hash":
            codes = codes * MULTIPLIER % PRIME % rows
        else:
            self.factors = nn.Embedding(-(-number // rows) + 1, dim, sparse=sparse)
            """Row 0 belongs to the reserved values."""
            nn.init.normal_(self.factors.weight, mean=1.0, std=INITIAL_STD)
        self.register_buffer("codes", torch.cat([torch.arange(FIRST), FIRST + codes]).to(torch.int32))

    @property
    def sparse(self) -> bool:
        """True if it is trained row by row."""
        return self.table.sparse

    def forward(self, values: Tensor) -> Tensor:
        """Map (...,) numbers of values to (..., dim) vectors."""
        codes = self.codes[values.long()]  # ONNX indexes by int64 alone
        if self.spec.kind == "hash":
            return self.table(codes)
        reserved, code = codes < FIRST, codes - FIRST
        rows = torch.where(reserved, codes, FIRST + code % self.spec.rows)
        factors = torch.where(reserved, 0, 1 + code.clamp(min=0) // self.spec.rows)
        return self.table(rows) * self.factors(factors)

    def codes_after(self, old: Tensor, rows: Tensor) -> Tensor:
        """Return the codes for a vocabulary that has grown: a value that both have keeps its own, if it exists here.

        Args:
            old: (m,) codes of the old table, like all that comes and goes here on the CPU.
            rows: (n,) row of the old table for each value of this one; below FIRST for a value that is new.
        """
        codes, known = self.codes.cpu().clone(), rows >= FIRST
        kept = old[rows]
        if self.spec.kind == "hash":
            return torch.where(known, kept, codes)
        size = len(codes)
        known &= kept < FIRST + (len(self.factors.weight) - 1) * self.spec.rows
        taken = torch.zeros(max(size, int(kept.max()) + 1), dtype=torch.bool)
        taken[kept[known].long()] = True
        taken[:FIRST] = True
        free = torch.nonzero(~taken)[:, 0].to(codes.dtype)
        new = ~known
        new[:FIRST] = False
        codes = torch.where(known, kept, codes)
        codes[new] = free[: int(new.sum())]
        return codes


def build_table(
    num_embeddings: int, dim: int, sparse_rows: int | None = None, compression: CompressionConfig | None = None
) -> nn.Embedding | CompressedTable:
    """Make the table of a feature.

    Args:
        num_embeddings: number of values, the reserved ones included.
        dim: width of the vectors.
        sparse_rows: see `is_sparse`.
        compression: how the table is made smaller; by default each value has a row.
    """
    if compression is None:
        return new_table(num_embeddings, dim, sparse=is_sparse(num_embeddings, sparse_rows))
    return CompressedTable(num_embeddings, dim, compression, sparse=is_sparse(FIRST + compression.rows, sparse_rows))
