"""Long histories over a small table: counts times the table, against gathering every entry's vector."""

import time

import torch
from torch import nn

from mtl_ray.nn.pooling import pooled

ROWS, ENTRIES, ITEMS, DIM = 1024, 200, 1685, 48


def seconds(run, repeats: int = 5) -> float:
    run()
    began = time.perf_counter()
    for _ in range(repeats):
        run()
    return (time.perf_counter() - began) / repeats


def test_pooling_by_counts_is_faster_than_gathering(performance):
    """Forward and backward of the sums of histories, gathering every entry over multiplying counts with the table."""
    torch.manual_seed(0)
    table = nn.Embedding(ITEMS, DIM, padding_idx=0)
    items = torch.randint(1, ITEMS, (ROWS, ENTRIES), dtype=torch.int32)
    values = torch.randn(ROWS, ENTRIES)

    def by_counts() -> None:
        total, weighted = pooled(table, items, values)
        (total.square().sum() + weighted.square().sum()).backward()

    def by_gathering() -> None:
        vectors = table(items)
        total, weighted = vectors.sum(1), torch.bmm(values[:, None], vectors)[:, 0]
        (total.square().sum() + weighted.square().sum()).backward()

    ratios = [seconds(by_gathering) / seconds(by_counts) for _ in range(3)]
    note = f"{ROWS} histories of {ENTRIES} entries over {ITEMS} items"
    performance("pooled histories: gathering over counts", ratios, bar=2, note=note)
