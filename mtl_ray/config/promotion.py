"""The gate that a new version of a registered model must pass to become the champion."""

from typing import Annotated, Literal

from pydantic import Field, NonNegativeInt, PositiveInt

from mtl_ray.config.base import Section

Margin = Annotated[float, Field(ge=0, lt=1)]


class PromotionConfig(Section):
    """The requirements of `mtl-ray promote`, measured on the same rows for the candidate and the champion."""

    metric: str | None = None
    """The target, `TASK/METRIC[/SEGMENT]`, at which the candidate must be better; by default the first metric of the
    first task."""
    guards: dict[str, Margin] = Field(default={})
    """Largest accepted loss by `TASK/METRIC`, as a share of the champion's value, on all rows and in each of
    `segments`; by default `margin` for the first metric of every task."""
    margin: Margin = 0.02
    """Margin of the guards by default."""
    segments: tuple[Literal["warm", "new_user", "new_item", "new_both"], ...] = ("new_user", "new_item", "warm")
    min_users: NonNegativeInt = 30
    """A guard is not decisive in a segment with fewer users, since resamples of so few are uninformative."""
    level: Annotated[float, Field(gt=0, lt=0.5)] = 0.05
    """Probability of wrongly declaring a candidate better, or a loss within its margin."""
    draws: PositiveInt = 500
    """Number of resamples of the users."""
    max_rows: PositiveInt = 100_000
    """Approximate number of rows to compare; if there are more, all rows of randomly drawn users are taken."""
