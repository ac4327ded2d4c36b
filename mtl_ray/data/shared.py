"""A prepared data set in shared memory: all processes of a node read the same bytes of Ray's object store."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from mtl_ray.data.dataset import Prepared
from mtl_ray.data.loader import Batch, Shard, read_directly
from mtl_ray.schema import SplitName

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class SharedDataset:
    """A data set to put into Ray's object store once; any number of processes read its arrays in place."""

    prepared: Prepared
    memory: int
    rows: dict[SplitName, dict[int, Arrays]]
    """Columns by split and partition. What exceeds `memory` bytes a split is absent here and read from files."""

    def shard(self, split: SplitName, rank: int = 0, world_size: int = 1) -> Shard:
        """Return a worker's rows of a split. Do not write to them."""
        kept = {partition: _tensors(arrays) for partition, arrays in self.rows[split].items()}
        folder, schema = self.prepared.folder, self.prepared.schema
        return Shard(folder, schema, split, rank, world_size, self.memory, read_directly, kept)


def share_dataset(prepared: Prepared, splits: Sequence[SplitName], memory: int) -> SharedDataset:
    """Read splits into memory, as many partitions of each as fit in `memory` bytes."""
    rows: dict[SplitName, dict[int, Arrays]] = {}
    for split in splits:
        shard = Shard(prepared.folder, prepared.schema, split, 0, 1, memory, read_directly)
        for _ in shard.evaluation_batches(1 << 40):
            pass
        rows[split] = {partition: {n: c.numpy() for n, c in batch.items()} for partition, batch in shard.kept.items()}
    return SharedDataset(prepared, memory, rows)


def _tensors(arrays: Arrays) -> Batch:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writable", UserWarning)
        return {name: torch.from_numpy(array) for name, array in arrays.items()}
