"""The search of `mtl-ray tune`: its space, objectives, algorithm and resources."""

import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    BeforeValidator,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    field_validator,
    model_validator,
)

from mtl_ray.config.base import Section, name_alone
from mtl_ray.config.search_algorithms import AlgorithmConfig, NoSchedulerConfig, SchedulerConfig, TPEConfig
from mtl_ray.config.tasks import is_higher_better

Direction = Literal["min", "max"]
Objectives = str | list[str] | dict[str, Direction]


class _EntryConfig(Section):
    when: dict[str, Any] | None = None
    """Search this entry only if the trial's settings at these dotted paths have this value, or one of these values."""


class _RangeConfig(_EntryConfig):
    low: float
    high: float

    @model_validator(mode="after")
    def _ordered(self) -> "_RangeConfig":
        if not self.low < self.high:
            raise ValueError(f"expected low < high; found low {self.low:g} and high {self.high:g}")
        return self


class UniformConfig(_RangeConfig):
    """Numbers between two ends, all equally likely."""

    kind: Literal["uniform"] = "uniform"


class LogUniformConfig(_RangeConfig):
    """Numbers above 0 between two ends, whose logarithms are equally likely."""

    kind: Literal["loguniform"] = "loguniform"

    @model_validator(mode="after")
    def _positive(self) -> "LogUniformConfig":
        if self.low <= 0:
            raise ValueError(f"a loguniform range cannot reach 0: expected 0 < low; found low {self.low:g}")
        return self


class RandIntConfig(_RangeConfig):
    """Whole numbers, both ends included."""

    kind: Literal["randint"] = "randint"
    low: int  # pyright: ignore[reportIncompatibleVariableOverride]
    high: int  # pyright: ignore[reportIncompatibleVariableOverride]


def _labelled(values: Any) -> Any:
    """Return values by the label that tables and searchers use: the value itself if it is text, else its JSON."""
    if isinstance(values, Sequence) and not isinstance(values, str):
        return {v if isinstance(v, str) else json.dumps(v, sort_keys=True): v for v in values}
    return values


class ChoiceConfig(_EntryConfig):
    """One of some values."""

    kind: Literal["choice"] = "choice"
    values: Annotated[
        dict[str, Any],
        BeforeValidator(_labelled, json_schema_input_type=dict[str, Any] | list[Any]),
        Field(min_length=1),
    ]
    """A list, or a mapping from a label to the value, which may be a whole section."""


class SimplexConfig(_EntryConfig):
    """Task weights that sum to one, with a symmetric Dirichlet distribution; used at `tasks.*.weight`."""

    kind: Literal["simplex"] = "simplex"
    place: ClassVar[str] = "tasks.*.weight"
    of: tuple[str, ...] = ()
    """The tasks, by default all. Tasks that a `subset` leaves out take no part."""
    concentration: PositiveFloat = 1.0
    """1 is uniform over the simplex; lower values favour few tasks, higher ones equal weights."""


class SubsetConfig(_EntryConfig):
    """A choice of auxiliary tasks, each in or out; used at `tasks`."""

    kind: Literal["subset"] = "subset"
    place: ClassVar[str] = "tasks"
    of: tuple[str, ...] = ()
    """The tasks that may be left out; by default all that no objective names."""


EntryConfig = Annotated[
    UniformConfig | LogUniformConfig | RandIntConfig | ChoiceConfig | SimplexConfig | SubsetConfig,
    Field(discriminator="kind"),
]


class ConstraintConfig(Section):
    """A bound on a metric of the validation rows, a number or relative to the file as it stands (the incumbent)."""

    metric: str
    at_most: float | None = None
    at_least: float | None = None
    worse_by: NonNegativeFloat | None = None
    """Share of the incumbent's value by which the metric may be worse; 0.01 is 1 %."""

    @model_validator(mode="after")
    def _one_bound(self) -> "ConstraintConfig":
        bounds = [n for n in ("at_most", "at_least", "worse_by") if getattr(self, n) is not None]
        if len(bounds) != 1:
            raise ValueError(
                f"expected exactly one of at_most, at_least, worse_by; found {', '.join(bounds) or 'none'}"
            )
        return self


def _directed(objectives: Any) -> Any:
    """Return objectives with the direction of each metric, for a single key or a list of keys."""
    keys = [objectives] if isinstance(objectives, str) else objectives
    if isinstance(keys, Mapping) or not isinstance(keys, Sequence):
        return keys
    return {key: "max" if is_higher_better(str(key)) else "min" for key in keys}


