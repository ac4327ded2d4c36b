"""The users of each item, for rows that are partitioned by user: a shuffle by item and back.

An audience needs all rows of an item, and they are in many partitions of users. So the fit deals the few columns that
audiences are made of into partitions of items. A pass over these makes the lists and deals them back: each row knows
its partition of users and its place there. A process holds the narrow rows of one partition of items and, of the wide
lists, those that go to one partition of users.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from mtl_ray.config import Experiment
from mtl_ray.data.encoding import Encoder
from mtl_ray.data.preparation.deal import dealt, grouped
from mtl_ray.features.base import feature_kinds
from mtl_ray.features.sequence import SequenceKind
from mtl_ray.storage import Folder
from mtl_ray.values.keys import decoded, flat
from mtl_ray.values.lists import from_arrow, to_arrow
from mtl_ray.values.partition import INTERNAL, ITEM, TEST, TIME, USER, Partition

SPLIT, DRAW, PARTITION, PLACE = (f"{INTERNAL}{name}" for name in ("split", "draw", "partition", "place"))
"""Columns of a dealt row beside its keys and time: `PARTITION` is that of its user, where it is the row `PLACE`."""

DEALT, MADE, OF_ITEMS = "staging/items", "staging/audiences", "staging/catalog"
"""Folders of rows dealt by item, of their audiences dealt by user, and of the audience that each item ends with."""

Audiences = Mapping[str, tuple[dict[str, np.ndarray], dict[str, pa.Array]]]
"""Encoded and raw lists by feature, as `FeatureKind.encode_partition` returns them for a partition of users."""


def audiences_of(experiment: Experiment) -> dict[str, SequenceKind]:
    """Return the features that need all rows of an item, by name."""
    kinds = feature_kinds(experiment).items()
    return {n: kind for n, kind in kinds if isinstance(kind, SequenceKind) and kind.needs_all_rows_of == "item"}


@dataclass(frozen=True)
class DealByItem:
    """A writer of the rows of a partition of users to `DEALT/ITEMS/USERS.parquet`."""

    experiment: Experiment
    folder: Folder
    num_partitions: int
    """Partitions of items."""

    def __call__(self, partition: int, rows: Partition) -> None:
        """Deal the rows of the partition of users with this number."""
        columns = {column.name for kind in audiences_of(self.experiment).values() for column in kind.log_columns()}
        read = [name for name in rows.table.column_names if name in {USER, ITEM, TIME, *columns}]
        size = len(rows.split)
        own = {
            SPLIT: pa.array(rows.split),
            DRAW: pa.array(rows.draw),
            PARTITION: pa.array(np.full(size, partition)),
            PLACE: pa.array(np.arange(size)),
        }
        table = pa.table({name: decoded(flat(rows.table.column(name))) for name in read} | own)
        for number, part in dealt(table, ITEM, self.num_partitions):
            (self.folder / f"{DEALT}/{number:05d}").write_table(f"{partition:05d}.parquet", part)


@dataclass(frozen=True)
class MakeAudiences:
    """A function that makes the audiences of a partition of items, and writes them for each partition of users.

    It also writes what each item's audience is after all rows of the log, to `OF_ITEMS`.
    """

    encoder: Encoder
    folder: Folder

    def __call__(self, number: int) -> None:  # noqa: D102
        source = self.folder / f"{DEALT}/{number:05d}"
        if not source.exists():
            return
        parts = [source.read_table(path.rpartition("/")[2]) for path in source.files(".parquet")]
        table = with_last(pa.concat_tables(parts, promote_options="permissive"))
        # The draw orders rows of the same instant alike in any number of partitions.
        order = np.lexsort((table.column(DRAW).to_numpy(), table.column(TIME).to_numpy()))
        table = table.take(pa.array(order)).combine_chunks()
        split, place = table.column(SPLIT).to_numpy(), table.column(PLACE).to_numpy()
        rows = Partition(table, split, table.column(DRAW).to_numpy(), pa.table({}), {})
        kinds = audiences_of(self.encoder.experiment).values()
        encoders = [kind.from_log(rows, self.encoder.state) for kind in kinds]
        for partition, places in grouped(table.column(PARTITION).to_numpy()):
            encoded: dict[str, np.ndarray] = {}
            raw: dict[str, pa.Array] = {}
            for encode_at in encoders:
                own, tested = encode_at(places)
                encoded, raw = encoded | own, raw | tested
            if partition < 0:
                items = decoded(flat(table.column(ITEM))).take(pa.array(places))
                (self.folder / OF_ITEMS).write_table(f"{number:05d}.parquet", pa.table({ITEM: items, **raw}))
                continue
            made = self.folder / f"{MADE}/{partition:05d}"
            columns = {name: to_arrow(values) for name, values in encoded.items()}
            made.write_table(f"{number:05d}.parquet", pa.table({PLACE: place[places], **columns}))
            tests = place[places[split[places] == TEST]]
            made.write_table(f"{number:05d}.raw", pa.table({PLACE: tests, **raw}))


def with_last(table: pa.Table) -> pa.Table:
    """Add a test row of each item after all others: its audience is what a row to be scored knows of the item."""
    items = flat(table.column(ITEM)).unique()
    size = len(items)
    last = {
        ITEM: items,
        TIME: pa.array(np.full(size, np.inf)),
        SPLIT: pa.array(np.full(size, TEST, np.int8)),
        DRAW: pa.array(np.zeros(size)),
        PARTITION: pa.array(np.full(size, -1)),
        PLACE: pa.array(np.arange(size)),
    }
    return pa.concat_tables([table, pa.table(last)], promote_options="permissive")


def read_audiences(experiment: Experiment, folder: Folder, partition: int) -> Audiences:
    """Read the audiences of the rows of a partition of users."""
    kinds = audiences_of(experiment)
    if not kinds:
        return {}
    made = folder / f"{MADE}/{partition:05d}"
    whole, tested = (_by_place(made, suffix) for suffix in (".parquet", ".raw"))
    return {
        name: (
            {column: from_arrow(flat(whole.column(column))) for column in kind.input_columns()},
            {column: flat(tested.column(column)) for column in kind.input_columns()},
        )
        for name, kind in kinds.items()
    }


def _by_place(folder: Folder, suffix: str) -> pa.Table:
    tables = [folder.read_table(path.rpartition("/")[2]) for path in folder.files(suffix)]
    return pa.concat_tables(tables, promote_options="permissive").sort_by(PLACE)


def audiences_of_items(folder: Folder) -> pa.Table | None:
    """Return the item, as `ITEM`, and the raw lists of the audience that each item ends with; None without any."""
    files = (folder / OF_ITEMS).files(".parquet")
    tables = [(folder / OF_ITEMS).read_table(path.rpartition("/")[2]) for path in files]
    return pa.concat_tables(tables, promote_options="permissive") if tables else None
