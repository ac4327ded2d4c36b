"""`prepare`: raw log to encoded data set, in three passes of Ray Data over pieces that fit in one process.

stage   read, check, deal into buckets of users
survey  per bucket: join, deduplicate, split, statistics of the training rows
write   per bucket: histories, encode, write
"""

import hashlib
import json
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from operator import add
from typing import Any

import numpy as np
import pyarrow as pa

from mtl_ray.data.bucket import SideTable, load_bucket
from mtl_ray.data.counts import count_staged, quality_report, refuse_bad
from mtl_ray.data.encode import Encoder, Vocabulary
from mtl_ray.data.items import ITEMS, items_of
from mtl_ray.data.leakage import VOCABULARY, leakage_report
from mtl_ray.data.parallel import parallel
from mtl_ray.data.quality import clean_table, log_columns
from mtl_ray.data.sources import Raw, open_source
from mtl_ray.data.split import (
    HISTOGRAM_BINS,
    TIME,
    Cuts,
    cuts_from_histogram,
    declared_cuts,
    earliest,
    first_of,
    needs_first,
    needs_histogram,
)
from mtl_ray.data.stage import Stage, describe
from mtl_ray.data.storage import Folder
from mtl_ray.data.survey import Survey, fitted_features, fitted_tasks, supports, survey, vocabularies
from mtl_ray.data.tally import NO_BORDERS, Tallies, slice_borders, statistics
from mtl_ray.data.write import Writer
from mtl_ray.errors import InputError
from mtl_ray.experiment import Experiment
from mtl_ray.experiment.data import TimeSplit
from mtl_ray.schema import SPLITS, Schema

FORMAT = 2
"""Version of the encoded data set; a new one makes old data sets be prepared anew."""

PIECE_ROWS = 1_000_000
"""Approximate rows of the log that one task stages."""


@dataclass(frozen=True)
class Prepared:
    """A finished data set."""

    folder: Folder
    schema: Schema
    quality: dict[str, Any]
    reused: bool
    """Whether it was there already."""


