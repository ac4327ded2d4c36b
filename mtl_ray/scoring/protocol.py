"""Read rows from a request and write predictions into its answer, in the JSON format of MLflow's scoring server.

{"dataframe_records": [{"user_id": "u1", "item_id": "i7"}, ...]}
{"dataframe_split": {"columns": ["user_id", "item_id"], "data": [["u1", "i7"], ...]}}
-> {"predictions": [{"click": 0.1, "rating": 3.9}, ...], "model_version": "3"}
"""

import itertools
import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from mtl_ray.data.preparation.row_checks import bad_inputs
from mtl_ray.errors import InputError
from mtl_ray.scoring.scorer import Scorer, as_column, not_finite
from mtl_ray.values.vectors import is_lists

FORMS = ("dataframe_records", "dataframe_split")

MAX_ROWS = 100_000
"""Rows of a request, which one process scores within seconds."""


BATCH_ROWS = 1024
"""Rows that a request's model takes at a time: more need memory and are no faster."""

PART_ROWS = 200
"""Rows of an answer that are written at a time: some milliseconds of work."""


def read_rows(body: bytes | bytearray, columns: Collection[str] | None = None, max_rows: int = MAX_ROWS) -> pa.Table:
    """Return the rows of a request.

    Args:
        body: the request.
        columns: columns to keep, all by default. What a client sends beside them costs no more than its own length.
        max_rows: most rows of a request.

    Raises:
        InputError: an invalid request; the message has the position of the mistake.
    """
    try:
        tree = json.loads(body)
    except ValueError as error:
        raise InputError(f"expected JSON; {error}") from None
    except RecursionError:
        raise InputError("expected JSON of rows; found lists or objects that are nested too deeply") from None
    given = [form for form in FORMS if isinstance(tree, dict) and form in tree]
    if len(given) != 1:
        found = _some(tree) if isinstance(tree, dict) else type(tree).__name__
        raise InputError(f"expected an object with either {' or '.join(FORMS)}; found {found or 'an empty one'}")
    read = _split if given[0] == "dataframe_split" else _records
    cells = read(tree[given[0]], columns, max_rows)
    return pa.table({name: _column(name, column) for name, column in cells})


_BAD_VALUE = (ValueError, TypeError, OverflowError, RecursionError, pa.ArrowException)
"""Errors of libraries for values that they cannot take."""

Cells = Iterator[tuple[str, list[Any]]]
"""The columns of a request by name."""


def _check_number(rows: list[Any], form: str, max_rows: int) -> None:
    if not rows:
        raise InputError(f"{form}: expected at least one row; found none")
    if len(rows) > max_rows:
        raise InputError(
            f"{form}: expected at most {max_rows:,} rows; found {len(rows):,}; send fewer at a time, or use "
            "`mtl-ray predict`"
        )


def _records(records: Any, columns: Collection[str] | None, max_rows: int) -> Cells:
    if not isinstance(records, list):
        raise InputError(f"dataframe_records: expected a list of objects; found {type(records).__name__}")
    _check_number(records, "dataframe_records", max_rows)
    for number, record in enumerate(records, 1):
        if not isinstance(record, dict):
            raise InputError(f"dataframe_records, row {number}: expected an object; found {type(record).__name__}")
    if columns is None:
        names = list(dict.fromkeys(name for record in records for name in record))
    else:
        names = [name for name in columns if any(name in record for record in records)]
    return ((name, [record.get(name) for record in records]) for name in names)


def _split(split: Any, columns: Collection[str] | None, max_rows: int) -> Cells:
    names, rows = (split.get("columns"), split.get("data")) if isinstance(split, dict) else (None, None)
    if not isinstance(names, list) or not isinstance(rows, list):
        raise InputError("dataframe_split: expected an object with the lists `columns` and `data`")
    _check_number(rows, "dataframe_split", max_rows)
    texts = [str(name) for name in names]
    if len(set(texts)) < len(texts):
        raise InputError(f"dataframe_split.columns: expected different names; found {_some(texts)}")
    for number, row in enumerate(rows, 1):
        if not isinstance(row, list) or len(row) != len(names):
            found = f"{len(row)}" if isinstance(row, list) else type(row).__name__
            raise InputError(f"dataframe_split.data, row {number}: expected {len(names)} values; found {found}")
    kept = [(place, name) for place, name in enumerate(texts) if columns is None or name in columns]
    return ((name, [row[place] for row in rows]) for place, name in kept)


def _some(names: Iterable[str], number: int = 10) -> str:
    """Return the first names as a line tells them, however many or long they are, and whatever they hold."""
    first = [name[:40].encode(errors="replace").decode() for name in itertools.islice(names, number + 1)]
    return ", ".join([*first[:number], *(["..."] if len(first) > number else [])])


