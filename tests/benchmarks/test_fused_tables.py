"""Whether one lookup in tables that are laid one after the other is faster than a lookup in each."""

import statistics
import time
from collections.abc import Callable

import pytest
import torch
from torch import nn

from mtl_ray.training.sparse_embeddings import share_rows

BATCH, DIM, TABLES, STEPS = 4096, 32, 8, 24


def step_of(tables: list[nn.Embedding], places: torch.Tensor, sparse: bool) -> Callable[[], None]:
    """A step of the tables alone: look up, sum, backward, update."""
    weights = [table.weight for table in tables]
    optimizer = torch.optim.SparseAdam(weights) if sparse else torch.optim.Adam(weights, fused=True)

    def step() -> None:
        if len(tables) == 1:
            vectors = tables[0](places)
        else:
            vectors = torch.stack([table(column) for table, column in zip(tables, places.unbind(1), strict=True)], 1)
        vectors.square().sum().backward()
        if sparse:
            share_rows(weights)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


@pytest.mark.parametrize(("rows", "sparse"), [(1_000, False), (1_000_000, True)], ids=["dense", "sparse"])
def test_one_lookup_over_one_for_each_table(rows: int, sparse: bool, performance):
    """Time of a step of eight embedding tables of 32 numbers, with their optimizer, over that of one table that holds
    the rows of all; the reason why tables are not fused."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    torch.sparse.check_sparse_tensor_invariants.disable()
    places = torch.randint(1, rows, (BATCH, TABLES))
    apart = step_of([nn.Embedding(rows, DIM, sparse=sparse) for _ in range(TABLES)], places, sparse)
    fused = step_of([nn.Embedding(TABLES * rows, DIM, sparse=sparse)], places + rows * torch.arange(TABLES), sparse)
    times: dict[str, list[float]] = {"apart": [], "fused": []}
    for _ in range(STEPS):
        for name, step in (("apart", apart), ("fused", fused)):
            start = time.perf_counter()
            step()
            times[name].append(time.perf_counter() - start)
    blocks = [slice(first, first + STEPS // 3) for first in range(0, STEPS, STEPS // 3)]
    ratios = [statistics.median(times["apart"][b]) / statistics.median(times["fused"][b]) for b in blocks]
    note = f"1 thread, batch {BATCH:,}: {statistics.median(times['fused']) * 1000:.1f} ms fused"
    performance(
        f"{TABLES} lookups over 1: tables of {rows:,} rows, {'sparse' if sparse else 'dense'}", ratios, note=note
    )
