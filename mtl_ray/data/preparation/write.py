"""Third pass of `prepare`: encode and write the rows of a partition; training rows are dealt over lanes."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from mtl_ray.data.encoding import Encoder
from mtl_ray.data.preparation.audiences import Audiences
from mtl_ray.data.preparation.giveaways import Rows, Sampler
from mtl_ray.schema import ITEM_SUPPORT, ROW, SPLITS, USER_KEY, USER_SUPPORT, label_column
from mtl_ray.storage import Folder
from mtl_ray.values.keys import decoded, flat, hash_keys
from mtl_ray.values.lists import to_arrow
from mtl_ray.values.partition import ITEM, TIME, TRAIN, USER, Partition
from mtl_ray.values.vocabulary import Vocabulary

RAW_TEST = "raw_test"
"""Folder with the test rows as a caller of the registered model would send them: raw values, histories and audiences
as lists of ids."""


class Written(NamedTuple):
    """Numbers that `prepare` keeps of a partition that was written."""

    digest: str
    """Digest of its encoded rows."""
    sample: Rows
    """Some of its training rows, see `Sampler`."""


@dataclass(frozen=True)
class Writer:
    """A writer of `{train,valid,test}/PARTITION-LANE.parquet` and `raw_test/PARTITION.parquet`."""

    encoder: Encoder
    supports: Mapping[str, Vocabulary]
    folder: Folder
    statistics: Mapping[str, Any]
    """The statistics that encoding training rows needs, by feature; see `FeatureKind.out_of_fold`."""
    offsets: Mapping[str, np.ndarray]
    """The number of the first row of each partition, by split."""
    sampler: Sampler

    def __call__(self, number: int, rows: Partition, audiences: Audiences) -> Written:
        """Write partition `number`."""
        experiment = self.encoder.experiment
        encoded, raw_histories = self._encoded(rows, audiences)
        digest = hashlib.sha256()
        for code, split in enumerate(SPLITS):
            positions = np.flatnonzero(rows.split == code)
            if not len(positions):
                continue
            if code == TRAIN:
                # The stored order is random already, so that a lane is a fair sample of its partition.
                positions = np.random.default_rng([experiment.data_seed, number]).permutation(positions)
            columns = {ROW: self.offsets[split][number] + np.arange(len(positions))}
            columns |= {name: values[positions] for name, values in encoded.items()}
            for name in sorted(columns):
                digest.update(f"{split}/{name}".encode())
                digest.update(np.ascontiguousarray(columns[name]).tobytes())
            self._write_lanes(split, number, columns)
            if split == "test":
                self._write_raw(number, rows.table.take(pa.array(positions)), raw_histories)
        return Written(digest.hexdigest(), self.sampler(encoded, rows.draw, np.flatnonzero(rows.split == TRAIN)))

    def _encoded(self, rows: Partition, audiences: Audiences) -> tuple[dict[str, np.ndarray], dict[str, pa.Array]]:
        """Encode every row of the partition; return all columns but `ROW`, and raw histories of its test rows."""
        experiment, table = self.encoder.experiment, rows.table
        columns: dict[str, np.ndarray] = {}
        raw: dict[str, pa.Array] = {}
        for name, kind in self.encoder.kinds.items():
            encoded, made = audiences.get(name) or kind.encode_partition(
                rows, self.encoder.state, self.statistics.get(name)
            )
            columns |= encoded
            raw |= made
        columns |= {label_column(name): self.encoder.label(name, table) for name in experiment.tasks}
        columns[USER_SUPPORT] = self.supports[experiment.user].support(flat(table.column(USER)))
        columns[ITEM_SUPPORT] = self.supports[experiment.item].support(flat(table.column(ITEM)))
        columns[USER_KEY] = hash_keys(flat(table.column(USER))).astype(np.int64)
        return columns, raw

    def _write_lanes(self, split: str, number: int, columns: dict[str, np.ndarray]) -> None:
        num_lanes = self.encoder.schema.num_lanes
        for lane in range(num_lanes):
            first = (lane - int(columns[ROW][0])) % num_lanes  # rows are numbered without gaps
            if first < len(columns[ROW]):
                table = pa.table({name: to_arrow(values[first::num_lanes]) for name, values in columns.items()})
                (self.folder / split).write_table(f"{number:05d}-{lane:03d}.parquet", table, dictionary=False)

    def _write_raw(self, number: int, table: pa.Table, histories: dict[str, pa.Array]) -> None:
        columns = {n: decoded(flat(table.column(n))) for n in table.column_names if n not in (USER, ITEM, TIME)}
        (self.folder / RAW_TEST).write_table(f"{number:05d}.parquet", pa.table({**columns, **histories}))