def _column(name: str, cells: list[Any]) -> pa.Array:
    """Return the cells of a column. Raises InputError, with row and column, for one that no column can hold."""
    with suppress(*_BAD_VALUE):
        column = as_column(cells)
        if not pa.types.is_nested(column.type.value_type if is_lists(column.type) else column.type):
            return column
    for row, cell in enumerate(cells, 1):
        entries = cell if isinstance(cell, list) else [cell]
        if any(isinstance(entry, list | dict) for entry in entries):
            raise InputError(f"row {row}: {name} holds an object or nested lists; expected a value or a list of values")
        if any(isinstance(entry, str) and not _is_unicode(entry) for entry in entries):
            raise InputError(f"row {row}: {name} is no valid text; it holds half of a surrogate pair")
    present = [(row, isinstance(cell, list)) for row, cell in enumerate(cells, 1) if cell is not None]
    row, is_list = next(each for each in present if each[1] != present[0][1])
    found, others = ("a list", "a single value") if is_list else ("a single value", "a list")
    raise InputError(f"row {row}: {name} is {found}, in other rows it is {others}; expected the same in all rows")


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeError:
        return False
    return True


def read_inputs(scorer: Scorer, body: bytes | bytearray, max_rows: int = MAX_ROWS) -> dict[str, torch.Tensor]:
    """Read the rows of a request and encode them for the model.

    Raises:
        InputError: an invalid request or value; the message has its row and column. Nothing else that a body may hold
            gets through.
    """
    return encode_rows(scorer, read_rows(body, scorer.input_columns(), max_rows))


def encode_rows(scorer: Scorer, table: pa.Table) -> dict[str, torch.Tensor]:
    """Encode rows for the model. Raises InputError, with row and column, for an invalid value."""
    scorer.check_ids(table.column_names, "rows")
    try:
        reasons = bad_inputs(scorer.experiment, table)
        if reasons.null_count < len(reasons):
            row = int(np.flatnonzero(np.asarray(reasons.is_valid()))[0])
            raise InputError(f"row {row + 1}: {reasons[row].as_py()}")
        return scorer.inputs(table)
    except InputError:
        raise
    except _BAD_VALUE as error:
        raise InputError(_fault(scorer, table, error)) from None


def _fault(scorer: Scorer, table: pa.Table, error: Exception) -> str:
    """Return an encoder's error as one line that begins with the first column that cannot be encoded alone."""
    reason = " ".join(str(error).split())
    for name in scorer.experiment.features:
        column = scorer.experiment.column_of(name)
        if column in table.column_names:
            try:
                scorer.inputs(table, [name])
            except _BAD_VALUE:
                if not is_lists(table.schema.field(column).type):
                    return f"{column}: {reason}"
                row = int(np.flatnonzero(np.asarray(table.column(column).is_valid()))[0])
                return f"row {row + 1}: {column} is a list; expected a single value"
    return reason


def score_together(scorer: Scorer, requests: Sequence[Mapping[str, torch.Tensor]]) -> list[dict[str, np.ndarray]]:
    """Return the predictions of each of several requests, whose encoded rows the model takes in one pass.

    If one of them has many rows, each is scored alone, so that they are not copied.
    """
    sizes = [max(map(len, inputs.values())) for inputs in requests]
    if max(sizes) > BATCH_ROWS:
        return [scorer.predict(inputs, BATCH_ROWS) for inputs in requests]
    together = {name: torch.cat([inputs[name] for inputs in requests]) for name in requests[0]}
    scores = scorer.predict(together, BATCH_ROWS)
    ends = np.cumsum(sizes)
    return [
        {name: values[end - size : end] for name, values in scores.items()}
        for size, end in zip(sizes, ends, strict=True)
    ]


def answer_parts(scores: Mapping[str, np.ndarray], version: str) -> Iterator[bytes]:
    """Return the answer to a request in parts, which are written as they are asked for.

    Raises:
        InputError: a prediction is not finite; the message has its row and task. Nothing is written then.
    """
    for task, broken in not_finite(scores).items():
        if broken.any():
            raise InputError(
                f"row {int(broken.argmax()) + 1}: the prediction of {task} is not finite; expected numbers as in the "
                "training"
            )
    return _written(scores, version)


def _written(scores: Mapping[str, np.ndarray], version: str) -> Iterator[bytes]:
    start, last = '{"predictions": [', max(map(len, scores.values()))
    for first in range(0, last, PART_ROWS):
        columns = [values[first : first + PART_ROWS].tolist() for values in scores.values()]
        rows = json.dumps([dict(zip(scores, row, strict=True)) for row in zip(*columns, strict=True)], allow_nan=False)
        end = "" if first + PART_ROWS < last else f'], "model_version": {json.dumps(version)}}}'
        yield f"{start}{rows[1:-1]}{end}".encode()
        start = ", "


def write_answer(scores: Mapping[str, np.ndarray], version: str) -> bytes:
    """Return the answer to a request as a whole, see `answer_parts`."""
    return b"".join(answer_parts(scores, version))
