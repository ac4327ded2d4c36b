"""Names of the columns in which rows to be scored bring the raw value of each feature."""

from collections import defaultdict
from collections.abc import Mapping
from typing import Any


def request_columns(features: Mapping[str, Any], time: str | None) -> dict[str, str]:
    """Return the column of each feature in rows to be scored, by name; histories, which `prepare` makes, have none.

    It is the feature's raw column, or `ENTITY.COLUMN` where that name also stands for something else: a feature of
    another entity reads a column of that name, or it is the log's time, or a statistic is made of it.

    Args:
        features: the sections of the features, by name.
        time: the log's column of the time, if it has one.
    """
    raw = {name: found for name, f in features.items() if (found := f.raw_column(name, features)) is not None}
    keys = {features[name].entity: raw[name] for name in raw if features[name].kind == "id"}
    readers: defaultdict[str, set[str]] = defaultdict(set)
    for name, column in raw.items():
        feature = features[name]
        if feature.kind == "statistic":
            readers[feature.of].add("log")
        else:
            readers[column].add(feature.entity)
    if time is not None:
        readers[time].add("log")
    found = {}
    for name, column in raw.items():
        entity = features[name].entity
        is_attribute = features[name].is_profile and entity != "context" and column != keys.get(entity)
        found[name] = f"{entity}.{column}" if is_attribute and len(readers[column]) > 1 else column
    return found
