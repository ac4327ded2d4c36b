"""`prepare`: from the raw log to the encoded data set, in passes over pieces that fit in one process.

make   of a log of events alone: deal the events into partitions of users, make the rows of each
stage  read and check rows, deal them into partitions of users
fit    per partition: join, remove duplicates, split, collect statistics of the training rows
list   for audiences alone: per partition of items, list the users of each
write  per partition: build histories, encode, write
"""

import hashlib
import uuid
from collections.abc import Callable
from dataclasses import replace
from functools import reduce
from operator import add
from typing import Any

import numpy as np

from mtl_ray.config import Experiment
from mtl_ray.data.attribute_catalog import described, refuse_undescribed, write_catalogs
from mtl_ray.data.dataset import Prepared, open_prepared
from mtl_ray.data.encoding import Encoder
from mtl_ray.data.fingerprint import dataset_of
from mtl_ray.data.item_catalog import ITEMS, items_of
from mtl_ray.data.preparation.audiences import DealByItem, MakeAudiences, audiences_of, audiences_of_items
from mtl_ray.data.preparation.columns import Columns
from mtl_ray.data.preparation.empty_splits import refuse_empty_splits
from mtl_ray.data.preparation.events import make_rows
from mtl_ray.data.preparation.findings import refuse_lost_join
from mtl_ray.data.preparation.fit import (
    FitStatistics,
    fitted_features,
    fitted_tasks,
    refuse_useless_tasks,
    supports,
    vocabularies,
)
from mtl_ray.data.preparation.giveaways import Sampler, giveaways
from mtl_ray.data.preparation.leakage import leakage_report
from mtl_ray.data.preparation.lost_cells import added, refuse_lost_cells
from mtl_ray.data.preparation.parallel import MapPieces, map_pieces_of
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
from mtl_ray.data.preparation.side_tables import raw_columns, side_tables
from mtl_ray.data.preparation.split import needs_first
from mtl_ray.data.preparation.stage import Stage
from mtl_ray.data.preparation.write import Writer
from mtl_ray.data.sources import Raw, open_source
from mtl_ray.errors import InputError
from mtl_ray.schema import SPLITS, Schema
from mtl_ray.storage import Folder, sweep
from mtl_ray.values.vocabulary import Vocabulary, write_vocabularies


def prepare(
    experiment: Experiment,
    *,
    interactions: Any = None,
    users: Any = None,
    items: Any = None,
    echo: Callable[[str], None] = lambda _: None,
) -> Prepared:
    """Make the encoded data set of `experiment`, or find it already made.

    The result is the same whatever the machine and the number of workers. It is written aside and renamed when whole.
    This process holds the users and items tables and the vocabularies; no process ever holds a whole large log.

    Args:
        experiment: `data`, `features`, `tasks` and `data_seed` decide the result.
        interactions: for `data.source: memory`, the log: a pandas or polars frame, an Arrow table, or a data set of Ray
            Data, with a row per interaction and the columns that the experiment names. The same rows in the same order
            are the same data set. For `events` without a path, such a frame with a row per event.
        users: with it, the table of users as such a frame, with a row per user; optional.
        items: with it, the table of items, likewise.
        echo: receives a line of text at each step.

    Raises:
        InputError: files, frames or columns are missing, the log is empty, too many rows are bad, or `data.output`
            cannot be written.

    Example:
        >>> prepare(shop, interactions=log, users=users, items=items).schema.num_rows
        {'train': ..., 'valid': ..., 'test': ...}
    """
    raw = open_source(experiment, interactions, users, items)
    output = Folder(experiment.data.output)
    target, fingerprint = dataset_of(experiment, raw)
    columns = raw_columns(experiment, raw)
    if target.exists("schema.json"):
        echo(f"data set {target} is already prepared")
        prepared = open_prepared(target.location)
        refuse_lost_join(experiment, prepared.quality)
        if experiment.balancing.comparable_losses and not any(task.shares for task in prepared.schema.tasks.values()):
            echo(
                "it was made before losses were comparable, so they are weighted as they are; remove it to make it anew"
            )
        return prepared
    map_pieces = map_pieces_of(experiment, raw.num_rows)
    sweep(output, f".{target.name}-")
    aside = output / f".{target.name}-{uuid.uuid4().hex[:8]}"
    try:
        schema, quality = _write_dataset(experiment, raw, columns, aside, target, fingerprint, map_pieces, echo)
        _rename(aside, target)
    except BaseException:
        aside.delete()
        raise
    return Prepared(target, schema, quality, reused=False)


def find_prepared(experiment: Experiment, raw: Raw) -> Prepared | None:
    """Return the data set that `prepare` would make, if it is there already."""
    folder, _ = dataset_of(experiment, raw)
    return open_prepared(folder.location) if folder.exists("schema.json") else None


