"""MovieLens 100K and 1M (Harper and Konstan 2015), as published."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from mtl_ray.config.data import DataConfig, MovieLensSourceConfig, Protocol
from mtl_ray.data.sources.base import Chunk, Raw
from mtl_ray.data.sources.csv_files import MALFORMED, CsvChunk
from mtl_ray.data.sources.download import local_folder
from mtl_ray.data.sources.files import fingerprint
from mtl_ray.data.sources.locate import File
from mtl_ray.errors import InputError

COLUMNS = ("user_id", "item_id", "rating", "timestamp")
USER_COLUMNS = ("user_id", "age", "gender", "occupation", "zip")
ADDRESS = "https://files.grouplens.org/datasets/movielens/"
ARCHIVES = {
    "100k": ("ml-100k.zip", "50d2a982c66986937beb9ffb3aa76efe955bf3d5c6b761f4e3a7cd717c6a3229"),
    "1m": ("ml-1m.zip", "a6898adb50b9ca05aa231689da44c217cb524e7ebd39d264c56e2832f2c54e20"),
}
"""Name and sha256 of the published zip."""
ENCODING = "latin-1"
BYTES_PER_ROW = 20
ROWS_PER_TABLE = 100_000
FOLDS, SPLIT = "folds.parquet", "split"
OCCUPATIONS_1M = (
    *("other", "academic/educator", "artist", "clerical/admin", "college/grad student", "customer service"),
    *("doctor/health care", "executive/managerial", "farmer", "homemaker", "K-12 student", "lawyer", "programmer"),
    *("retired", "sales/marketing", "scientist", "self-employed", "technician/engineer", "tradesman/craftsman"),
    *("unemployed", "writer"),
)
"""Names of the codes of 1M, from its README."""


def open_source(source: MovieLensSourceConfig, data: DataConfig) -> Raw:
    """Open the ratings, users and movies of the variant, from `data.raw` or by default from GroupLens.

    Raises:
        InputError: the download failed, or a file is missing, malformed or empty.
    """
    if source.variant == "1m" and (found := source.split or source.protocol):
        raise InputError(f"data.source: expected no split or protocol for 1m, found {found}; only 100k has them")
    if source.split and source.protocol:
        raise InputError(f"data.source: expected `split` or `protocol`, found both; `{source.protocol}` is of u.data")
    archive, sha256 = ARCHIVES[source.variant]
    if data.raw is None:
        folder = local_folder(ADDRESS + archive, data.cache, sha256)
    else:
        folder = local_folder(data.raw, data.cache)
    if source.variant == "100k":
        log_names = (f"{source.split}.base", f"{source.split}.test") if source.split else ("u.data",)
        side_names = ("u.user", "u.item", "u.genre", *((FOLDS,) if source.protocol else ()))
    else:
        log_names, side_names = ("ratings.dat",), ("users.dat", "movies.dat")
    for name in (*log_names, *side_names):
        if not (folder / name).is_file():
            raise InputError(
                f"{folder}: expected {name}, found no such file; the layout of MovieLens {source.variant} is "
                f"{', '.join((*log_names, *side_names))}"
            )
    num_bytes = sum((folder / name).stat().st_size for name in log_names)
    if not num_bytes:
        raise InputError(f"empty log: expected ratings in {folder}/{log_names[0]}, found none; restore the file")
    paths = [folder / name for name in log_names]
    is_100k = source.variant == "100k"
    chunks = [_tab_chunk(path) if is_100k else DoubleColonChunk(str(path)) for path in paths]
    if source.protocol:
        chunks = [ProtocolChunk(chunk, str(folder / FOLDS), source.protocol, source.fold) for chunk in chunks]
    return Raw(
        chunks=chunks,
        columns=(*COLUMNS, SPLIT) if source.protocol else COLUMNS,
        num_rows=max(1, num_bytes // BYTES_PER_ROW),
        fingerprint=fingerprint([File(str(folder / name)) for name in (*log_names, *side_names)]),
        users=_users_100k(folder) if is_100k else _users_1m(folder),
        items=_items_100k(folder) if is_100k else _items_1m(folder),
    )


@dataclass(frozen=True)
class DoubleColonChunk:
    """The ratings of 1M, whose fields are separated by two colons. Malformed lines are as in `CsvChunk`."""

    path: str

    @property
    def file(self) -> str:
        """Name of the file."""
        return Path(self.path).name

    def read(self) -> Iterator[tuple[int, pa.Table]]:
        """Yield tables of consecutive rows, every column as string."""
        first = 1
        with Path(self.path).open(encoding=ENCODING) as file:
            lines = (line.rstrip("\n") for line in file if line.strip())
            while block := list(islice(lines, ROWS_PER_TABLE)):
                rows = [line.split("::") for line in block]
                texts = [None if len(row) == len(COLUMNS) else line for row, line in zip(rows, block, strict=True)]
                nothing = [None] * len(COLUMNS)
                fields = zip(
                    *(row if text is None else nothing for row, text in zip(rows, texts, strict=True)), strict=True
                )
                columns = {
                    name: pa.array([value or None for value in values], pa.string())
                    for name, values in zip(COLUMNS, fields, strict=True)
                }
                yield first, pa.table({**columns, MALFORMED: pa.array(texts, pa.string())})
                first += len(block)


@dataclass(frozen=True)
class ProtocolChunk:
    """The ratings of 100K with a column `split`: the role of each rating when `fold` of `protocol` is tested."""

    ratings: Chunk
    folds: str
    """File with one row a rating, in the order of the log."""
    protocol: Protocol
    fold: int

    @property
    def file(self) -> str:
        """Name of the ratings' file."""
        return self.ratings.file

    def read(self) -> Iterator[tuple[int, pa.Table]]:
        """Yield the tables of the ratings with the column `split`.

        Raises:
            InputError: the file of folds belongs to another log, or cannot be read.
        """
        try:
            folds = pq.read_table(self.folds)
            parts = pa.array(parts_of(folds, self.protocol, self.fold))
        except (pa.ArrowInvalid, KeyError) as error:
            raise InputError(f"{self.folds}: expected a table of folds; {error}") from error
        for first, table in self.ratings.read():
            rows = folds.slice(first - 1, len(table))
            for name in COLUMNS[:2]:
                if rows[name].cast(pa.string()).combine_chunks() != table[name].combine_chunks():
                    raise InputError(f"{self.folds}: expected one row for each row of {self.file}, in its order")
            yield first, table.append_column(SPLIT, parts.slice(first - 1, len(table)))


