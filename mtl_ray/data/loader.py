"""An encoded data set as tensors on one worker.

The order of training rows is a function of seed and epoch alone: buckets are permuted, rows are permuted within their
bucket, and global batch s is rows s * B to (s + 1) * B of that order. A worker owns the rows of some lanes and takes
its rows of each global batch. So every number of workers sees the same global batches and takes the same number of
steps, and a run can resume at any step.
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
from mtl_ray.schema import ROW, Schema, SplitName
from mtl_ray.storage import Folder
from mtl_ray.values.keys import flat

Batch = dict[str, Tensor]
Reader = Callable[[Folder, Sequence[str]], Iterator[pa.Table]]

PREFETCHED_PARTITIONS = 1
"""Buckets that are read and decoded while the rows of another one are used."""


def read_directly(folder: Folder, files: Sequence[str], columns: list[str] | None = None) -> Iterator[pa.Table]:
    """Arrow tables of Parquet files, read in this process; all columns by default."""
    for file in files:
        yield pq.ParquetFile(file, filesystem=folder.fs).read(columns=columns)


@dataclass
class Shard:
    """The rows of one split that one worker owns."""

    folder: Folder
    schema: Schema
    split: SplitName
    rank: int
    world_size: int
    cache_memory: int
    """Rows are kept as tensors after the first pass if they take at most so many bytes."""
    read: Reader = read_directly
    kept: dict[int, Batch] = field(default_factory=dict)
    """The buckets that are in memory, maybe with rows of other workers; others are read."""

    def __post_init__(self) -> None:
        if self.world_size > self.schema.num_lanes:
            raise ValueError(f"{self.world_size} workers share {self.schema.num_lanes} lanes; set data.lanes higher")
        self._files: dict[int, list[str]] = {}
        every = (self.folder / self.split).files(".parquet")
        self._any_file = every[0] if every else None
        for path in every:
            bucket, lane = path.rpartition("/")[2].removesuffix(".parquet").split("-")
            if int(lane) % self.world_size == self.rank:
                self._files.setdefault(int(bucket), []).append(path)

    def owns(self, rows: np.ndarray) -> np.ndarray:
        """(n,) bool: whether each row number is this worker's."""
        return rows % self.schema.num_lanes % self.world_size == self.rank

    def buckets(self, order: Sequence[int]) -> Iterator[tuple[int, Batch]]:
        """The worker's rows of each bucket, and of a bucket in memory maybe more, by row number; buckets as ordered.

        A bucket so small that no row of it is the worker's comes as an empty batch.
        """
        missing = [b for b in order if b not in self.kept and b in self._files]
        stream = prefetch(self._stream(missing), PREFETCHED_PARTITIONS) if missing else iter(())
        for bucket in order:
            if bucket in self.kept:
                yield bucket, self.kept[bucket]
            elif bucket in self._files:
                batch = next(stream)
                if self._fits(batch):
                    self.kept[bucket] = batch
                yield bucket, batch
            elif self._any_file is not None:
                schema = pq.read_schema(self._any_file, filesystem=self.folder.fs)
                yield bucket, to_batch(schema.empty_table())

    def _stream(self, order: Sequence[int]) -> Iterator[Batch]:
        for bucket in order:
            table = pa.concat_tables(self.read(self.folder, self._files[bucket]))
            yield to_batch(table.sort_by(ROW))

    def _fits(self, batch: Batch) -> bool:
        kept = sum(num_bytes(b) for b in self.kept.values())
        return kept + num_bytes(batch) <= self.cache_memory

    def training_batches(self, seed: int, epoch: int, batch_size: int, first_step: int = 0) -> Iterator[Batch]:
        """The worker's part of each global batch of an epoch, from `first_step` on; a part may have no row.

        Args:
            seed: with `epoch` it decides the order of rows.
            epoch: number of the epoch.
            batch_size: rows of a global batch; the last one of an epoch may be smaller.
            first_step: global batches to leave out, when a run resumes within an epoch.
        """
        offsets = self.schema.train_offsets
        order = np.random.default_rng([seed, epoch]).permutation(len(offsets) - 1).tolist()
        starts = dict(zip(order, np.cumsum([0] + [offsets[b + 1] - offsets[b] for b in order]).tolist(), strict=False))
        first_row = first_step * batch_size
        order = [b for b in order if starts[b] + offsets[b + 1] - offsets[b] > first_row]
        step, carry = first_step, None
        for bucket, rows in self.buckets(order):
            size = offsets[bucket + 1] - offsets[bucket]
            numbers = offsets[bucket] + np.random.default_rng([seed, epoch, bucket]).permutation(size)
            places = starts[bucket] + np.arange(size)
            own = self.owns(numbers) & (places >= first_row)
            places = places[own]
            index = self._places(bucket, rows[ROW].numpy(), numbers[own])
            last = bucket == order[-1]
            end = starts[bucket] + size
            num_steps = -(-end // batch_size) if last else end // batch_size
            bounds = np.searchsorted(places, np.arange(step, num_steps + 1) * batch_size)
            for number in range(num_steps - step):
                part = select(rows, index[bounds[number] : bounds[number + 1]])
                yield part if carry is None else joined(carry, part)
                carry = None
            rest = select(rows, index[bounds[-1] :])
            carry = rest if carry is None else joined(carry, rest)
            step = max(step, num_steps)

    def _places(self, bucket: int, found: np.ndarray, wanted: np.ndarray) -> Tensor:
        """(m,) where the row numbers `wanted` are among `found`. Raises ValueError if one is missing."""
        places = np.searchsorted(found, wanted)
        if len(wanted) and (places.max() >= len(found) or not np.array_equal(found[places], wanted)):
            lost = np.setdiff1d(wanted, found)
            raise ValueError(
                f"{self.folder}: expected {len(wanted)} rows of bucket {bucket} for worker {self.rank}; {len(lost)} of "
                f"them are missing, such as row {lost[0]}; delete the data set and prepare it again"
            )
        return torch.from_numpy(places)

    def evaluation_batches(self, batch_size: int) -> Iterator[Batch]:
        """All rows of the worker, in slices of at most `batch_size`; one without rows if it has none of a split that
        has some, since the others wait for it."""
        if not self._files and self._any_file is not None:
            yield to_batch(pq.read_schema(self._any_file, filesystem=self.folder.fs).empty_table())
        for _, rows in self.buckets(sorted(self._files)):
            own = self.owns(rows[ROW].numpy())
            mine = rows if own.all() else select(rows, torch.from_numpy(own.nonzero()[0]))
            for start in range(0, len(mine[ROW]), batch_size):
                yield {name: column[start : start + batch_size] for name, column in mine.items()}


def to_batch(table: pa.Table) -> Batch:
    """Columns as tensors: (n,), or (n, length) for fixed-size lists."""
    batch = {}
    for name in table.column_names:
        column = flat(table.column(name))
        width = column.type.list_size if pa.types.is_fixed_size_list(column.type) else None
        values = column.flatten() if width else column
        array = np.array(values.to_numpy(zero_copy_only=False))  # a copy: torch needs writable memory
        batch[name] = torch.from_numpy(array.reshape(-1, width) if width else array)
    return batch


def draw_rows(shard: Shard, size: int, seed: int) -> Batch:
    """The worker's rows of a random sample of about `size` rows of a split; which rows does not depend on the workers.

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
    """The rows at (m,) int64 positions.

    By NumPy, on one thread: the gather runs beside a step, and torch would take as many threads as the step has.
    """
    return {name: torch.from_numpy(column.numpy()[index.numpy()]) for name, column in batch.items()}


def joined(first: Batch, second: Batch) -> Batch:
    """The rows of two batches, one after the other."""
    return {name: torch.cat([column, second[name]]) for name, column in first.items()}


def num_bytes(batch: Batch) -> int:
    """Bytes of a batch's tensors."""
    return sum(column.numel() * column.element_size() for column in batch.values())


def to_device(batch: Batch, device: torch.device, dtype: torch.dtype) -> Batch:
    """The batch on a device, its real numbers in `dtype`."""
    return {
        name: column.to(device, dtype if column.is_floating_point() else None, non_blocking=True)
        for name, column in batch.items()
    }


def on_device(batches: Iterator[Batch], device: torch.device, dtype: torch.dtype) -> Iterator[Batch]:
    """Each batch on a device; to a GPU it goes from pinned memory, on a stream beside the one that steps run on.

    Made for a thread of its own (`prefetch`): that thread waits for the copy, the steps do not.
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
        for column in moved.values():  # its memory is not given away before the steps are done with it
            column.record_stream(torch.cuda.default_stream(device))
        yield moved
