"""Read rows from a request and write predictions into its answer, in the JSON format of MLflow's scoring server.

{"dataframe_records": [{"user_id": "u1", "item_id": "i7"}, ...]}
{"dataframe_split": {"columns": ["user_id", "item_id"], "data": [["u1", "i7"], ...]}}
-> {"predictions": [{"click": 0.1, "rating": 3.9}, ...], "model_version": "3"}
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from mtl_ray.data.preparation.row_checks import bad_inputs
from mtl_ray.errors import InputError
from mtl_ray.scoring.scorer import Scorer, as_column

FORMS = ("dataframe_records", "dataframe_split")


def read_rows(body: bytes) -> pa.Table:
    """Return the rows of a request. Raises InputError, with the position of the mistake, for an invalid one."""
    try:
        tree = json.loads(body)
    except ValueError as error:
        raise InputError(f"expected JSON; {error}") from None
    given = [form for form in FORMS if isinstance(tree, dict) and form in tree]
    if len(given) != 1:
        found = ", ".join(tree) if isinstance(tree, dict) else type(tree).__name__
        raise InputError(f"expected an object with either {' or '.join(FORMS)}; found {found or 'an empty one'}")
    names, rows = (_split if given[0] == "dataframe_split" else _records)(tree[given[0]])
    if not rows:
        raise InputError(f"{given[0]}: expected at least one row; found none")
    return pa.table({name: as_column([row[place] for row in rows]) for place, name in enumerate(names)})


def _records(records: Any) -> tuple[list[str], list[list[Any]]]:
    if not isinstance(records, list):
        raise InputError(f"dataframe_records: expected a list of objects; found {type(records).__name__}")
    for number, record in enumerate(records, 1):
        if not isinstance(record, dict):
            raise InputError(f"dataframe_records, row {number}: expected an object; found {type(record).__name__}")
    names = list(dict.fromkeys(name for record in records for name in record))
    return names, [[record.get(name) for name in names] for record in records]


def _split(split: Any) -> tuple[list[str], list[list[Any]]]:
    names, rows = (split.get("columns"), split.get("data")) if isinstance(split, dict) else (None, None)
    if not isinstance(names, list) or not isinstance(rows, list):
        raise InputError("dataframe_split: expected an object with the lists `columns` and `data`")
    if len({str(name) for name in names}) < len(names):
        raise InputError(f"dataframe_split.columns: expected different names; found {', '.join(map(str, names))}")
    for number, row in enumerate(rows, 1):
        if not isinstance(row, list) or len(row) != len(names):
            found = f"{len(row)}" if isinstance(row, list) else type(row).__name__
            raise InputError(f"dataframe_split.data, row {number}: expected {len(names)} values; found {found}")
    return [str(name) for name in names], rows


def encode_rows(scorer: Scorer, table: pa.Table) -> dict[str, torch.Tensor]:
    """Encode rows for the model. Raises InputError, with row and column, for an invalid value."""
    scorer.check_ids(table.column_names, "rows")
    try:
        reasons = bad_inputs(scorer.experiment, table)
        if reasons.null_count < len(reasons):
            row = int(np.flatnonzero(np.asarray(reasons.is_valid()))[0])
            raise InputError(f"row {row + 1}: {reasons[row].as_py()}")
        return scorer.inputs(table)
    except (ValueError, pa.ArrowException) as error:
        raise InputError(" ".join(str(error).split())) from None


def score_together(scorer: Scorer, requests: Sequence[Mapping[str, torch.Tensor]]) -> list[dict[str, np.ndarray]]:
    """Return the predictions of each of several requests, whose encoded rows the model takes in one pass."""
    sizes = [max(map(len, inputs.values())) for inputs in requests]
    scores = scorer.predict({name: torch.cat([inputs[name] for inputs in requests]) for name in requests[0]})
    ends = np.cumsum(sizes)
    return [
        {name: values[end - size : end] for name, values in scores.items()}
        for size, end in zip(sizes, ends, strict=True)
    ]


def write_answer(scores: Mapping[str, np.ndarray], version: str) -> bytes:
    """Return the answer to a request."""
    columns = [values.tolist() for values in scores.values()]
    predictions = [dict(zip(scores, row, strict=True)) for row in zip(*columns, strict=True)]
    return json.dumps({"predictions": predictions, "model_version": version}).encode()
