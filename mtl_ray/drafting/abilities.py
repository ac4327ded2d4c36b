"""Which settings the experiment file knows: a draft names no other."""

from dataclasses import dataclass
from typing import get_args

from mtl_ray.config.data import DataConfig, SourceConfig
from mtl_ray.config.features import CategoricalFeatureConfig, FeatureConfig, NumericFeatureConfig


@dataclass(frozen=True)
class Abilities:
    """What an experiment file can say of raw values."""

    events: bool = True
    """`source: {kind: events}`: a row of the log is an event."""
    money: bool = True
    """`format: money` of a number."""
    spellings: bool = True
    """`case: fold` and `map` of a category."""
    dates: bool = True
    """`kind: date` of a feature."""
    time_format: bool = True
    """`data.time_format`."""

    @classmethod
    def here(cls) -> "Abilities":
        """Return those of this version."""
        return cls(
            events="events" in _kinds(SourceConfig),
            money="format" in NumericFeatureConfig.model_fields,
            spellings={"case", "map"} <= set(CategoricalFeatureConfig.model_fields),
            dates="date" in _kinds(FeatureConfig),
            time_format="time_format" in DataConfig.model_fields,
        )


def _kinds(union: object) -> set[str]:
    return {member.model_fields["kind"].default for member in get_args(get_args(union)[0])}
