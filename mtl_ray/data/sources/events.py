"""The user's own log of events, of which `preparation.events` makes the rows of a log."""

import difflib
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from mtl_ray.config.data import DataConfig
from mtl_ray.config.tables import EventsSourceConfig
from mtl_ray.data.sources import memory, table
from mtl_ray.data.sources.base import Raw
from mtl_ray.errors import InputError, some


def open_source(
    source: EventsSourceConfig, data: DataConfig, events: Any = None, users: Any = None, items: Any = None
) -> Raw:
    """Open the events and the tables: files that the settings name, or else frames.

    Raises:
        InputError: a file or frame is missing, unreadable or empty, a column that the settings name is not there, or
            one that they make is there already.
    """
    if source.events is None:
        raw = memory.open_source(events, users, items)
    else:
        raw = table.open_files(source.events, source, data)
    for setting, column in _columns(source):
        if column not in raw.columns:
            near = difflib.get_close_matches(column, raw.columns, n=1, cutoff=0.5)
            hint = f"did you mean `{near[0]}`?" if near else "name one of these"
            raise InputError(
                f"data.source.{setting}: expected a column `{column}`; the events have {some(raw.columns)}; {hint}"
            )
    made = [*source.all_labels, *source.values]
    if taken := [name for name in made if name in raw.columns]:
        section = "values" if taken[0] in source.values else "labels"
        raise InputError(
            f"data.source.{section}.{taken[0]}: expected a name that no column of the events has, since it becomes a "
            f"column of the rows; give it another name"
        )
    return replace(raw, columns=[*raw.columns, *made], events=source)


def _columns(source: EventsSourceConfig) -> Iterator[tuple[str, str]]:
    """Yield the columns of the events that the settings name, each with its setting."""
    if source.event is not None:
        yield "event", source.event
    yield from (("unit", column) for column in source.unit)
    yield from ((f"values.{name}.column", value.column) for name, value in source.values.items() if value.column)
