"""The experiment file: everything a run is, as frozen data (pydantic only)."""

from mtl_ray.config.experiment import Experiment
from mtl_ray.config.loading import load, override, parse

__all__ = ["Experiment", "load", "override", "parse"]