def _write_dataset(
    experiment: Experiment,
    raw: Raw,
    columns: Columns,
    aside: Folder,
    target: Folder,
    fingerprint: str,
    map_pieces: MapPieces,
    echo: Callable[[str], None],
) -> tuple[Schema, dict[str, Any]]:
    """Write all files of the data set to `aside`; return its schema and the content of `quality.json`."""
    users, items, mended, lost = side_tables(experiment, raw, columns)
    tables = {"user": users, "item": items}
    refuse_undescribed(experiment, tables)
    pieces, staged, num_partitions = _stage(experiment, raw, columns, aside, target, map_pieces, echo)
    staged["lost"] = added([lost, staged["lost"]])
    refuse_lost_cells(staged["lost"])

    cuts = find_cuts(experiment, pieces, aside, num_partitions, map_pieces)
    partitions = [number for number in range(num_partitions) if (aside / f"staging/{number:05d}").exists()]
    load = Loader(experiment, aside, users, items, cuts)
    if needs_first(experiment):
        load = replace(load, cuts=replace(cuts, first=first_of_items(load, partitions, map_pieces)))
    echo(f"fitting on {staged['rows'] - staged['bad']:,} rows")
    deal = DealByItem(experiment, aside, num_partitions) if audiences_of(experiment) else None
    total = reduce(add, map_pieces(FitPartition(load, deal), partitions))
    total.declared.refuse_absent(experiment, {chunk.file for chunk in raw.chunks})
    quality = quality_report(experiment, staged, total, mended)
    refuse_bad(experiment, quality, aside, target)
    refuse_lost_join(experiment, quality, *example_keys(experiment, total, users, items))

    known = vocabularies(experiment, total)
    known |= described(experiment, tables, known)
    schema = _schema(experiment, raw, total, known, fingerprint)
    refuse_useless_tasks(experiment, total)
    rows = np.stack(total.num_rows)
    offsets = {split: np.cumsum(rows[:, code]) - rows[:, code] for code, split in enumerate(SPLITS)}
    encoder = Encoder(experiment, schema, known)
    if deal is not None:
        echo("listing the users of each item")
        list(map_pieces(MakeAudiences(encoder, aside), range(num_partitions)))
    echo(f"encoding {schema.num_rows['train']:,} training rows")
    statistics = {name: total.features[name] for name, kind in encoder.kinds.items() if kind.out_of_fold}
    writer = Writer(encoder, supports(experiment, total), aside, statistics, offsets, Sampler.of(encoder))
    written = list(map_pieces(WritePartition(load, writer, partitions), range(len(partitions))))
    digests = "".join(part.digest for part in written)
    schema = schema.model_copy(update={"content_hash": hashlib.sha256(digests.encode()).hexdigest()})
    write_vocabularies(aside, known)
    write_catalogs(aside, encoder, tables)
    if (candidates := items_of(experiment, items, known[experiment.item], audiences_of_items(aside))) is not None:
        aside.write_table(ITEMS, candidates)
    quality["giveaways"] = giveaways(encoder, (part.sample for part in written))
    quality["leakage"] = leakage_report(experiment, aside, map_pieces)
    aside.write_json("quality.json", quality)
    (aside / "staging").delete()
    aside.write_text("schema.json", schema.model_dump_json(indent=2))
    if open_prepared(aside.location).schema != schema:
        raise RuntimeError(f"{aside}: schema.json is not read back as it was written; please report this")
    return schema, quality


def _stage(
    experiment: Experiment,
    raw: Raw,
    columns: Columns,
    aside: Folder,
    target: Folder,
    map_pieces: MapPieces,
    echo: Callable[[str], None],
) -> tuple[list[dict[str, Any]], dict[str, Any], int]:
    """Write the checked rows of the log, made of its events if it has these, to partitions below `aside`.

    Returns:
        What each piece says of its rows, the same of all, and the number of partitions.
    """
    log, events = raw, None
    if raw.events is not None:
        log, events = make_rows(experiment, raw, columns, aside, target, map_pieces, echo)
    num_partitions = max(1, -(-log.num_rows // experiment.data.bucket_rows))
    echo(f"staging {len(log.chunks)} chunks into {num_partitions} partitions")
    stage = Stage(experiment, columns.log, num_partitions, aside, columns.joined)
    pieces = stage_pieces(stage, log.chunks, log.num_rows, map_pieces)
    (aside / "rows").delete()
    return pieces, count_staged(experiment, pieces, aside, target) | {"events": events}, num_partitions


def _schema(
    experiment: Experiment, raw: Raw, total: FitStatistics, known: dict[str, Vocabulary], fingerprint: str
) -> Schema:
    """Return the schema without its content hash. Raises InputError if a split that is needed has no rows."""
    rows = np.stack(total.num_rows)
    if not rows[:, 0].sum():
        raise InputError(f"data.split: no training rows are left of {int(rows.sum())}; see the settings of the split")
    num_rows = {split: int(rows[:, code].sum()) for code, split in enumerate(SPLITS)}
    refuse_empty_splits(experiment, num_rows)
    schema = Schema(
        features=fitted_features(experiment, total, known),
        tasks=fitted_tasks(experiment, total),
        num_rows=num_rows,
        train_offsets=tuple(np.concatenate([[0], np.cumsum(rows[:, 0])]).tolist()),
        num_lanes=experiment.data.lanes,
        fingerprint=fingerprint,
        content_hash="",
        noise_floor=raw.noise_floor,
    )
    if found := schema.not_finite():
        raise InputError(
            f"{found[0]}: expected a finite number over the training rows, found none; their values are too large: "
            "divide them, or leave the column out"
        )
    return schema


def example_keys(
    experiment: Experiment, total: FitStatistics, users: SideTable | None, items: SideTable | None
) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """Return some ids of the training rows and some of the tables, by entity."""
    names, tables = {"user": experiment.user, "item": experiment.item}, {"user": users, "item": items}
    return (
        {e: supports(experiment, total)[name].values.slice(0, 3).to_pylist() for e, name in names.items()},
        {e: table.keys.slice(0, 3).to_pylist() for e, table in tables.items() if table},
    )


def _rename(aside: Folder, target: Folder) -> None:
    """Give the finished data set its name, unless another process was faster."""
    if not target.exists("schema.json"):
        try:
            aside.rename(target, last="schema.json")
        except OSError:
            if not target.exists("schema.json"):
                raise
    aside.delete()
