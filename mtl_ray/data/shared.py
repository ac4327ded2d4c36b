"""A prepared data set in memory that processes of a node share: Ray gives each of them the same bytes."""

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
    """What goes into Ray's object store once: its arrays are read there in place, by any number of processes."""

    prepared: Prepared
    memory: int
    rows: dict[SplitName, dict[int, Arrays]]
    """By split and bucket, the columns; buckets beyond `memory` bytes of a split are absent, and read from files."""

    def shard(self, split: SplitName, rank: int = 0, world_size: int = 1) -> Shard:
        """A worker's rows of a split. They must not be written to."""
        kept = {bucket: _tensors(arrays) for bucket, arrays in self.rows[split].items()}
        folder, schema = self.prepared.folder, self.prepared.schema
        return Shard(folder, schema, split, rank, world_size, self.memory, read_directly, kept)


def share_dataset(prepared: Prepared, splits: Sequence[SplitName], memory: int) -> SharedDataset:
    """Read splits, of each as many buckets as fit in so many bytes."""
    rows: dict[SplitName, dict[int, Arrays]] = {}
    for split in splits:
        shard = Shard(prepared.folder, prepared.schema, split, 0, 1, memory, read_directly)
        for _ in shard.evaluation_batches(1 << 40):
            pass
        rows[split] = {bucket: {n: c.numpy() for n, c in batch.items()} for bucket, batch in shard.kept.items()}
    return SharedDataset(prepared, memory, rows)


def _tensors(arrays: Arrays) -> Batch:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writable", UserWarning)
        return {name: torch.from_numpy(array) for name, array in arrays.items()}
