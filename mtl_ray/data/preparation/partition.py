"""One partition of users, as the later passes of `prepare` read it: joined, deduplicated, split, in time order."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mtl_ray.config import Experiment
from mtl_ray.data.preparation.holdout import hold_out
from mtl_ray.data.preparation.repeats import REASONS, repeats
from mtl_ray.data.preparation.split import Cuts, assign, row_draw
from mtl_ray.data.preparation.stage import quarantined
from mtl_ray.parquet import is_text
from mtl_ray.storage import Folder
from mtl_ray.values.keys import decoded, flat
from mtl_ray.values.partition import ITEM, TIME, USER, Partition


@dataclass(frozen=True)
class SideTable:
    """A user or item table whose rows are joined to the log by position."""

    table: pa.Table
    """Attributes; the last row is all null and serves entities that the table does not know."""
    keys: pa.Array
    names: Mapping[str, str]
    """Columns of `table` by their name in the joined rows."""

    @classmethod
    def of(cls, table: pa.Table, key: str, names: Mapping[str, str]) -> "SideTable":
        """Make one from a clean table with the key column `key`; for `names` see `Columns`."""
        columns = {n: flat(table.column(n)) for n in table.column_names if n != key}
        nothing = {n: pa.nulls(1, a.type) for n, a in columns.items()}
        return cls(
            pa.table({n: _concat(a, nothing[n]) for n, a in columns.items()}) if columns else pa.table({}),
            flat(table.column(key)),
            names,
        )

    def positions(self, keys: pa.Array) -> np.ndarray:
        """Return (n,) int64 row of the table for each key."""
        encoded = keys.dictionary_encode()
        found = pc.index_in(encoded.dictionary, value_set=self.keys).fill_null(len(self.keys))
        return found.take(encoded.indices).to_numpy(zero_copy_only=False).astype(np.int64)


def _concat(first: pa.Array, second: pa.Array) -> pa.Array:
    if pa.types.is_dictionary(first.type):
        indices = pa.concat_arrays([first.indices, pa.nulls(1, first.indices.type)])
        return pa.DictionaryArray.from_arrays(indices, first.dictionary)
    return pa.concat_arrays([first, second])


def load_partition(
    experiment: Experiment,
    staging: Folder,
    users: SideTable | None,
    items: SideTable | None,
    cuts: Cuts,
) -> Partition:
    """Read one partition, see `partition_of`."""
    return partition_of(experiment, read_pieces(staging), users, items, cuts)


def read_pieces(staging: Folder) -> pa.Table:
    """Return the rows of a staged partition in the order of the log, texts dictionary-encoded."""
    parts = [staging.read_table(path.rpartition("/")[2], dictionaries=True) for path in staging.files(".parquet")]
    return pa.concat_tables(parts, promote_options="permissive")


def in_time_order(table: pa.Table) -> pa.Table:
    """Put staged rows, which are in the order of the log, in that of their times."""
    # Each distinct text is looked at once; from here on its code is moved and compared.
    table = pa.table({name: _dictionary_encoded(flat(table.column(name))) for name in table.column_names})
    return table.take(pa.array(np.argsort(table.column(TIME).to_numpy(), kind="stable")))


def set_aside(table: pa.Table, reason: str) -> pa.Table:
    """Return staged rows as quarantined ones."""
    names = [name for name in table.column_names if name.startswith("raw.")]
    return quarantined(
        table.select(names).rename_columns([name.removeprefix("raw.") for name in names]),
        pa.array([reason for _ in range(len(table))], pa.string()),
        decoded(flat(table.column("_file"))),
        table.column("_row").to_numpy(),
    )


def partition_of(
    experiment: Experiment,
    table: pa.Table,
    users: SideTable | None,
    items: SideTable | None,
    cuts: Cuts,
) -> Partition:
    """Order, deduplicate, join and split staged rows, which are in the order of the log.

    Repeats are set aside, see `data.repeats`.
    """
    table = in_time_order(table)
    names = [n for n in table.column_names if n.startswith("raw.")]
    wanted = experiment.data.repeats
    is_kept = ~repeats(table.drop_columns(["_file", "_row"]), wanted)
    duplicates = set_aside(table.filter(pa.array(~is_kept)), REASONS.get(wanted, ""))
    table = table.filter(pa.array(is_kept)).combine_chunks()
    columns = {n: flat(table.column(n)) for n in (USER, ITEM, TIME)}
    columns |= {n.removeprefix("raw."): flat(table.column(n)) for n in names}
    unknown = {}
    for entity, key, side in (("user", USER, users), ("item", ITEM, items)):
        if side is None:
            continue
        positions = side.positions(columns[key])
        unknown[f"{entity} not in the {entity}s table"] = int((positions == len(side.keys)).sum())
        take = pa.array(positions)
        columns |= {name: flat(side.table.column(column)).take(take) for name, column in side.names.items()}
    joined = pa.table(columns)
    file = flat(table.column("_file"))
    draw = row_draw(experiment, file, table.column("_row").to_numpy())
    split = hold_out(experiment, joined, draw, assign(experiment, joined, file, draw, cuts), cuts)
    return Partition(joined, split, draw, duplicates, unknown, cuts.borders)


def _dictionary_encoded(values: pa.Array) -> pa.Array:
    return values.dictionary_encode() if is_text(values.type) else values
