"""The experiment file: everything a run is, as frozen data (pydantic only)."""

from mtl_ray.experiment.experiment import Experiment
from mtl_ray.experiment.load import load, override, parse

__all__ = ["Experiment", "load", "override", "parse"]
