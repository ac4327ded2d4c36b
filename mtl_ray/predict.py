"""Batch scoring of raw rows through Ray Data."""

import uuid
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import ray.data
import torch

from mtl_ray.data.sources.delimited import MALFORMED
from mtl_ray.data.sources.files import open_log
from mtl_ray.data.storage import Folder
from mtl_ray.errors import InputError
from mtl_ray.score import Scorer
from mtl_ray.session import connect

ROWS = 16384


@dataclass(frozen=True)
class Predicted:
    """A finished scoring job."""

    folder: Folder
    num_rows: int


class _Score:
    """Loads the model once per actor, reads chunks and writes them with their predictions."""

    def __init__(self, model: str, output: str) -> None:
        torch.set_num_threads(1)
        self.scorer = Scorer(Path(model))
        self.output = Folder(output)

    def __call__(self, row: dict) -> dict:
        written = 0
        for first_row, read in row["chunk"].read():
            table = read
            if MALFORMED in read.column_names:
                self._refuse_malformed(row["chunk"].file, first_row, read)
                table = read.drop_columns([MALFORMED])
            scores = self.scorer.score(table)
            columns = {f"predicted_{name}": _column(values) for name, values in scores.items()}
            result = pa.table({**{n: table.column(n) for n in table.column_names}, **columns})
            self.output.write_table(f"part-{row['place']:05d}-{first_row:012d}.parquet", result)
            written += len(table)
        return {"rows": written}

    @staticmethod
    def _refuse_malformed(file: str, first_row: int, table: pa.Table) -> None:
        bad = np.flatnonzero(np.asarray(table.column(MALFORMED).is_valid()))
        if len(bad):
            raise InputError(
                f"{file} row {first_row + bad[0]}: expected as many fields as the header has; found a malformed line"
            )


def predict(model: Path, rows: str, output: str) -> Predicted:
    """Score a Parquet or CSV file, folder or glob of raw rows; input columns stay, in order, beside `predicted_TASK`.

    Args:
        model: checkpoint folder.
        rows: where the raw rows are.
        output: folder to make; written aside and renamed when whole.

    Raises:
        InputError: no such input, an id column is missing, or `output` exists.
    """
    scorer = Scorer(model)
    log = open_log(rows)
    experiment = scorer.experiment
    for name in (experiment.user, experiment.item):
        if experiment.column_of(name) not in log.columns:
            raise InputError(
                f"{rows}: expected a column `{experiment.column_of(name)}`, the id of the "
                f"{experiment.features[name].entity}; found {', '.join(log.columns)}"
            )
    target = Folder(output)
    if target.exists() and target.files():
        raise InputError(f"--output {output}: the folder is not empty; name a new one")
    aside = Folder(f"{target.location}.{uuid.uuid4().hex[:8]}.tmp").create()
    connect()
    try:
        chunks = [{"place": place, "chunk": chunk} for place, chunk in enumerate(log.chunks)]
        done = ray.data.from_items(chunks, override_num_blocks=len(chunks)).map(
            _Score,  # pyright: ignore[reportArgumentType] - Ray makes an actor of a class
            fn_constructor_args=(str(model.absolute()), aside.location),
            compute=ray.data.ActorPoolStrategy(min_size=1, max_size=max(1, min(len(chunks), 8))),
        )
        num_rows = int(np.sum([row["rows"] for row in done.take_all()]))
        target.delete()
        aside.rename(target)
    except BaseException:
        aside.delete()
        raise
    return Predicted(target, num_rows)


def _column(values: np.ndarray) -> pa.Array:
    return pa.array(values) if values.ndim == 1 else pa.array(list(values), pa.list_(pa.float64()))
