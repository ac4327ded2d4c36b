"""An encoded data set as tensors on one worker.

The order of training rows depends on the seed and the epoch alone: partitions are permuted, then the rows within each,
and global batch s holds rows s * B to (s + 1) * B of that order. A worker owns the rows of some lanes and takes its
rows of each global batch. So any number of workers sees the same global batches and takes the same number of steps,
and a run can resume at any step.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import reduce

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from mtl_ray.counter_rng import Stream, uniform_rows
from mtl_ray.data.prefetch import prefetch
from mtl_ray.distributed import rank, world_size
from mtl_ray.parquet import read_parquet
from mtl_ray.schema import PADDING, ROW, Schema, SplitName
from mtl_ray.storage import Folder
from mtl_ray.values.keys import flat
from mtl_ray.values.lists import from_arrow

Batch = dict[str, Tensor]
Reader = Callable[[Folder, Sequence[str]], Iterator[pa.Table]]

PREFETCHED_PARTITIONS = 1
"""Partitions that are read and decoded while the rows of another one are used."""


def read_directly(folder: Folder, files: Sequence[str], columns: list[str] | None = None) -> Iterator[pa.Table]:
    """Read Parquet files in this process; yield one Arrow table a file, with all columns by default."""
    for file in files:
        yield read_parquet(file, folder.fs, columns)


@dataclass
class Shard:
    """The rows of one split that one worker owns; by default the worker is this process."""

    folder: Folder
    schema: Schema
    split: SplitName
    rank: int = field(default_factory=rank)
    world_size: int = field(default_factory=world_size)
    cache_memory: int = 2 * 2**30
    """Most bytes of rows that are kept as tensors after the first pass."""
    read: Reader = read_directly
    kept: dict[int, Batch] = field(default_factory=dict)
    """The partitions in memory; they may have rows of other workers, too. Others are read."""

    def __post_init__(self) -> None:
        if self.world_size > self.schema.num_lanes:
            raise ValueError(f"{self.world_size} workers share {self.schema.num_lanes} lanes; set data.lanes higher")
        self._files: dict[int, list[str]] = {}
        every = (self.folder / self.split).files(".parquet")
        self._any_file = every[0] if every else None
        for path in every:
            partition, lane = path.rpartition("/")[2].removesuffix(".parquet").split("-")
            if int(lane) % self.world_size == self.rank:
                self._files.setdefault(int(partition), []).append(path)

    def owns(self, rows: np.ndarray) -> np.ndarray:
        """Return (n,) bool: true for the row numbers of this worker."""
        return rows % self.schema.num_lanes % self.world_size == self.rank

    def partitions(self, order: Sequence[int]) -> Iterator[tuple[int, Batch]]:
        """Yield partitions in the given order, each with the worker's rows, sorted by row number.

        A partition in memory may come with rows of other workers; one without a row of the worker, as an empty batch.
        """
        missing = [b for b in order if b not in self.kept and b in self._files]
        stream = prefetch(self._stream(missing), PREFETCHED_PARTITIONS) if missing else iter(())
        for partition in order:
            if partition in self.kept:
                yield partition, self.kept[partition]
            elif partition in self._files:
                batch = next(stream)
                if self._fits(batch):
                    self.kept[partition] = batch
                yield partition, batch
            elif self._any_file is not None:
                schema = pq.read_schema(self._any_file, filesystem=self.folder.fs)
                yield partition, to_batch(schema.empty_table())

    def _stream(self, order: Sequence[int]) -> Iterator[Batch]:
        for partition in order:
            table = pa.concat_tables(self.read(self.folder, self._files[partition]))
            yield to_batch(table.sort_by(ROW))

    def _fits(self, batch: Batch) -> bool:
        kept = sum(num_bytes(b) for b in self.kept.values())
        return kept + num_bytes(batch) <= self.cache_memory

    def training_batches(self, seed: int, epoch: int, batch_size: int, first_step: int = 0) -> Iterator[Batch]:
        """Yield the worker's part of each global batch of an epoch, from `first_step` on. A part may have no row.

        Args:
            seed: decides the order of rows, together with `epoch`.
            epoch: number of the epoch.
            batch_size: rows of a global batch; the last one of an epoch may be smaller.
            first_step: number of global batches to skip when a run resumes within an epoch.
        """
        offsets = self.schema.train_offsets
        order = np.random.default_rng([seed, epoch]).permutation(len(offsets) - 1).tolist()
        starts = dict(zip(order, np.cumsum([0] + [offsets[b + 1] - offsets[b] for b in order]).tolist(), strict=False))
        first_row = first_step * batch_size
        order = [b for b in order if starts[b] + offsets[b + 1] - offsets[b] > first_row]
        step, carry = first_step, None
        for partition, rows in self.partitions(order):
            size = offsets[partition + 1] - offsets[partition]
            numbers = offsets[partition] + np.random.default_rng([seed, epoch, partition]).permutation(size)
            places = starts[partition] + np.arange(size)
            own = self.owns(numbers) & (places >= first_row)
            places = places[own]
            index = self._places(partition, rows[ROW].numpy(), numbers[own])
            last = partition == order[-1]
            end = starts[partition] + size
            num_steps = -(-end // batch_size) if last else end // batch_size
            bounds = np.searchsorted(places, np.arange(step, num_steps + 1) * batch_size)
            for number in range(num_steps - step):
                part = select(rows, index[bounds[number] : bounds[number + 1]])
                yield part if carry is None else joined(carry, part)
                carry = None
            rest = select(rows, index[bounds[-1] :])
            carry = rest if carry is None else joined(carry, rest)
            step = max(step, num_steps)

    def _places(self, partition: int, found: np.ndarray, wanted: np.ndarray) -> Tensor:
        """Return (m,) positions of the row numbers `wanted` among `found`. Raises ValueError if one is missing."""
        places = np.searchsorted(found, wanted)
        if len(wanted) and (places.max() >= len(found) or not np.array_equal(found[places], wanted)):
            lost = np.setdiff1d(wanted, found)
            raise ValueError(
                f"{self.folder}: expected {len(wanted)} rows of bucket {partition} for worker {self.rank}; {len(lost)} "
                f"of them are missing, such as row {lost[0]}; delete the data set and prepare it again"
            )
        return torch.from_numpy(places)

    def evaluation_batches(self, batch_size: int) -> Iterator[Batch]:
        """Yield all rows of the worker in slices of at most `batch_size` rows.

        A worker without rows of a split yields one empty batch if the split has rows: the other workers wait for it.
        """
        if not self._files and self._any_file is not None:
            yield to_batch(pq.read_schema(self._any_file, filesystem=self.folder.fs).empty_table())
        for _, rows in self.partitions(sorted(self._files)):
            own = self.owns(rows[ROW].numpy())
            mine = rows if own.all() else select(rows, torch.from_numpy(own.nonzero()[0]))
            for start in range(0, len(mine[ROW]), batch_size):
                yield {name: column[start : start + batch_size] for name, column in mine.items()}


def to_batch(table: pa.Table) -> Batch:
    """Return the columns as tensors: (n,), or (n, length) for fixed-size lists."""
    batch = {}
    for name in table.column_names:
        values = from_arrow(flat(table.column(name)))
        batch[name] = torch.from_numpy(np.array(values))  # a copy: torch needs writable memory
    return batch


def draw_rows(shard: Shard, size: int, seed: int) -> Batch:
    """Return the worker's rows of a random sample of about `size` rows of a split.

    The sample is the same for any number of workers.

    Raises:
        ValueError: the split has no row.
    """
    total = shard.schema.num_rows[shard.split]
    if not total:
        raise ValueError(
            f"balancing.kind: this method is rewarded on rows of the {shard.split} split, and there are none; "
            f"give it a share, e.g. data.split.{shard.split}=0.1"
        )
    parts = []
    for batch in shard.evaluation_batches(1 << 20):
        parts.append(
            select(batch, torch.nonzero(uniform_rows(batch[ROW], seed, 0, Stream.BALANCER_ROWS) < size / total)[:, 0])
        )
    return reduce(joined, parts)


def select(batch: Batch, index: Tensor) -> Batch:
    """Return the rows at (m,) int64 positions.

    NumPy gathers on one thread. Torch would take as many threads as the training step that runs at the same time.
    """
    return {name: torch.from_numpy(column.numpy()[index.numpy()]) for name, column in batch.items()}


def joined(first: Batch, second: Batch) -> Batch:
    """Return the rows of the first batch, then those of the second."""
    return {name: torch.cat([column, second[name]]) for name, column in first.items()}


def num_bytes(batch: Batch) -> int:
    """Return the bytes that the tensors of a batch take."""
    return sum(column.numel() * column.element_size() for column in batch.values())


def trimmed(batch: Batch, lists: Sequence[Sequence[str]]) -> Batch:
    """Cut lists to the longest of the batch, and to one entry at least: what goes is padding in every row.

    Args:
        batch: encoded rows, on the CPU.
        lists: the columns of each feature that is a padded list, see `FeatureKind.padded_columns`.
    """
    cut = dict(batch)
    for names in lists:
        used = (batch[names[0]] != PADDING).any(0).nonzero()
        length = int(used[-1]) + 1 if len(used) else 1
        cut |= {name: batch[name][:, :length].contiguous() for name in names}
    return cut


def to_device(batch: Batch, device: torch.device, dtype: torch.dtype) -> Batch:
    """Copy a batch to a device; convert floating-point columns to `dtype`."""
    return {
        name: column.to(device, dtype if column.is_floating_point() else None, non_blocking=True)
        for name, column in batch.items()
    }


def on_device(batches: Iterator[Batch], device: torch.device, dtype: torch.dtype) -> Iterator[Batch]:
    """Yield each batch on a device. To a GPU it goes from pinned memory, on a stream of its own.

    Run it in a thread of its own (`prefetch`): that thread waits for the copies, the training steps do not.
    """
    if device.type != "cuda":
        yield from (to_device(batch, device, dtype) for batch in batches)
        return
    beside = torch.cuda.Stream(device)
    for batch in batches:
        pinned = {name: column.pin_memory() for name, column in batch.items()}
        with torch.cuda.stream(beside):
            moved = to_device(pinned, device, dtype)
        beside.synchronize()
        for column in moved.values():  # the allocator must not reuse the memory before the steps are done with it
            column.record_stream(torch.cuda.default_stream(device))
        yield moved
