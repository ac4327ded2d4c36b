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
    TableSourceConfig,
)
from mtl_ray.data.sources import kuairand, memory, movielens, profiles, synthetic, table
from mtl_ray.data.sources.base import Chunk, Raw, Source
from mtl_ray.data.sources.chunks import with_added
from mtl_ray.errors import InputError

__all__ = ["Chunk", "Raw", "Source", "open_source"]


def open_source(experiment: Experiment, interactions: Any = None, users: Any = None, items: Any = None) -> Raw:
    """Open the raw data of `experiment.data` without reading the log.

    Args:
        experiment: its `data.source` says where the data are.
        interactions: for `memory`, the log as a frame, see `sources.memory`.
        users: for `memory`, the table of users, if there is one.
        items: for `memory`, the table of items, if there is one.

    Raises:
        InputError: files are missing, unreadable or empty, a download failed, frames are missing where the source is
            `memory`, or are given where it is not; the log has a column that `data` adds.
    """
    given = {"interactions": interactions, "users": users, "items": items}
    found = [name for name, frame in given.items() if frame is not None]
    if found and experiment.data.source.kind != "memory":
        raise InputError(
            f"{found[0]}: expected no frames beside `data.source: {experiment.data.source.kind}`, which says where the "
            "data are; for frames it is `memory`"
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
        case MemorySourceConfig():
            if interactions is None:
                raise InputError(
                    "data.source: `memory` stands for frames of a Python program, which has to give them: "
                    "mtl_ray.train(experiment, interactions=...); for a file it is {kind: table, interactions: FILE}"
                )
            return memory.open_source(interactions, users, items)
        case CustomSourceConfig() as source:
            return implementation_of(source)(settings_of(source)).open()