class TuneConfig(Section):
    """A search of settings, by validation rows."""

    minutes: PositiveFloat | None = None
    """Minutes from the start of the command to the registered model; what is left out of this section is then chosen
    (see `mtl_ray.tuning.automatic`). Trials start until the time is over, and the best are joined into one model."""
    space: dict[str, EntryConfig] = Field(default={})
    """Ranges and choices by dotted path, as for `--set`. They are drawn in the order of the file, `simplex` last."""
    objectives: Annotated[
        dict[str, Direction], BeforeValidator(_directed, json_schema_input_type=Objectives), Field(default={})
    ]
    """Metric keys of the validation rows: one, a list, or each with `min` or `max`. A trial's value is that of the
    epoch whose checkpoint `train` would select. With several, schedulers use the first one."""
    constraints: tuple[ConstraintConfig, ...] = ()
    """Trials that break one are never suggested as the best, and the searcher avoids their neighbourhood."""
    algorithm: Annotated[AlgorithmConfig, name_alone(AlgorithmConfig)] = TPEConfig()
    scheduler: Annotated[SchedulerConfig, name_alone(SchedulerConfig)] = NoSchedulerConfig()
    """Stops trials early. Population based training replaces trials by itself."""
    first: tuple[dict[str, Any], ...] = ()
    """Values of the first trials, by path, for a choice its label; what one leaves out is proposed."""
    trials: PositiveInt = 32
    ensemble: NonNegativeInt = 0
    """Most members of an ensemble of trials, repeated ones counted each time, that are chosen greedily by the first
    objective (Caruana et al. 2004) and registered as one model; 0 for none. It keeps the model of every trial until the
    search ends."""
    seed: NonNegativeInt = 0
    """Seed of the searcher."""
    cpus_per_trial: PositiveFloat = 1.0
    """CPUs, and torch threads, of a trial with one worker. A trial with several workers takes
    `training.cpus_per_worker` for each."""
    gpus_per_trial: NonNegativeFloat | None = None
    """GPUs of a trial with one worker, which trials may share; by default 1 with `training.use_gpu`, otherwise 0."""
    max_concurrent: PositiveInt | None = None
    """Trials at once; by default as many as the cluster has room for. Set it for a cluster that autoscales."""

    @property
    def size(self) -> str:
        """The time or the number of trials that the search has."""
        return f"{self.trials} trials" if self.minutes is None else f"{self.minutes:g} minutes"

    @field_validator("space")
    @classmethod
    def _places(cls, space: dict[str, EntryConfig]) -> dict[str, EntryConfig]:
        for path, entry in space.items():
            for special in (SimplexConfig, SubsetConfig):
                if isinstance(entry, special) != (path == special.place):
                    kind = special.model_fields["kind"].default
                    expected = f"expected `{kind}` at `{special.place}`, and only there"
                    raise ValueError(f"{path}: {expected}; found `{entry.kind}`")
        return space

    @model_validator(mode="after")
    def _complete(self) -> "TuneConfig":
        missing = [name for name in ("space", "objectives") if not getattr(self, name)]
        if missing and self.minutes is None:
            raise ValueError(f"expected `space` and `objectives`, or `minutes`; found no {' and no '.join(missing)}")
        return self

    @model_validator(mode="after")
    def _population(self) -> "TuneConfig":
        if self.algorithm.is_population:
            name = f"algorithm `{self.algorithm.kind}`"
            for setting in ("minutes", "first", "ensemble"):
                if getattr(self, setting):
                    raise ValueError(f"`{setting}` needs trials that do not change each other; found {name}")
            if self.scheduler.stops_trials:
                raise ValueError(
                    f"{name} needs scheduler `none`: it replaces trials itself; found {self.scheduler.kind}"
                )
            if len(self.objectives) > 1:
                raise ValueError(f"{name} needs one objective; found {', '.join(self.objectives)}")
            for path, entry in self.space.items():
                if path != "training.optimizer.lr" and not (path.startswith("tasks.") and path.endswith(".weight")):
                    raise ValueError(
                        f"{name} changes task weights and training.optimizer.lr during training; found {path}"
                    )
                if entry.when or isinstance(entry, ChoiceConfig):
                    raise ValueError(f"{name} needs ranges without `when`; found {path}")
        return self