def parts_of(folds: pa.Table, protocol: Protocol, fold: int) -> np.ndarray:
    """Return (n,) text: `test`, `shown`, `valid`, `train` or `rest`, see `MovieLensSourceConfig.protocol`.

    It is None for a row that a fold of new users and new items leaves out.
    """
    following = (fold + 1) % 5
    what, _, shots = protocol.partition("_k")
    by = {"cv5": ["cv5_fold"], "cold_both": ["user_fold", "item_fold"], "profile": ["user_fold"]}
    columns = by.get(what, [f"{what[5:]}_fold"])
    numbers = np.stack([folds[name].to_numpy() for name in columns])
    tested, held_out = (numbers == fold).all(0), (numbers == following).all(0)
    parts = np.where(tested, "test", np.where(held_out, "valid", "train")).astype(object)
    if shots:
        shown = folds[f"shown_{what[5:]}_k{shots}"].to_numpy(zero_copy_only=False)
        parts[tested & shown], parts[held_out & shown] = "shown", "train"
    if what == "profile":
        rows = pd.DataFrame({"user": folds["user_id"], "time": folds["timestamp"]})
        last = np.zeros(len(parts), bool)
        last[rows.sort_values("time", kind="stable").groupby("user").tail(1).index] = True
        parts[tested & ~last], parts[held_out & ~last] = "shown", "rest"
    if what == "cold_both":
        parts[~held_out & (numbers == following).any(0)] = "rest"
        parts[~tested & (numbers == fold).any(0)] = None
    return parts


def _tab_chunk(path: Path) -> Chunk:
    return CsvChunk(File(str(path)), "\t", names=COLUMNS, quote="")


def _users_100k(folder: Path) -> pa.Table:
    return _user_table(_rows(folder / "u.user", "|", len(USER_COLUMNS)))


def _users_1m(folder: Path) -> pa.Table:
    rows = []
    for user, gender, age, code, zip_code in _rows(folder / "users.dat", "::", len(USER_COLUMNS)):
        known = code.isdecimal() and int(code) < len(OCCUPATIONS_1M)
        rows.append([user, age, gender, OCCUPATIONS_1M[int(code)] if known else code, zip_code])
    return _user_table(rows)


def _user_table(rows: Sequence[Sequence[str]]) -> pa.Table:
    columns = {name: pa.array([row[i] or None for row in rows], pa.string()) for i, name in enumerate(USER_COLUMNS)}
    ages = [int(row[1]) if row[1].isdecimal() else None for row in rows]
    return pa.table({**columns, "age": pa.array(ages, pa.int64())})


def _items_100k(folder: Path) -> pa.Table:
    genres = [name for name, _ in sorted(_rows(folder / "u.genre", "|", 2), key=lambda row: int(row[1]))]
    items = []
    for item, title, released, _, _, *flags in _rows(folder / "u.item", "|", 5 + len(genres)):
        chosen = "|".join(genre for genre, flag in zip(genres, flags, strict=True) if flag == "1")
        items.append((item, title, released, chosen))
    return _item_table(items)


def _items_1m(folder: Path) -> pa.Table:
    return _item_table([(item, title, "", genres) for item, title, genres in _rows(folder / "movies.dat", "::", 3)])


def _item_table(items: Sequence[tuple[str, str, str, str]]) -> pa.Table:
    """Make the table of items from (id, title with its year, release date, genres)."""
    titles, years = [], []
    for _, title, released, _ in items:
        in_title = re.search(r"\s*\((\d{4})\)(?!.*\(\d{4}\))", title)
        in_date = re.search(r"\d{4}$", released)
        titles.append(title.replace(in_title[0], "").strip() if in_title else title.strip())
        years.append(int(in_date[0]) if in_date else int(in_title[1]) if in_title else None)
    return pa.table(
        {
            "item_id": pa.array([item for item, *_ in items], pa.string()),
            "title": pa.array([title or None for title in titles], pa.string()),
            "year": pa.array(years, pa.int64()),
            "genres": pa.array([genres or None for *_, genres in items], pa.string()),
        }
    )


def _rows(path: Path, separator: str, num_fields: int) -> list[list[str]]:
    """Read a side table; return the fields of each line."""
    rows = []
    for number, line in enumerate(path.read_text(encoding=ENCODING).split("\n"), start=1):
        if not line.strip():
            continue
        row = line.rstrip("\r").split(separator)
        if len(row) != num_fields:
            raise InputError(
                f"{path}, line {number}: expected {num_fields} fields apart by {separator}, found {len(row)}; "
                "restore the file as published"
            )
        rows.append([value.strip() for value in row])
    return rows
