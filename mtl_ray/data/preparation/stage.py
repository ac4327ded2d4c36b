"""First pass of `prepare`: read the log once, check each row and deal the rows into partitions of users.

All rows of a user are in one partition. So later passes see whole histories and every duplicate with one partition in
memory, however long the log is.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mtl_ray.config import Experiment
from mtl_ray.data.preparation.deal import dealt
from mtl_ray.data.preparation.lost_cells import Lost, added, formatted_in_log, lost_cells
from mtl_ray.data.preparation.row_checks import bad_rows, keys_of
from mtl_ray.data.preparation.row_digests import row_digests
from mtl_ray.data.sources import Chunk
from mtl_ray.data.sources.csv_files import MALFORMED
from mtl_ray.parquet import is_text
from mtl_ray.storage import Folder, naming
from mtl_ray.values.canonical import decoded, flat, plain
from mtl_ray.values.columns import plain_table
from mtl_ray.values.partition import FILE, ROW, TIME, USER
from mtl_ray.values.times import parse_times

DEALS_PER_FILE = 16
"""The most times that rows are added to a file: what Parquet notes of each stays in memory until the file is closed."""


class First(NamedTuple):
    """The first rows of a log."""

    parts: list[pa.Table]
    """The good ones, staged."""
    num_rows: int
    reasons: Counter[str]
    """The bad ones by reason."""
    lost: dict[str, Lost]
    is_whole: bool
    """True if the log has no more."""

    @property
    def staged(self) -> pa.Table | None:
        """The good rows as one table; None if there is none."""
        return pa.concat_tables(self.parts, promote_options="permissive") if sum(map(len, self.parts)) else None


@dataclass(frozen=True)
class Stage:
    """A writer of `staging/PARTITION/PIECE-PART.parquet` and `quarantine/PIECE.parquet` from consecutive chunks."""

    experiment: Experiment
    columns: Sequence[str]
    """Raw columns to keep."""
    num_partitions: int
    folder: Folder
    joined: frozenset[str] = frozenset()
    """Features that are read from another table than the log."""
    target: ClassVar[str] = "staging"
    """Folder of the partitions."""
    rejected: ClassVar[str] = ""
    """Beginning of the names of files in quarantine."""

    def __call__(self, piece: int, chunks: Sequence[Chunk]) -> dict[str, Any]:
        """Stage one piece of the log; return counts: rows, bad rows by reason, the first, lost cells, time range."""
        writers: dict[str, pq.ParquetWriter] = {}
        quarantine: dict[str, pq.ParquetWriter] = {}
        total, reasons, examples, lost, num_deals = 0, Counter(), [], [], 0
        low, high, dates, numbers = float("inf"), float("-inf"), 0, 0
        waiting: list[pa.Table] = []  # dealt together: the parts of a single table are small and slow to write
        for chunk in chunks:
            for first_row, read in chunk.read():
                total += len(read)
                table, file, rows = placed(read, chunk.file, first_row)
                reason, staged, num_dates = self.checked(table, file, rows)
                good = np.asarray(reason.is_null())
                lost.append(self.lost(table, reason, file, rows))
                if not good.all():
                    is_bad = pa.array(~good)
                    bad = quarantined(table.filter(is_bad), reason.drop_null(), file.filter(is_bad), rows[~good])
                    self._write(quarantine, f"quarantine/{self.rejected}{piece:06d}.parquet", bad)
                    reasons.update(reason.drop_null().to_pylist())
                    if len(examples) < 5:
                        examples += describe(bad, 5 - len(examples))
                dates, numbers = dates + num_dates, numbers + len(staged) - num_dates
                if len(staged):
                    low = min(low, float(staged.column(TIME).to_numpy().min()))
                    high = max(high, float(staged.column(TIME).to_numpy().max()))
                waiting.append(staged)
                if sum(map(len, waiting)) >= self.experiment.data.bucket_rows:
                    self._deal(writers, f"{piece:06d}-{num_deals // DEALS_PER_FILE:04d}", waiting)
                    waiting = []
                    num_deals += 1
                    if num_deals % DEALS_PER_FILE == 0:
                        self._close(writers)
        self._deal(writers, f"{piece:06d}-{num_deals // DEALS_PER_FILE:04d}", waiting)
        self._close(writers)
        self._close(quarantine)
        return {
            "rows": total,
            "reasons": dict(reasons),
            "examples": examples,
            "lost": added(lost),
            "low": low,
            "high": high,
            "dates": dates,
            "numbers": numbers,
        }

    def first(self, chunks: Iterable[Chunk], limit: int) -> "First":
        """Check the first rows of the log, at least `limit` of them if it has so many, and keep the good ones here."""
        parts, num_rows, reasons, lost = [], 0, Counter[str](), []
        for file, first_row, read in ((chunk.file, *entry) for chunk in chunks for entry in chunk.read()):
            if num_rows >= limit:
                return First(parts, num_rows, reasons, added(lost), is_whole=False)
            table, place, rows = placed(read, file, first_row)
            reason, staged, _ = self.checked(table, place, rows)
            parts.append(staged)
            reasons.update(reason.drop_null().to_pylist())
            lost.append(self.lost(table, reason, place, rows))
            num_rows += len(read)
        return First(parts, num_rows, reasons, added(lost), is_whole=True)

    def checked(self, table: pa.Table, file: pa.Array, rows: np.ndarray) -> tuple[pa.Array, pa.Table, int]:
        """Check rows of the log, with (n,) the names of their files and (n,) int64 their numbers there.

        Returns:
            (n,) text that says why a row is bad, null for a good one; the good rows with their keys, time and place in
            the log; how many of their times are timestamps or dates, not numbers.
        """
        table = plain_table(table, self.columns)
        keys = keys_of(self.experiment, table)
        reason = self._reasons(table, keys)
        good = reason.is_null()
        unread = [place for place, name in enumerate(table.column_names) if name not in {*self.columns, MALFORMED}]
        others = table.select(unread).filter(good).columns if self._compares_all else []
        table, keys, file = table.select(self.columns).filter(good), keys.filter(good), file.filter(good)
        time_column = self.experiment.data.time
        times, is_date = np.zeros(len(table)), np.zeros(len(table), bool)
        if time_column:
            data = self.experiment.data
            times, is_date, _ = parse_times(flat(table.column(time_column)), data.null_words, data.time_format)
        own = {
            **{name: flat(keys.column(name)) for name in keys.column_names},
            TIME: pa.array(times),
            "_file": file,
            "_row": pa.array(rows[np.asarray(good)]),
        }
        if others:
            own["_others"] = pa.array(row_digests(others))
        # Dictionaries differ from table to table, so plain values are staged.
        raw = {f"raw.{name}": decoded(flat(table.column(name))) for name in self.columns}
        return reason, pa.table({**own, **raw}), int(is_date.sum())

    def lost(self, table: pa.Table, reason: pa.Array, file: pa.Array, rows: np.ndarray) -> dict[str, Lost]:
        """Count the cells that formats cannot read, of the rows that `checked` gave no reason against."""
        formatted = formatted_in_log(self.experiment, table.column_names, self.joined)
        if not formatted:
            return {}
        good = reason.is_null()
        table = table.select(list({each.column for each in formatted})).filter(good)
        file, rows = file.filter(good), rows[np.asarray(good)]
        return lost_cells(self.experiment, formatted, table, lambda row: f"{file[row]} row {rows[row]}")

    def _reasons(self, table: pa.Table, keys: pa.Table) -> pa.Array:
        """Return (n,) text that says why a row is bad, null for a good one."""
        return bad_rows(self.experiment, table, keys, self.joined)

    @property
    def _compares_all(self) -> bool:
        """True if rows are repeats only where columns that nothing reads are equal, too."""
        return self.experiment.data.repeats == "exact"

    def _deal(self, writers: dict[str, pq.ParquetWriter], file: str, tables: list[pa.Table]) -> None:
        if tables:
            staged = pa.concat_tables(tables, promote_options="permissive")
            for partition, part in dealt(staged, USER, self.num_partitions):
                self._write(writers, f"{self.target}/{partition:05d}/{file}.parquet", part)

    def _write(self, writers: dict[str, pq.ParquetWriter], name: str, table: pa.Table) -> None:
        if name not in writers:
            parent, _, file = name.rpartition("/")
            folder = (self.folder / parent).create()
            texts = [field.name for field in table.schema if is_text(field.type)]
            # The files are read whole and then deleted: nobody skips rows by statistics.
            writers[name] = pq.ParquetWriter(
                f"{folder.path}/{file}",
                table.schema,
                filesystem=folder.fs,
                use_dictionary=texts,  # pyright: ignore[reportArgumentType] - column names are allowed, too
                write_statistics=False,
            )
        with naming(f"{self.folder.path}/{name}"):
            writers[name].write_table(table.cast(writers[name].schema))

    def _close(self, writers: dict[str, pq.ParquetWriter]) -> None:
        for name, writer in writers.items():
            with naming(f"{self.folder.path}/{name}"):
                writer.close()
        writers.clear()


def placed(table: pa.Table, file: str, first_row: int) -> tuple[pa.Table, pa.Array, np.ndarray]:
    """Return rows of a chunk, (n,) the names of their files and (n,) int64 their numbers there, see `Chunk.read`."""
    if FILE in table.column_names:
        return table.drop_columns([FILE, ROW]), flat(table.column(FILE)), table.column(ROW).to_numpy()
    files = pa.array([file]).take(pa.array(np.zeros(len(table), np.int32)))
    return table, files, np.arange(first_row, first_row + len(table))


def quarantined(table: pa.Table, reason: pa.Array, file: str | pa.Array, rows: np.ndarray) -> pa.Table:
    """Return bad rows as text, as they were in the log, with columns `reason`, `file` and `row` before them.

    A column of the log that has one of these names gets `raw.` before its own.
    """
    where = {
        "reason": reason,
        "file": pa.array([file] * len(table), pa.string()) if isinstance(file, str) else file,
        "row": pa.array(rows.astype(np.int64)),
    }
    columns = dict(where)
    for name, values in zip(table.column_names, table.columns, strict=True):
        shown = "_malformed" if name == MALFORMED else name
        while shown in columns:
            shown = f"raw.{shown}"
        columns[shown] = _as_text(plain(values))
    return pa.table(columns)


def describe(bad: pa.Table, limit: int) -> list[str]:
    """Say where the first bad rows are: "u.data row 17: rating is not a number"."""
    return [f"{row['file']} row {row['row']}: {row['reason']}" for row in bad.slice(0, limit).to_pylist()]


def _as_text(values: pa.Array) -> pa.Array:
    if pa.types.is_nested(values.type):
        return pa.array([None if v is None else str(v) for v in values.to_pylist()], pa.string())
    return values.cast(pa.string())
