"""Categories that are written in several ways: in any case, and by several names."""

import pyarrow as pa
import pyarrow.compute as pc

from mtl_ray.config.formats import Spelling
from mtl_ray.values.canonical import content_of, is_single
from mtl_ray.values.keys import to_keys
from mtl_ray.values.lists import to_lists


def spelled(values: pa.Array, how: Spelling) -> pa.Array:
    """Return the keys of values (see `to_keys`) in one spelling: folded if `how` says so, then mapped.

    What `how` leaves alone comes back as it is, and so do lists.

    Example:
        >>> how = Spelling(case="fold", map={"female": "f"})
        >>> spelled(pa.array([" Female", "F", "other", None]), how).to_pylist()
        ['f', 'f', 'other', None]
    """
    if not how.is_set or not is_single(values.type):
        return values
    if pa.types.is_dictionary(values.type):
        return spelled(values.dictionary, how).take(values.indices)
    distinct = folded(values, how).dictionary_encode()
    keys = distinct.dictionary
    if how.map:
        written, meant = folded(pa.array([*how.map]), how), to_keys(pa.array([*how.map.values()], pa.string()))
        place = pc.index_in(keys, value_set=written, skip_nulls=True)
        keys = pc.if_else(place.is_null(), keys, meant.take(place))
    return keys.take(distinct.indices)


def spelled_lists(values: pa.Array, separator: str, how: Spelling) -> pa.Array:
    """Return lists, see `to_lists`, whose entries are in one spelling, see `spelled`; null for one that means none."""
    if not how.is_set:
        return values
    if pa.types.is_dictionary(values.type):
        return spelled_lists(values.dictionary, separator, how).take(values.indices)
    lists = to_lists(values, separator)
    return pa.ListArray.from_arrays(lists.offsets, spelled(lists.flatten(), how), mask=lists.is_null())


def folded(values: pa.Array, how: Spelling) -> pa.Array:
    """Return the keys of values, in folded case if `how` says so."""
    keys = to_keys(values)
    if how.case is None:
        return keys
    distinct = keys.dictionary_encode()
    return to_keys(_casefolded(distinct.dictionary.cast(pa.string()))).take(distinct.indices)


def _casefolded(texts: pa.Array) -> pa.Array:
    if content_of(texts).isascii():
        return pc.utf8_lower(texts)
    return pa.array([None if text is None else text.casefold() for text in texts.to_pylist()], pa.string())