def prepare(experiment: Experiment, report: Callable[[str], None] = lambda _: None) -> Prepared:
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
    target = Folder(experiment.data.output) / _name(experiment, raw)
    columns = raw_columns(experiment, raw)
    if target.exists("schema.json"):
        report(f"data set {target} is already prepared")
        return open_prepared(target.location)
    aside = Folder(experiment.data.output).create() / f".{target.location.rpartition('/')[2]}-{uuid.uuid4().hex[:8]}"
    try:
        users, items, mended = side_tables(experiment, raw)
        num_buckets = max(1, -(-raw.num_rows // experiment.data.bucket_rows))
        report(f"staging {len(raw.chunks)} chunks into {num_buckets} buckets")
        pieces = _stage(Stage(experiment, columns, num_buckets, aside), raw)
        staged = count_staged(experiment, pieces, aside, target)
        times, borders = _cuts(experiment, pieces, aside, num_buckets)
        buckets = [b for b in range(num_buckets) if (aside / f"staging/{b:05d}").exists()]
        load = _Loader(experiment, aside, users, items, Cuts(times))
        if needs_first(experiment):
            load = replace(load, cuts=Cuts(shown=_first_of_items(load, buckets)))
        report(f"surveying {staged['rows'] - staged['bad']:,} rows")
        total = reduce(add, parallel(_Survey(load, borders), buckets))
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
            fingerprint=_fingerprint(experiment, raw),
            content_hash="",
            noise_floor=raw.noise_floor,
        )
        report(f"encoding {schema.num_rows['train']:,} training rows")
        offsets = {split: np.cumsum(rows[:, code]) - rows[:, code] for code, split in enumerate(SPLITS)}
        encoder, tallies = Encoder(experiment, schema, words), Tallies(total.tallies, borders)
        writer = Writer(encoder, supports(experiment, total), aside, tallies, offsets)
        digests = list(parallel(_Write(load, writer, buckets), range(len(buckets))))
        schema = schema.model_copy(update={"content_hash": hashlib.sha256("".join(digests).encode()).hexdigest()})
        write_vocabularies(aside, words)
        if (candidates := items_of(experiment, items, words[experiment.item])) is not None:
            aside.write_table(ITEMS, candidates)
        quality["leakage"] = leakage_report(experiment, aside)
        aside.write_json("quality.json", quality)
        (aside / "staging").delete()
        aside.write_text("schema.json", schema.model_dump_json(indent=2))
        aside.rename(target)
    except BaseException:
        aside.delete()
        raise
    return Prepared(target, schema, quality, reused=False)


def open_prepared(location: str) -> Prepared:
    """A data set made earlier. Raises InputError if `location` is not one."""
    folder = Folder(location)
    if not folder.exists("schema.json"):
        raise InputError(f"{location}: expected a prepared data set (a folder with schema.json); run `mtl-ray prepare`")
    schema = Schema.model_validate_json(folder.read_text("schema.json"))
    return Prepared(folder, schema, folder.read_json("quality.json"), reused=True)


def write_vocabularies(folder: Folder, words: dict[str, Vocabulary]) -> None:
    """Write every vocabulary as rows (feature, value, count, total) of `vocabulary.parquet`.

    The total is null but for statistics.
    """
    tables = []
    for name, v in words.items():
        total = pa.nulls(len(v), pa.float64()) if v.totals is None else v.totals
        feature = pa.array([name] * len(v), pa.string())
        tables.append(pa.table({"feature": feature, "value": v.values, "count": v.counts, "total": total}))
    folder.write_table(VOCABULARY, pa.concat_tables(tables))


@dataclass(frozen=True)
class _Loader:
    experiment: Experiment
    folder: Folder
    users: SideTable | None
    items: SideTable | None
    cuts: Cuts

    def __call__(self, bucket: int):
        staging = self.folder / f"staging/{bucket:05d}"
        return load_bucket(self.experiment, staging, self.users, self.items, self.cuts)


@dataclass(frozen=True)
class _Survey:
    load: _Loader
    borders: np.ndarray

    def __call__(self, bucket: int) -> Survey:
        loaded = self.load(bucket)
        result = survey(self.load.experiment, loaded, self.borders)
        if len(loaded.duplicates):
            quarantine = self.load.folder / "quarantine"
            quarantine.write_table(f"duplicates-{bucket:05d}.parquet", loaded.duplicates)
            result.duplicates = describe(loaded.duplicates, 5)
        return result


@dataclass(frozen=True)
class _Write:
    load: _Loader
    writer: Writer
    buckets: Sequence[int]

    def __call__(self, number: int) -> str:
        return self.writer(number, self.load(self.buckets[number]))


@dataclass(frozen=True)
class _StagePiece:
    stage: Stage
    raw_chunks: Sequence[Any]
    size: int

    def __call__(self, piece: int) -> dict[str, Any]:
        first = piece * self.size
        return self.stage(piece, first, self.raw_chunks[first : first + self.size])


@dataclass(frozen=True)
class _Histogram:
    folder: Folder
    low: float
    high: float

    def __call__(self, bucket: int) -> np.ndarray:
        counts = np.zeros(HISTOGRAM_BINS, np.int64)
        staging = self.folder / f"staging/{bucket:05d}"
        for path in staging.files(".parquet"):
            time = staging.read_table(path.rpartition("/")[2], columns=[TIME]).column(TIME).to_numpy()
            counts += np.histogram(time, bins=HISTOGRAM_BINS, range=(self.low, self.high))[0]
        return counts


@dataclass(frozen=True)
class _Earliest:
    load: _Loader

    def __call__(self, bucket: int) -> pa.Table:
        loaded = self.load(bucket)
        return earliest(self.load.experiment, loaded.table, loaded.draw)


def _first_of_items(load: _Loader, buckets: Sequence[int]) -> pa.Table:
    number = load.experiment.data.split.shown_items  # pyright: ignore[reportAttributeAccessIssue]
    return reduce(lambda a, b: first_of(pa.concat_tables([a, b]), number), parallel(_Earliest(load), buckets))


def _stage(stage: Stage, raw: Raw) -> list[dict[str, Any]]:
    num_pieces = max(1, min(len(raw.chunks), round(raw.num_rows / PIECE_ROWS)))
    size = -(-len(raw.chunks) // num_pieces)
    return list(parallel(_StagePiece(stage, raw.chunks, size), range(-(-len(raw.chunks) // size))))


def _side_table(
    experiment: Experiment, table: pa.Table | None, key: str, name: str
) -> tuple[SideTable | None, dict[str, int]]:
    if table is None:
        return None, {}
    clean, mended = clean_table(experiment, table, key, name)
    return SideTable.of(clean, key), mended


def _cuts(
    experiment: Experiment, pieces: list[dict[str, Any]], aside: Folder, num_buckets: int
) -> tuple[tuple[float, float] | None, np.ndarray]:
    """The cuts of the time split, and the borders of the slices of statistics."""
    split, sliced = experiment.data.split, experiment.data.time and any(statistics(experiment))
    cuts = declared_cuts(experiment, any(piece["is_timestamp"] for piece in pieces))
    if not sliced and not needs_histogram(experiment):
        return cuts, NO_BORDERS
    low, high = min(piece["low"] for piece in pieces), max(piece["high"] for piece in pieces)
    counts = reduce(add, parallel(_Histogram(aside, low, high), range(num_buckets)))
    if isinstance(split, TimeSplit) and cuts is None:
        cuts = cuts_from_histogram(counts, low, high, (split.valid, split.test))
    return cuts, slice_borders(counts, low, high, cuts[0] if cuts else None) if sliced else NO_BORDERS


def _name(experiment: Experiment, raw: Raw) -> str:
    return f"{experiment.name}-{_fingerprint(experiment, raw)[:12]}"


def find_prepared(experiment: Experiment, raw: Raw) -> Prepared | None:
    """The data set that `prepare` would make, if it is there already."""
    folder = Folder(experiment.data.output) / _name(experiment, raw)
    return open_prepared(folder.location) if folder.exists("schema.json") else None


def raw_columns(experiment: Experiment, raw: Raw) -> list[str]:
    """Columns to read from the log. Raises InputError if one that the experiment names is nowhere."""
    return log_columns(experiment, raw.columns, *(t.column_names if t else () for t in (raw.users, raw.items)))


def side_tables(experiment: Experiment, raw: Raw) -> tuple[SideTable | None, SideTable | None, dict[str, int]]:
    """Users and items table as they are joined, and what had to be mended in them."""
    users, mended_users = _side_table(experiment, raw.users, experiment.column_of(experiment.user), "users")
    items, mended_items = _side_table(experiment, raw.items, experiment.column_of(experiment.item), "items")
    return users, items, {**mended_users, **mended_items}


def _fingerprint(experiment: Experiment, raw: Raw) -> str:
    """Digest of the raw content and of all settings that change the encoded rows."""
    tree = experiment.model_dump(mode="json", include={"data", "features", "tasks"})
    tree["seed"] = experiment.data_seed
    for name in ("raw", "output", "cache", "max_bad_share", "seed"):
        del tree["data"][name]
    for feature in tree["features"].values():
        for name in ("dim", "encoder", "cold_start"):
            feature.pop(name, None)
    for task in tree["tasks"].values():
        relevant = task.pop("relevant", None)
        for name in ("weight", "metrics", "masked_input", "temperature", "dim"):
            task.pop(name, None)
        if task["kind"] == "ranking":  # of other kinds it concerns the metrics alone
            task["relevant"] = relevant
    text = json.dumps({"format": FORMAT, "raw": raw.fingerprint, **tree}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
