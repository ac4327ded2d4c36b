"""How often each value occurs, added up over partitions."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mtl_ray.values.keys import flat, to_keys
from mtl_ray.values.lists import to_lists
from mtl_ray.values.vocabulary import Vocabulary


@dataclass(frozen=True)
class ValueCounts:
    """Occurrences by value."""

    table: pa.Table
    """Columns `key` (text) and `count`."""

    @classmethod
    def of_keys(cls, keys: pa.Array) -> "ValueCounts":
        """Count keys, leaving out nulls."""
        counted = keys.drop_null().value_counts()
        return cls(pa.table({"key": counted.field("values").cast(pa.string()), "count": counted.field("counts")}))

    @classmethod
    def of_values(cls, values: pa.Array) -> "ValueCounts":
        """Count raw values by their keys."""
        distinct = values.dictionary_encode()
        return _of_distinct(to_keys(distinct.dictionary), _occurrences(distinct))

    @classmethod
    def of_lists(cls, values: pa.Array, separator: str | None) -> "ValueCounts":
        """Count the entries of lists, see `to_lists`."""
        if not pa.types.is_dictionary(values.type):
            return cls.of_keys(to_lists(values, separator).flatten())
        lists = to_lists(values.dictionary, separator)
        parents = pc.list_parent_indices(lists).to_numpy(zero_copy_only=False)
        return _of_distinct(lists.flatten(), _occurrences(values)[parents])

    def __add__(self, other: "ValueCounts") -> "ValueCounts":
        return ValueCounts(_summed(pa.concat_tables([self.table, other.table])))

    @property
    def is_constant(self) -> bool:
        """True if fewer than two values occur."""
        return len(self.table) < 2

    def vocabulary(self, min_count: int = 1) -> Vocabulary:
        """Return the values that occur at least `min_count` times, the most frequent first."""
        counts = self.table.filter(pc.greater_equal(self.table.column("count"), min_count))
        counts = counts.sort_by([("count", "descending"), ("key", "ascending")])
        return Vocabulary(flat(counts.column("key")), flat(counts.column("count")))


def _occurrences(values: pa.DictionaryArray) -> np.ndarray:
    """Return how many rows have each value of the dictionary."""
    return np.bincount(values.indices.drop_null().to_numpy(), minlength=len(values.dictionary))


def _of_distinct(keys: pa.Array, counts: np.ndarray) -> ValueCounts:
    """Count keys that stand for so many rows each."""
    table = pa.table({"key": keys.cast(pa.string()), "count": counts})
    return ValueCounts(_summed(table.filter(pa.array((counts > 0) & np.asarray(keys.is_valid())))))


def _summed(table: pa.Table) -> pa.Table:
    return table.group_by("key").aggregate([("count", "sum")]).rename_columns(["key", "count"])
