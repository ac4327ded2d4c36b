"""The grid of `mtl-ray compare`: variants of the experiment, each trained on the same folds and seeds."""

import re
from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveInt, field_validator, model_validator

from mtl_ray.config.base import Section

Changes = dict[str, Any]
"""Values by dotted path, as for `--set`; null at `tasks.NAME` or `features.NAME` removes the entry."""

NAME = r"[A-Za-z0-9][A-Za-z0-9._-]*"


class CompareConfig(Section):
    """A grid of variants, folds and seeds, each trained on the same rows and tested against the baseline."""

    variants: Annotated[dict[str, Changes], Field(min_length=1)]
    """Changes to the rest of this file, by name of the variant; `{}` is the file as it stands."""
    baseline: str
    """Variant that the others are tested against."""
    seeds: Annotated[tuple[NonNegativeInt, ...], Field(min_length=1)] = (0, 1, 2)
    """Values of `seed`. Unless `data.seed` is set they also seed the split, so each has its own data set."""
    folds: dict[str, Changes] = Field(default={})
    """Changes by name of the fold; every variant is trained on every fold with every seed."""
    curve: dict[NonNegativeFloat, Changes] = Field(default={})
    """Changes by point of a curve, which is a number such as the known interactions of a new user. Every variant is
    trained at every point, and tested there against the baseline."""
    split: Literal["valid", "test"] = "test"
    """Split on which the variants are compared."""
    metrics: tuple[str, ...] = ()
    """Keys `TASK/METRIC` to compare; by default the first metric of each task."""
    segments: tuple[str, ...] = ("all", "warm", "new_user", "new_item", "new_both")
    level: Annotated[float, Field(gt=0, lt=1)] = 0.05
    """Probability, over all tests of the table, of declaring any difference that does not exist."""
    cpus_per_cell: PositiveInt = 1
    """CPUs, and torch threads, of one training. As many trainings run side by side as the cluster has room for."""

    @field_validator("variants", "folds")
    @classmethod
    def _names(cls, entries: dict[str, Changes]) -> dict[str, Changes]:
        for name in entries:
            if not re.fullmatch(NAME, name):
                raise ValueError(f"expected names of letters, digits, '.', '_' and '-'; found {name!r}")
        return entries

    @field_validator("variants", "folds", "curve")
    @classmethod
    def _paths(cls, entries: dict[Any, Changes]) -> dict[Any, Changes]:
        for name, changes in entries.items():
            for path in changes:
                if path == "seed" or path.partition(".")[0] == "compare":
                    raise ValueError(f"{name} changes `{path}`, which is not a variant's to change; see compare.seeds")
        return entries

    @field_validator("seeds")
    @classmethod
    def _distinct(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(seeds)) < len(seeds):
            raise ValueError(f"expected different seeds; found {list(seeds)}")
        return seeds

    @model_validator(mode="after")
    def _baseline(self) -> "CompareConfig":
        if self.baseline not in self.variants:
            raise ValueError(f"baseline: expected a variant ({', '.join(self.variants)}); found `{self.baseline}`")
        return self
