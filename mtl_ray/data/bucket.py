"""One bucket of users, as the later passes of `prepare` read it: joined, deduplicated, split, in time order."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mtl_ray.data.dense import digests, is_vectors
from mtl_ray.data.encode import gather
from mtl_ray.data.keys import flat
from mtl_ray.data.split import ITEM, NONE, TIME, TRAIN, USER, assign
from mtl_ray.data.stage import quarantined
from mtl_ray.data.storage import Folder
from mtl_ray.experiment import Experiment


@dataclass(frozen=True)
class SideTable:
    """A user or item table whose rows are joined to the log by position."""

    table: pa.Table
    """Attributes; the last row is all null and serves entities that the table does not know."""
    keys: pa.Array

    @classmethod
    def of(cls, table: pa.Table, key: str) -> "SideTable":
        """From a clean table with the key column `key`."""
        columns = {n: flat(table.column(n)) for n in table.column_names if n != key}
        nothing = {n: pa.nulls(1, a.type) for n, a in columns.items()}
        return cls(
            pa.table({n: _concat(a, nothing[n]) for n, a in columns.items()}) if columns else pa.table({}),
            flat(table.column(key)),
        )

    def positions(self, keys: pa.Array) -> np.ndarray:
        """(n,) int64 row of the table for each key."""
        encoded = keys.dictionary_encode()
        found = pc.index_in(encoded.dictionary, value_set=self.keys).fill_null(len(self.keys))
        return found.take(encoded.indices).to_numpy(zero_copy_only=False).astype(np.int64)


def _concat(first: pa.Array, second: pa.Array) -> pa.Array:
    if pa.types.is_dictionary(first.type):
        indices = pa.concat_arrays([first.indices, pa.nulls(1, first.indices.type)])
        return pa.DictionaryArray.from_arrays(indices, first.dictionary)
    return pa.concat_arrays([first, second])


@dataclass(frozen=True)
class Bucket:
    """The rows of a bucket in a fixed order: by time, then by place in the log."""

    table: pa.Table
    """Keys, time and the raw columns of log and side tables."""
    split: np.ndarray
    """(n,) int8 codes of `data.split`."""
    duplicates: pa.Table
    """Repeated interactions, as quarantined rows."""
    unknown: dict[str, int]
    """Rows whose entity has no row in a side table."""


def load_bucket(
    experiment: Experiment,
    staging: Folder,
    users: SideTable | None,
    items: SideTable | None,
    cuts: tuple[float, float] | None,
) -> Bucket:
    """Read one bucket, see `bucket_of`."""
    parts = [staging.read_table(path.rpartition("/")[2]) for path in staging.files(".parquet")]
    return bucket_of(experiment, pa.concat_tables(parts, promote_options="permissive"), users, items, cuts)


def bucket_of(
    experiment: Experiment,
    table: pa.Table,
    users: SideTable | None,
    items: SideTable | None,
    cuts: tuple[float, float] | None,
) -> Bucket:
    """Order, deduplicate, join and split staged rows.

    A repeat of (user, item, time), or of the whole row in a log without time, is set aside.
    """
    table = table.combine_chunks()
    order = pc.sort_indices(table, [(TIME, "ascending"), ("_chunk", "ascending"), ("_row", "ascending")])
    table = table.take(order)
    names = [n for n in table.column_names if n.startswith("raw.")]
    compared = table.select([USER, ITEM, TIME]) if experiment.data.time else _comparable(table, [USER, ITEM, *names])
    keys = compared.column_names
    first = np.zeros(len(table), bool)
    numbered = compared.append_column("_position", pa.array(np.arange(len(table))))
    groups = numbered.group_by(keys, use_threads=False).aggregate([("_position", "min")])
    first[groups.column("_position_min").to_numpy()] = True
    repeated = table.filter(pa.array(~first))
    duplicates = quarantined(
        repeated.select(names).rename_columns([n.removeprefix("raw.") for n in names]),
        pa.array(["repeats an earlier row"] * len(repeated), pa.string()),
        flat(repeated.column("_file")),
        repeated.column("_row").to_numpy(),
    )
    table = table.filter(pa.array(first)).combine_chunks()
    columns = {n: flat(table.column(n)) for n in (USER, ITEM, TIME)}
    columns |= {n.removeprefix("raw."): flat(table.column(n)) for n in names}
    unknown = {}
    for entity, key, side in (("user", USER, users), ("item", ITEM, items)):
        if side is None:
            continue
        positions = side.positions(columns[key])
        unknown[f"{entity} not in the {entity}s table"] = int((positions == len(side.keys)).sum())
        take = pa.array(positions)
        columns |= {n: flat(side.table.column(n)).take(take) for n in side.table.column_names if n not in columns}
    joined = pa.table(columns)
    split = assign(experiment, joined, flat(table.column("_file")), table.column("_row").to_numpy(), cuts)
    return Bucket(joined, split, duplicates, unknown)


def _comparable(table: pa.Table, names: list[str]) -> pa.Table:
    """Columns by whose values rows can be grouped: of lists of numbers digests, other lists are left out."""
    columns = {name: flat(table.column(name)) for name in names}
    return pa.table(
        {
            name: digests(values) if is_vectors(values.type) else values
            for name, values in columns.items()
            if is_vectors(values.type) or not pa.types.is_nested(values.type)
        }
    )


@dataclass(frozen=True)
class Histories:
    """For each row the positions, in `source`, of the user's earlier interactions."""

    source: np.ndarray
    """(m,) row numbers of the interactions that may be in a history, by user and time."""
    starts: np.ndarray
    """(n,) first entry of `source` for each row."""
    sizes: np.ndarray
    """(n,) number of entries."""

    def rows(self, values: np.ndarray, length: int) -> np.ndarray:
        """(n, length) `values` (by row of the bucket) of each history, oldest first, padded on the right with 0."""
        return gather(values[self.source], self.starts, self.sizes, length)

    def lists(self, values: pa.Array) -> pa.ListArray:
        """(n,) the same as lists of raw values."""
        ends = np.cumsum(self.sizes)
        within = np.arange(int(self.sizes.sum())) - np.repeat(ends - self.sizes, self.sizes)
        entries = self.source[np.repeat(self.starts, self.sizes) + within]
        offsets = pa.array(np.concatenate([[0], ends]).astype(np.int32))
        return pa.ListArray.from_arrays(offsets, values.take(pa.array(entries)))


