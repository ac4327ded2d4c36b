"""Repeats of interactions: which of the rows of a partition are set aside."""

import numpy as np
import pandas as pd
import pyarrow as pa

from mtl_ray.config.data import Repeats
from mtl_ray.values.keys import flat
from mtl_ray.values.partition import ITEM, TIME, USER
from mtl_ray.values.vectors import digests, is_vectors

REASONS: dict[Repeats, str] = {
    "exact": "repeats an earlier row",
    "first": "has the user, item and time of an earlier row",
    "last": "has the user, item and time of a later row",
}
"""Why a row is set aside, by `data.repeats`."""

REPEATED_EVENT = "repeats an earlier event"
"""Why an event is set aside before rows are made."""


def repeats(table: pa.Table, wanted: Repeats) -> np.ndarray:
    """Return (n,) bool: true for a row that is set aside.

    Args:
        table: staged rows in time order.
        wanted: `data.repeats`.
    """
    found = np.zeros(len(table), bool)
    if wanted == "keep":
        return found
    time = table.column(TIME).to_numpy()
    follows = time[1:] == time[:-1]
    shared = np.append(False, follows) | np.append(follows, False)  # most instants have one row
    places = np.flatnonzero(shared)
    keys = _codes(table, [TIME, USER, ITEM], places)
    if wanted != "exact":
        found[places] = keys.duplicated(keep=wanted)
        return found
    # Few rows share the three, mostly: the other columns are compared among them alone.
    places = places[keys.duplicated(keep=False)]
    if len(places):
        found[places] = _codes(table, table.column_names, places).duplicated()
    return found


def _codes(table: pa.Table, names: list[str], places: np.ndarray) -> pd.DataFrame:
    """Return numbers that are equal where the values of a column are equal, for the rows at `places`."""
    rows = table.select(names).take(pa.array(places))
    return pd.DataFrame({name: _comparable(flat(rows.column(name))) for name in names})


def _comparable(values: pa.Array) -> pa.Array:
    if is_vectors(values.type):
        values = digests(values)
    elif pa.types.is_nested(values.type):
        values = pa.array([None if value is None else str(value) for value in values.to_pylist()], pa.string())
    encoded = values if pa.types.is_dictionary(values.type) else values.dictionary_encode()
    return encoded.indices.fill_null(-1)
