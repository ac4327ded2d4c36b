"""Batch scoring of raw rows through Ray Data."""

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import ray.data
import torch

from mtl_ray.data.sources.delimited import MALFORMED
from mtl_ray.data.sources.files import Log, open_log
from mtl_ray.data.storage import Folder
from mtl_ray.errors import InputError
from mtl_ray.score import Scorer
from mtl_ray.session import connect

ROWS = 16384


@dataclass(frozen=True)
class Predicted:
    """A finished job over raw rows."""

    folder: Folder
    num_rows: int
    """Rows read."""


class _Apply:
    """Loads the model once per actor, reads chunks and writes what becomes of them."""

    def __init__(self, load: Callable[..., Callable[[pa.Table], pa.Table]], arguments: tuple, output: str) -> None:
        torch.set_num_threads(1)
        self.function = load(*arguments)
        self.output = Folder(output)

    def __call__(self, row: dict) -> dict:
        read = 0
        for first_row, table in row["chunk"].read():
            result = self.function(well_formed(row["chunk"].file, first_row, table))
            self.output.write_table(f"part-{row['place']:05d}-{first_row:012d}.parquet", result)
            read += len(table)
        return {"rows": read}


def well_formed(file: str, first_row: int, table: pa.Table) -> pa.Table:
    """The table without the mark of malformed lines. Raises InputError if there is one."""
    if MALFORMED not in table.column_names:
        return table
    bad = np.flatnonzero(np.asarray(table.column(MALFORMED).is_valid()))
    if len(bad):
        raise InputError(
            f"{file} row {first_row + bad[0]}: expected as many fields as the header has; found a malformed line"
        )
    return table.drop_columns([MALFORMED])


def read_whole(location: str) -> pa.Table:
    """All rows of a Parquet or CSV file, folder or glob, in this process. Raises InputError if it cannot be read."""
    chunks = open_log(location).chunks
    tables = (well_formed(chunk.file, *entry) for chunk in chunks for entry in chunk.read())
    return pa.concat_tables(tables, promote_options="permissive")


def over_chunks(
    log: Log, output: str, load: Callable[..., Callable[[pa.Table], pa.Table]], arguments: tuple
) -> Predicted:
    """Apply a function to every table of a log through Ray Data and write the results as Parquet.

    Args:
        log: what to read.
        output: folder to make; written aside and renamed when whole.
        load: called once in each actor with `arguments`; returns the function.
        arguments: small, picklable.

    Raises:
        InputError: `output` is not empty, or a line of the log is malformed.
    """
    target = Folder(output)
    if target.exists() and target.files():
        raise InputError(f"--output {output}: the folder is not empty; name a new one")
    aside = Folder(f"{target.location}.{uuid.uuid4().hex[:8]}.tmp").create()
    connect()
    try:
        chunks = [{"place": place, "chunk": chunk} for place, chunk in enumerate(log.chunks)]
        done = ray.data.from_items(chunks, override_num_blocks=len(chunks)).map(
            _Apply,  # pyright: ignore[reportArgumentType] - Ray makes an actor of a class
            fn_constructor_args=(load, arguments, aside.location),
            compute=ray.data.ActorPoolStrategy(min_size=1, max_size=max(1, min(len(chunks), 8))),
        )
        num_rows = int(np.sum([row["rows"] for row in done.take_all()]))
        target.delete()
        aside.rename(target)
    except BaseException:
        aside.delete()
        raise
    return Predicted(target, num_rows)


class _Score:
    """Rows with their predictions beside them."""

    def __init__(self, model: str) -> None:
        self.scorer = Scorer(Path(model))

    def __call__(self, table: pa.Table) -> pa.Table:
        scores = self.scorer.score(table)
        columns = {f"predicted_{name}": _column(values) for name, values in scores.items()}
        return pa.table({**{n: table.column(n) for n in table.column_names}, **columns})


def predict(model: Path, rows: str, output: str) -> Predicted:
    """Score a Parquet or CSV file, folder or glob of raw rows; input columns stay, in order, beside `predicted_TASK`.

    Args:
        model: checkpoint folder.
        rows: where the raw rows are.
        output: folder to make; written aside and renamed when whole.

    Raises:
        InputError: no such input, an id column is missing, or `output` exists.
    """
    log = open_rows(Scorer(model), rows)
    return over_chunks(log, output, _Score, (str(model.absolute()),))


def open_rows(scorer: Scorer, rows: str) -> Log:
    """Raw rows to score. Raises InputError if there are none or an id column is missing."""
    log, experiment = open_log(rows), scorer.experiment
    for name in (experiment.user, experiment.item):
        if experiment.column_of(name) not in log.columns:
            raise InputError(
                f"{rows}: expected a column `{experiment.column_of(name)}`, the id of the "
                f"{experiment.features[name].entity}; found {', '.join(log.columns)}"
            )
    return log


def _column(values: np.ndarray) -> pa.Array:
    return pa.array(values) if values.ndim == 1 else pa.array(list(values), pa.list_(pa.float64()))