def histories(bucket: Bucket, length: int, *, training_only: bool) -> Histories:
    """The last `length` interactions of each row's user that are strictly earlier in time.

    Args:
        bucket: rows in time order.
        length: most entries of a history.
        training_only: whether only training rows may be in a history; otherwise any row, as under the time split.
    """
    user = flat(bucket.table.column(USER)).dictionary_encode().indices.to_numpy(zero_copy_only=False)
    time = bucket.table.column(TIME).to_numpy()
    order = np.lexsort((np.arange(len(user)), time, user))
    user, time = user[order], time[order]
    usable = (bucket.split[order] == TRAIN) if training_only else (bucket.split[order] != NONE)
    before = np.concatenate([[0], np.cumsum(usable)])
    new_user = np.concatenate([[True], user[1:] != user[:-1]]) if len(user) else np.zeros(0, bool)
    new_time = new_user | np.concatenate([[True], time[1:] != time[:-1]]) if len(user) else new_user
    positions = np.arange(len(user))
    user_start = before[np.maximum.accumulate(np.where(new_user, positions, 0))]
    ends = before[np.maximum.accumulate(np.where(new_time, positions, 0))]
    sizes = np.minimum(ends - user_start, length)
    inverse = np.empty_like(order)
    inverse[order] = positions
    return Histories(order[usable], (ends - sizes)[inverse], sizes[inverse])
