"""Loss and metrics that the user brings for a task."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from pydantic import Discriminator, Field, Tag

from mtl_ray.config.custom import CustomConfig


class CustomLossConfig(CustomConfig):
    """A loss of your own: a `RowLoss` that is built from its settings."""

    base: ClassVar[str] = "mtl_ray.tasks.own_loss:RowLoss"
    is_part_of_model: ClassVar[bool] = True


class CustomMetricConfig(CustomConfig):
    """A metric of your own: an `OwnMetric` that is built from its settings. A larger value is better."""

    base: ClassVar[str] = "mtl_ray.evaluation.own_metric:OwnMetric"

    name: Annotated[str | None, Field(pattern=r"^[A-Za-z_]\w*$")] = None
    """Name in keys `split/task/NAME`; that of the class by default."""

    @property
    def key(self) -> str:
        """Its name in keys."""
        return self.name or self.class_.partition(":")[2]


def _tag(value: Any) -> str:
    return "custom" if isinstance(value, Mapping | CustomConfig) else "named"


NAMED_OR_CUSTOM = Discriminator(_tag)
"""Tells a name, tagged `named`, from a section, tagged `custom`: a mistake in one is no mistake in the other."""

NAMED = Tag("named")
OwnLoss = Annotated[CustomLossConfig, Tag("custom")]
OwnMetric = Annotated[CustomMetricConfig, Tag("custom")]
