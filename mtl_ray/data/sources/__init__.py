"""Raw data sets: `open_source` opens the log and the side tables of the source that an experiment names."""

from typing import Any

from mtl_ray.config import Experiment
from mtl_ray.config.base import implementation_of, settings_of
from mtl_ray.config.data import (
    CustomSourceConfig,
    KuaiRandSourceConfig,
    MemorySourceConfig,
    MovieLensSourceConfig,
    ProfilesSourceConfig,
    SyntheticSourceConfig,
)
from mtl_ray.config.tables import EventsSourceConfig, TableSourceConfig
from mtl_ray.data.sources import events, kuairand, memory, movielens, profiles, synthetic, table
from mtl_ray.data.sources.base import Chunk, Raw, Source
from mtl_ray.data.sources.chunks import with_added
from mtl_ray.errors import InputError

__all__ = ["Chunk", "Raw", "Source", "open_source"]

_FRAMES = {
    "memory": ("`memory`", "{kind: table, interactions: FILE}"),
    "events": ("`events` without a path", "{kind: events, events: FILE}"),
}
"""Sources that take frames, with what takes a file."""


def open_source(experiment: Experiment, interactions: Any = None, users: Any = None, items: Any = None) -> Raw:
    """Open the raw data of `experiment.data` without reading the log.

    Args:
        experiment: its `data.source` says where the data are.
        interactions: for `memory`, and `events` without a path, the log as a frame, see `sources.memory`.
        users: with it, the table of users, if there is one.
        items: with it, the table of items, if there is one.

    Raises:
        InputError: files are missing, unreadable or empty, a download failed, frames are missing where the source is
            `memory`, or are given where it is not; the log has a column that `data` adds.
    """
    given = {"interactions": interactions, "users": users, "items": items}
    found = [name for name, frame in given.items() if frame is not None]
    if found and not experiment.data.needs_frames:
        raise InputError(
            f"{found[0]}: expected no frames beside `data.source: {experiment.data.source.kind}`, which says where the "
            "data are; for frames it is `memory`, or `events` without a path"
        )
    if interactions is None and experiment.data.needs_frames:
        what, otherwise = _FRAMES[experiment.data.source.kind]
        raise InputError(
            f"data.source: {what} stands for frames of a Python program, which has to give them: "
            f"mtl_ray.train(experiment, interactions=...); for a file it is {otherwise}"
        )
    return with_added(_opened(experiment, interactions, users, items), experiment.data)


def _opened(experiment: Experiment, interactions: Any, users: Any, items: Any) -> Raw:
    match experiment.data.source:
        case SyntheticSourceConfig() as source:
            return synthetic.open_source(source)
        case ProfilesSourceConfig() as source:
            return profiles.open_source(source)
        case MovieLensSourceConfig() as source:
            return movielens.open_source(source, experiment.data)
        case KuaiRandSourceConfig():
            return kuairand.open_source(experiment.data)
        case TableSourceConfig() as source:
            return table.open_source(source, experiment.data)
        case EventsSourceConfig() as source:
            return events.open_source(source, experiment.data, interactions, users, items)
        case MemorySourceConfig():
            return memory.open_source(interactions, users, items)
        case CustomSourceConfig() as source:
            return implementation_of(source)(settings_of(source)).open()
