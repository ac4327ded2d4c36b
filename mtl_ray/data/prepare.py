"""`prepare`: raw log to encoded data set, in three passes of Ray Data over pieces that fit in one process.

stage   read, check, deal into buckets of users
survey  per bucket: join, deduplicate, split, statistics of the training rows
write   per bucket: histories, encode, write
"""

import hashlib
import uuid
from collections.abc import Callable
from dataclasses import replace
from functools import reduce
from operator import add

import numpy as np
import pyarrow as pa

from mtl_ray.config import Experiment
from mtl_ray.data.dataset import Prepared, open_prepared
from mtl_ray.data.encoding import Encoder
from mtl_ray.data.fingerprint import dataset_name, fingerprint_of
from mtl_ray.data.item_catalog import ITEMS, items_of
from mtl_ray.data.preparation.fit import fitted_features, fitted_tasks, supports, vocabularies
from mtl_ray.data.preparation.leakage import leakage_report
from mtl_ray.data.preparation.parallel import map_pieces_of
from mtl_ray.data.preparation.partition import SideTable
from mtl_ray.data.preparation.passes import (
    FitPartition,
    Loader,
    WritePartition,
    find_cuts,
    first_of_items,
    stage_pieces,
)
from mtl_ray.data.preparation.quality_report import count_staged, quality_report, refuse_bad
from mtl_ray.data.preparation.row_checks import clean_table, log_columns
from mtl_ray.data.preparation.split import Cuts, needs_first
from mtl_ray.data.preparation.stage import Stage
from mtl_ray.data.preparation.target_statistics import TargetStatistics
from mtl_ray.data.preparation.write import Writer
from mtl_ray.data.sources import Raw, open_source
from mtl_ray.errors import InputError
from mtl_ray.schema import SPLITS, Schema
from mtl_ray.storage import Folder, sweep
from mtl_ray.values.vocabulary import write_vocabularies


def prepare(experiment: Experiment, echo: Callable[[str], None] = lambda _: None) -> Prepared:
    """Make the encoded data set of `experiment`, or find it already made.

    The result is the same whatever the machine and the number of workers. It is written aside and renamed when whole.
    Users and items tables and vocabularies are held in one process; the log never is.

    Args:
        experiment: `data`, `features`, `tasks` and `data_seed` decide the result.
        report: receives a line of text at each step.

    Raises:
        InputError: files or columns are missing, the log is empty, or too many rows are bad.
    """
    raw = open_source(experiment)
    target = Folder(experiment.data.output) / dataset_name(experiment, raw)
    columns = raw_columns(experiment, raw)
    if target.exists("schema.json"):
        echo(f"data set {target} is already prepared")
        return open_prepared(target.location)
    map_pieces = map_pieces_of(experiment, raw.num_rows)
    sweep(Folder(experiment.data.output), f".{target.name}-")
    aside = Folder(experiment.data.output) / f".{target.name}-{uuid.uuid4().hex[:8]}"
    try:
        users, items, mended = side_tables(experiment, raw)
        num_buckets = max(1, -(-raw.num_rows // experiment.data.bucket_rows))
        echo(f"staging {len(raw.chunks)} chunks into {num_buckets} buckets")
        pieces = stage_pieces(Stage(experiment, columns, num_buckets, aside), raw, map_pieces)
        staged = count_staged(experiment, pieces, aside, target)
        times, borders = find_cuts(experiment, pieces, aside, num_buckets, map_pieces)
        buckets = [b for b in range(num_buckets) if (aside / f"staging/{b:05d}").exists()]
        load = Loader(experiment, aside, users, items, Cuts(times))
        if needs_first(experiment):
            load = replace(load, cuts=Cuts(first=first_of_items(load, buckets, map_pieces)))
        echo(f"surveying {staged['rows'] - staged['bad']:,} rows")
        total = reduce(add, map_pieces(FitPartition(load, borders), buckets))
        quality = quality_report(experiment, staged, total, mended)
        refuse_bad(experiment, quality, aside, target)
        rows = np.stack(total.num_rows)
        if not rows[:, 0].sum():
            raise InputError(
                f"data.split: no training rows are left of {int(rows.sum())}; see the settings of the split"
            )
        words = vocabularies(experiment, total)
        schema = Schema(
            features=fitted_features(experiment, total),
            tasks=fitted_tasks(experiment, total),
            num_rows={split: int(rows[:, code].sum()) for code, split in enumerate(SPLITS)},
            train_offsets=tuple(np.concatenate([[0], np.cumsum(rows[:, 0])]).tolist()),
            num_lanes=experiment.data.lanes,
            fingerprint=fingerprint_of(experiment, raw),
            content_hash="",
            noise_floor=raw.noise_floor,
        )
        echo(f"encoding {schema.num_rows['train']:,} training rows")
        offsets = {split: np.cumsum(rows[:, code]) - rows[:, code] for code, split in enumerate(SPLITS)}
        encoder, tallies = Encoder(experiment, schema, words), TargetStatistics(total.tallies, borders)
        writer = Writer(encoder, supports(experiment, total), aside, tallies, offsets)
        digests = list(map_pieces(WritePartition(load, writer, buckets), range(len(buckets))))
        schema = schema.model_copy(update={"content_hash": hashlib.sha256("".join(digests).encode()).hexdigest()})
        write_vocabularies(aside, words)
        if (candidates := items_of(experiment, items, words[experiment.item])) is not None:
            aside.write_table(ITEMS, candidates)
        quality["leakage"] = leakage_report(experiment, aside, map_pieces)
        aside.write_json("quality.json", quality)
        (aside / "staging").delete()
        aside.write_text("schema.json", schema.model_dump_json(indent=2))
        _give_name(aside, target)
    except BaseException:
        aside.delete()
        raise
    return Prepared(target, schema, quality, reused=False)


def _give_name(aside: Folder, target: Folder) -> None:
    """Rename the finished data set, unless another process was faster."""
    if not target.exists("schema.json"):
        try:
            aside.rename(target, last="schema.json")
        except OSError:
            if not target.exists("schema.json"):
                raise
    aside.delete()


def _side_table(
    experiment: Experiment, table: pa.Table | None, key: str, name: str
) -> tuple[SideTable | None, dict[str, int]]:
    if table is None:
        return None, {}
    clean, mended = clean_table(experiment, table, key, name)
    return SideTable.of(clean, key), mended


def find_prepared(experiment: Experiment, raw: Raw) -> Prepared | None:
    """The data set that `prepare` would make, if it is there already."""
    folder = Folder(experiment.data.output) / dataset_name(experiment, raw)
    return open_prepared(folder.location) if folder.exists("schema.json") else None


def raw_columns(experiment: Experiment, raw: Raw) -> list[str]:
    """Columns to read from the log. Raises InputError if one that the experiment names is nowhere."""
    return log_columns(experiment, raw.columns, *(t.column_names if t else () for t in (raw.users, raw.items)))


def side_tables(experiment: Experiment, raw: Raw) -> tuple[SideTable | None, SideTable | None, dict[str, int]]:
    """Users and items table as they are joined, and what had to be mended in them."""
    users, mended_users = _side_table(experiment, raw.users, experiment.column_of(experiment.user), "users")
    items, mended_items = _side_table(experiment, raw.items, experiment.column_of(experiment.item), "items")
    return users, items, {**mended_users, **mended_items}
