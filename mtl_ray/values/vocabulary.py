"""Vocabularies: from a value of a feature to its row of an embedding table."""

from collections.abc import Collection, Mapping, Sequence
from functools import cached_property

import numpy as np
import pandas as pd
import pyarrow as pa

from mtl_ray.schema import FIRST, NULL, UNKNOWN
from mtl_ray.storage import Folder
from mtl_ray.values.keys import flat, to_keys

VOCABULARY = "vocabulary.parquet"
"""File of a data set, and of a checkpoint, with the known values of every feature."""


class Vocabulary:
    """Known values of a feature; value i has the embedding row `FIRST + i`."""

    def __init__(self, values: pa.Array, counts: pa.Array, totals: pa.Array | None = None) -> None:
        self.values = values
        self.counts = counts
        self.totals = totals
        """Sum of the labels that `counts` counts, for a statistic."""

    @cached_property
    def _index(self) -> pd.Index:
        return _objects(self.values)

    def __len__(self) -> int:
        return len(self.values)

    def canonical(self, *, words: bool) -> "Vocabulary":
        """Return the vocabulary with values as `to_keys` writes them today; one of an earlier version may differ.

        Where that would give two values one key, the one that has it already keeps it, or else the first.
        """
        keys = to_keys(self.values, words=words)
        if keys.equals(self.values):
            return self
        old, new = _objects(self.values), _objects(keys)
        stays = (old == new) | new.isin(old) | new.duplicated()
        return Vocabulary(pa.array(np.where(stays, old, new), pa.string()), self.counts, self.totals)

    def rows(self, keys: pa.Array) -> np.ndarray:
        """Return (n,) int32 embedding rows of text keys: NULL for null, UNKNOWN for a value not in the vocabulary."""
        encoded = keys.dictionary_encode()
        known = self._positions(encoded.dictionary)
        rows = np.append(np.where(known < 0, UNKNOWN, known + FIRST), NULL).astype(np.int32)
        return rows[encoded.indices.fill_null(len(known)).to_numpy(zero_copy_only=False)]

    def support(self, keys: pa.Array) -> np.ndarray:
        """Return (n,) int32 training rows of each key, 0 for an unseen one."""
        encoded = keys.dictionary_encode()
        known = self._positions(encoded.dictionary)
        counts = self.counts.to_numpy(zero_copy_only=False)
        support = np.append(np.where(known < 0, 0, counts[known] if len(counts) else 0), 0).astype(np.int32)
        return support[encoded.indices.fill_null(len(known)).to_numpy(zero_copy_only=False)]

    def target_sums(self, keys: pa.Array) -> np.ndarray:
        """Return (n, 2) float64: the number of training labels of each key and their sum, 0 for an unseen one."""
        assert self.totals is not None
        encoded = keys.dictionary_encode()
        known = np.append(self._positions(encoded.dictionary), -1)
        numbers = np.stack([x.to_numpy(zero_copy_only=False) for x in (self.counts, self.totals)], 1).astype(float)
        numbers = np.append(numbers, np.zeros((1, 2)), 0)[known]
        return numbers[encoded.indices.fill_null(len(known) - 1).to_numpy(zero_copy_only=False)]

    def _positions(self, values: pa.Array) -> np.ndarray:
        return self._index.get_indexer(_objects(values))


def _objects(values: pa.Array) -> pd.Index:
    return pd.Index(values.to_numpy(zero_copy_only=False), dtype=object)


def write_vocabularies(folder: Folder, words: Mapping[str, Vocabulary]) -> None:
    """Write every vocabulary as rows (feature, value, count, total) of `vocabulary.parquet`.

    The total is null but for statistics.
    """
    tables = []
    for name, v in words.items():
        total = pa.nulls(len(v), pa.float64()) if v.totals is None else v.totals
        feature = pa.array([name] * len(v), pa.string())
        tables.append(pa.table({"feature": feature, "value": v.values, "count": v.counts, "total": total}))
    folder.write_table(VOCABULARY, pa.concat_tables(tables))


def read_vocabularies(folder: Folder, names: Sequence[str], words: Collection[str] = ()) -> dict[str, Vocabulary]:
    """Read the vocabularies of some features, kept in a data set or a checkpoint; those of `words` hold words."""
    table = folder.read_table(VOCABULARY)
    features = np.array(table.column("feature").to_pylist(), dtype=object)
    result = {}
    for name in names:
        rows = table.filter(pa.array(features == name))
        if len(rows):
            totals = flat(rows.column("total")) if "total" in rows.column_names else None
            kept = Vocabulary(flat(rows.column("value")), flat(rows.column("count")), totals)
            result[name] = kept.canonical(words=name in words)
        else:
            result[name] = Vocabulary(pa.array([], pa.string()), pa.array([], pa.int64()), pa.array([], pa.float64()))
    return result
