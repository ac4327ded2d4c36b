"""Frames of any library as Arrow tables, each value with the meaning that it has in a file."""

from typing import Any

import pandas as pd
import pyarrow as pa

from mtl_ray.errors import InputError
from mtl_ray.values.canonical import from_cells


def to_arrow(frame: Any, where: str) -> pa.Table:
    """Return a frame as an Arrow table; the index of a pandas frame is left out.

    Args:
        frame: a pandas or polars frame, an Arrow table or batch, or any object with the Arrow C stream interface.
        where: begins the message of an error.

    Raises:
        InputError: it is no frame, or a column holds objects that are neither values nor lists of values.

    Example:
        >>> to_arrow(pd.DataFrame({"user_id": ["u1", 2], "age": [31, None]}), "users").to_pydict()
        {'user_id': ['u1', '2'], 'age': [31.0, None]}
    """
    try:
        if isinstance(frame, pd.DataFrame):
            columns = [_column(frame.iloc[:, place]) for place in range(frame.shape[1])]
            return pa.Table.from_arrays(columns, names=[str(name) for name in frame.columns])
        if isinstance(frame, pa.Table):
            return frame
        if isinstance(frame, pa.RecordBatch):
            return pa.Table.from_batches([frame])
        if hasattr(frame, "__arrow_c_stream__"):
            return pa.RecordBatchReader.from_stream(frame).read_all()
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise InputError(f"{where}: expected columns of values or of lists; {' '.join(str(error).split())}") from None
    raise InputError(f"{where}: expected a frame of pandas or polars, or an Arrow table; found {type(frame).__name__}")


def _column(values: pd.Series) -> pa.Array | pa.ChunkedArray:
    if values.dtype != object:
        return pa.array(values, from_pandas=True)
    return from_cells([value.tolist() if hasattr(value, "tolist") else value for value in values])
