"""Rows dealt over partitions, so that all rows of a key are in one."""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from mtl_ray.counter_rng import Stream, mix
from mtl_ray.values.keys import flat, hash_keys


def dealt(table: pa.Table, key: str, num_partitions: int) -> Iterator[tuple[int, pa.Table]]:
    """Yield the number and the rows, in their order, of each partition that gets some, by a hash of the column `key`.

    No partition depends on other rows, so what is dealt in pieces lands where it would at once.
    """
    partitions = mix(hash_keys(flat(table.column(key))), Stream.PARTITION) % np.uint64(num_partitions)
    for partition, places in grouped(partitions.astype(np.int64)):
        yield partition, table.take(pa.array(places))


def grouped(numbers: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Yield each distinct one of (n,) int64 numbers, ascending, with the positions where it is, ascending."""
    order = np.argsort(numbers, kind="stable")
    distinct, starts = np.unique(numbers[order], return_index=True)
    yield from zip(distinct.tolist(), np.split(order, starts[1:]), strict=False)
