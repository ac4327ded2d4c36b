"""The log of a shop that grows from day to day, generated with planted truth: python jobs/growing_log.py FOLDER DAY

FOLDER/log/DAY.parquet has the interactions of the day, FOLDER/users.parquet and FOLDER/items.parquet those who have
arrived until its end, and FOLDER/rows/DAY.parquet what is to be scored: pairs of the next day with
what is known of both, without feedback.
"""

import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

sys.path.insert(0, str(Path(__file__).parents[1]))

from mtl_ray.config.data import SyntheticSourceConfig
from mtl_ray.data.sources.synthetic import open_source
from mtl_ray.data.sources.synthetic_factors import planted_world


def add_day(folder: Path, day: int, num_days: int = 5, rows: int = 20_000, users: int = 2000, items: int = 600) -> None:
    """Write a day of the log, the users and items so far, and the rows to score.

    Args:
        folder: of the shop.
        day: from 1.
        num_days: days that the log is made for; users and items go on arriving until the last one.
        rows: interactions of a day.
        users: that arrive in all, two in five of them before the first day; so do the `items`.
        items: see `users`.
    """
    source = SyntheticSourceConfig(
        num_users=users,
        num_items=items,
        num_interactions=(num_days + 1) * rows,
        new_user_share=0.6,
        new_item_share=0.6,
        arrival_window=1.0,
        label_share={"click": 1.0, "rating": 0.5, "purchase": 1.0},
    )
    log = pa.concat_tables([table for chunk in open_source(source).chunks for _, table in chunk.read()])
    world, arrived = planted_world(source), day / (num_days + 1)
    asked = log.slice(day * rows, rows // 10).select(["user_id", "item_id"])
    for side in (world.users.table, world.items.table):
        key, *attributes = side.column_names
        places = pc.call_function("index_in", [asked.column(key)], pc.SetLookupOptions(side.column(key)))
        for name in attributes:
            asked = asked.append_column(name, side.column(name).take(places))
    for name, table in (
        (f"log/{day}", log.slice((day - 1) * rows, rows)),
        (f"rows/{day}", asked),
        ("users", world.users.table.filter(pa.array(world.users.arrival <= arrived))),
        ("items", world.items.table.filter(pa.array(world.items.arrival <= arrived))),
    ):
        path = folder / f"{name}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table, path)


if __name__ == "__main__":
    add_day(Path(sys.argv[1]), int(sys.argv[2]))
