"""Raw data sets: `open_source` opens the log and the side tables of the source that an experiment names."""

from mtl_ray.config import Experiment
from mtl_ray.config.base import implementation_of, settings_of
from mtl_ray.config.data import (
    CustomSourceConfig,
    KuaiRandSourceConfig,
    MovieLensSourceConfig,
    ProfilesSourceConfig,
    SyntheticSourceConfig,
    TableSourceConfig,
)
from mtl_ray.data.sources import kuairand, movielens, profiles, synthetic, table
from mtl_ray.data.sources.base import Chunk, Raw, Source

__all__ = ["Chunk", "Raw", "Source", "open_source"]


def open_source(experiment: Experiment) -> Raw:
    """Open the raw data of `experiment.data` without reading the log.

    Raises:
        InputError: files are missing, unreadable or empty, or a download failed.
    """
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
        case CustomSourceConfig() as source:
            return implementation_of(source)(settings_of(source)).open()
