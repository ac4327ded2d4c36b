"""The gate that a new version of the registered model passes before it becomes the champion."""

from typing import Annotated, Literal

from pydantic import Field, NonNegativeInt, PositiveInt

from mtl_ray.config.base import Section

Margin = Annotated[float, Field(ge=0, lt=1)]


class PromotionConfig(Section):
    """What `mtl-ray promote` asks of a candidate, measured on the same rows as the champion."""

    metric: str | None = None
    """The target, `TASK/METRIC[/SEGMENT]`: the candidate must be better at it. By default the first metric of the first
    task."""
    guards: dict[str, Margin] = Field(default={})
    """By `TASK/METRIC`, the largest loss that is let pass, as a share of the champion's value, on all rows and in each
    of `segments`. Without any, the first metric of every task, with `margin`."""
    margin: Margin = 0.02
    """The margin where `guards` names none."""
    segments: tuple[Literal["warm", "new_user", "new_item", "new_both"], ...] = ("new_user", "new_item", "warm")
    min_users: NonNegativeInt = 30
    """A guard decides nothing in a segment with fewer users, since their resamples say little; the note says so."""
    level: Annotated[float, Field(gt=0, lt=0.5)] = 0.05
    """Probability of calling a candidate better, or a loss within its margin, that is not."""
    draws: PositiveInt = 500
    """Resamples of the users."""
    max_rows: PositiveInt = 100_000
    """Of more rows, those of whole users drawn at random are compared: about so many."""
