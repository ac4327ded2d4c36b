"""The work of each pass of `prepare` on one piece, as picklable functions; `parallel` runs them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import reduce
from operator import add
from typing import Any

import numpy as np
import pyarrow as pa

from mtl_ray.config import Experiment
from mtl_ray.config.data import TimeSplitConfig
from mtl_ray.data.preparation.audiences import DealByItem, read_audiences
from mtl_ray.data.preparation.fit import FitStatistics, fit_partition
from mtl_ray.data.preparation.parallel import MapPieces
from mtl_ray.data.preparation.partition import SideTable, load_partition
from mtl_ray.data.preparation.split import (
    HISTOGRAM_BINS,
    Cuts,
    cut_before,
    cuts_from_histogram,
    declared_cuts,
    earliest,
    first_of,
    needs_histogram,
    num_first_of_items,
)
from mtl_ray.data.preparation.stage import Stage, describe
from mtl_ray.data.preparation.write import Writer, Written
from mtl_ray.data.sources import Chunk
from mtl_ray.features.base import feature_kinds
from mtl_ray.features.target_statistics import slice_borders
from mtl_ray.storage import Folder
from mtl_ray.values.partition import TIME, Partition

PIECE_ROWS = 1_000_000
"""Approximate rows of the log that one task stages."""


def stage_pieces(stage: Stage, chunks: Sequence[Chunk], num_rows: int, map_pieces: MapPieces) -> list[dict[str, Any]]:
    """Deal a log of about `num_rows` rows into partitions; return what `Stage` returns for each piece."""
    num_pieces = max(1, min(len(chunks), round(num_rows / PIECE_ROWS)))
    size = -(-len(chunks) // num_pieces)
    return list(map_pieces(_StagePiece(stage, chunks, size), range(-(-len(chunks) // size))))


def find_cuts(
    experiment: Experiment, pieces: list[dict[str, Any]], aside: Folder, num_partitions: int, map_pieces: MapPieces
) -> Cuts:
    """Find the cuts of the time split, and the borders of the slices of statistics."""
    split, holdout = experiment.data.split, experiment.data.holdout
    sliced = experiment.data.time and any(kind.out_of_fold for kind in feature_kinds(experiment).values())
    cuts = declared_cuts(experiment, pieces)
    if not sliced and not needs_histogram(experiment):
        return Cuts(cuts)
    low, high = min(piece["low"] for piece in pieces), max(piece["high"] for piece in pieces)
    counts = reduce(add, map_pieces(_Histogram(aside, low, high), range(num_partitions)))
    if isinstance(split, TimeSplitConfig) and cuts is None:
        cuts = cuts_from_histogram(counts, low, high, (split.valid, split.test))
    end = cuts[0] if cuts else None
    found = Cuts(cuts)
    if holdout and holdout.kind == "time":
        end = cut_before(counts, low, high, math.inf if end is None else end, holdout.share)
        found = replace(found, holdout=end)
    return replace(found, borders=slice_borders(counts, low, high, end)) if sliced else found


@dataclass(frozen=True)
class Loader:
    """A reader of one partition: ordered, joined, split."""

    experiment: Experiment
    folder: Folder
    users: SideTable | None
    items: SideTable | None
    cuts: Cuts

    def __call__(self, partition: int) -> Partition:  # noqa: D102
        staging = self.folder / f"staging/{partition:05d}"
        return load_partition(self.experiment, staging, self.users, self.items, self.cuts)


@dataclass(frozen=True)
class FitPartition:
    """A function that returns the statistics of one partition and sends its repeated rows to quarantine."""

    load: Loader
    deal: DealByItem | None = None
    """A writer of the rows by item, of which audiences are made."""

    def __call__(self, partition: int) -> FitStatistics:  # noqa: D102
        loaded = self.load(partition)
        result = fit_partition(self.load.experiment, loaded)
        if self.deal is not None:
            self.deal(partition, loaded)
        if len(loaded.duplicates):
            quarantine = self.load.folder / "quarantine"
            quarantine.write_table(f"duplicates-{partition:05d}.parquet", loaded.duplicates)
            result.duplicates = describe(loaded.duplicates, 5)
        return result


@dataclass(frozen=True)
class WritePartition:
    """A function that encodes and writes one of the partitions."""

    load: Loader
    writer: Writer
    partitions: Sequence[int]

    def __call__(self, number: int) -> Written:  # noqa: D102
        partition = self.partitions[number]
        audiences = read_audiences(self.load.experiment, self.load.folder, partition)
        return self.writer(number, self.load(partition), audiences)


@dataclass(frozen=True)
class _StagePiece:
    stage: Stage
    raw_chunks: Sequence[Chunk]
    size: int

    def __call__(self, piece: int) -> dict[str, Any]:
        return self.stage(piece, self.raw_chunks[piece * self.size : (piece + 1) * self.size])


@dataclass(frozen=True)
class _Histogram:
    folder: Folder
    low: float
    high: float

    def __call__(self, partition: int) -> np.ndarray:
        counts = np.zeros(HISTOGRAM_BINS, np.int64)
        staging = self.folder / f"staging/{partition:05d}"
        for path in staging.files(".parquet"):
            time = staging.read_table(path.rpartition("/")[2], columns=[TIME]).column(TIME).to_numpy()
            counts += np.histogram(time, bins=HISTOGRAM_BINS, range=(self.low, self.high))[0]
        return counts


@dataclass(frozen=True)
class _Earliest:
    load: Loader

    def __call__(self, partition: int) -> pa.Table:
        loaded = self.load(partition)
        return earliest(self.load.experiment, loaded.table, loaded.draw)


def first_of_items(load: Loader, partitions: Sequence[int], map_pieces: MapPieces) -> pa.Table:
    """Return the first interactions of held-out items, see `Cuts.first`."""
    number = num_first_of_items(load.experiment.data.split)  # pyright: ignore[reportArgumentType]
    return reduce(lambda a, b: first_of(pa.concat_tables([a, b]), number), map_pieces(_Earliest(load), partitions))
