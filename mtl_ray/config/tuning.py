"""The search of `mtl-ray tune`: what may change, what is better, who searches, and with what."""

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
from mtl_ray.config.tasks import is_higher_better

Direction = Literal["min", "max"]
Objectives = str | list[str] | dict[str, Direction]


class _EntryConfig(Section):
    when: dict[str, Any] | None = None
    """Searched only where the trial's settings at these dotted paths have this value, or one of these values."""


class _RangeConfig(_EntryConfig):
    low: float
    high: float

    @model_validator(mode="after")
    def _ordered(self) -> "_RangeConfig":
        if not self.low < self.high:
            raise ValueError(f"expected low < high; found low {self.low:g} and high {self.high:g}")
        return self


class UniformConfig(_RangeConfig):
    kind: Literal["uniform"] = "uniform"


class LogUniformConfig(_RangeConfig):
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
    """Values by the label under which tables and searchers know them: the value itself, or its JSON."""
    if isinstance(values, Sequence) and not isinstance(values, str):
        return {v if isinstance(v, str) else json.dumps(v, sort_keys=True): v for v in values}
    return values


class ChoiceConfig(_EntryConfig):
    kind: Literal["choice"] = "choice"
    values: Annotated[
        dict[str, Any],
        BeforeValidator(_labelled, json_schema_input_type=dict[str, Any] | list[Any]),
        Field(min_length=1),
    ]
    """A list, or a mapping from a label to the value, which may be a whole section."""


class SimplexConfig(_EntryConfig):
    """Weights of tasks that sum to one, by a symmetric Dirichlet distribution; stands at `tasks.*.weight`."""

    kind: Literal["simplex"] = "simplex"
    place: ClassVar[str] = "tasks.*.weight"
    of: tuple[str, ...] = ()
    """The tasks; all by default. Tasks that a `subset` leaves out take no part."""
    concentration: PositiveFloat = 1.0
    """1 is uniform over the simplex; below it favours few tasks, above it equal weights."""


class SubsetConfig(_EntryConfig):
    """Which auxiliary tasks take part, each in or out; stands at `tasks`."""

    kind: Literal["subset"] = "subset"
    place: ClassVar[str] = "tasks"
    of: tuple[str, ...] = ()
    """The tasks that may be left out; by default all that no objective names."""


EntryConfig = Annotated[
    UniformConfig | LogUniformConfig | RandIntConfig | ChoiceConfig | SimplexConfig | SubsetConfig,
    Field(discriminator="kind"),
]


class _AlgorithmConfig(Section):
    is_population: ClassVar[bool] = False
    """True if trials are replaced by changed copies of better ones while they run."""


class RandomConfig(_AlgorithmConfig):
    kind: Literal["random"] = "random"


class TPEConfig(_AlgorithmConfig):
    """Tree-structured Parzen estimator (Bergstra et al. 2011); with several objectives MOTPE (Ozaki et al. 2022)."""

    kind: Literal["tpe"] = "tpe"
    startup_trials: NonNegativeInt = 10
    """Random trials before the estimator is asked."""


class NSGA2Config(_AlgorithmConfig):
    """Non-dominated sorting genetic algorithm II (Deb et al. 2002)."""

    kind: Literal["nsga2"] = "nsga2"
    population: Annotated[int, Field(ge=2)] = 16
    """Trials of a generation."""


class _PopulationConfig(_AlgorithmConfig):
    is_population: ClassVar[bool] = True
    every: PositiveInt = 1
    """Epochs between two looks at the population."""
    quantile: Annotated[float, Field(gt=0, le=0.5)] = 0.25
    """Share of the population that is replaced by copies of as many of the best."""


class PBTConfig(_PopulationConfig):
    """Population based training (Jaderberg et al. 2017): `trials` is the population, whose values change on the way."""

    kind: Literal["pbt"] = "pbt"
    resample: Annotated[float, Field(ge=0, le=1)] = 0.25
    """Probability of drawing a value anew instead of multiplying it by 0.8 or 1.2."""


class PB2Config(_PopulationConfig):
    """Population based bandits (Parker-Holder et al. 2020): as `pbt`, with values proposed by a Gaussian process."""

    kind: Literal["pb2"] = "pb2"


AlgorithmConfig = Annotated[RandomConfig | TPEConfig | NSGA2Config | PBTConfig | PB2Config, Field(discriminator="kind")]


class _SchedulerConfig(Section):
    stops_trials: ClassVar[bool] = True
    """True if trials may end early."""
    pauses_trials: ClassVar[bool] = False
    """True if trials wait for each other."""

    @property
    def first_epochs(self) -> int:
        """Epochs that every trial gets."""
        return 1


class NoSchedulerConfig(_SchedulerConfig):
    """No early end: every trial runs all its epochs."""

    kind: Literal["none"] = "none"
    stops_trials: ClassVar[bool] = False


class ASHAConfig(_SchedulerConfig):
    """Asynchronous successive halving (Li et al. 2020)."""

    kind: Literal["asha"] = "asha"
    grace: PositiveInt = 1
    """Epochs that every trial gets."""
    reduction: Annotated[float, Field(gt=1)] = 3.0
    """Of the trials that reach a rung one in so many goes on; rungs are so many times as far apart."""

    @property
    def first_epochs(self) -> int:
        return self.grace


class MedianConfig(_SchedulerConfig):
    """A trial stops when its best value so far is worse than the median of the others' means (Golovin et al. 2017)."""

    kind: Literal["median"] = "median"
    grace: PositiveInt = 1
    """Epochs that every trial gets."""
    min_trials: PositiveInt = 3
    """Trials that must have come as far before any is stopped."""

    @property
    def first_epochs(self) -> int:
        return self.grace


class HyperBandConfig(_SchedulerConfig):
    """HyperBand (Li et al. 2017): brackets of successive halving, whose trials wait for each other."""

    kind: Literal["hyperband"] = "hyperband"
    pauses_trials: ClassVar[bool] = True
    reduction: Annotated[float, Field(gt=1)] = 3.0


SchedulerConfig = Annotated[
    NoSchedulerConfig | ASHAConfig | MedianConfig | HyperBandConfig, Field(discriminator="kind")
]


class ConstraintConfig(Section):
    """A bound on a metric of validation rows, either a number or relative to the file as it stands (the incumbent)."""

    metric: str
    at_most: float | None = None
    at_least: float | None = None
    worse_by: NonNegativeFloat | None = None
    """Share of the incumbent's value by which the metric may be worse: 0.01 is 1 %."""

    @model_validator(mode="after")
    def _one_bound(self) -> "ConstraintConfig":
        bounds = [n for n in ("at_most", "at_least", "worse_by") if getattr(self, n) is not None]
        if len(bounds) != 1:
            raise ValueError(
                f"expected exactly one of at_most, at_least, worse_by; found {', '.join(bounds) or 'none'}"
            )
        return self


def _directed(objectives: Any) -> Any:
    """A key, or a list of keys, with the direction that the metric has."""
    keys = [objectives] if isinstance(objectives, str) else objectives
    if isinstance(keys, Mapping) or not isinstance(keys, Sequence):
        return keys
    return {key: "max" if is_higher_better(str(key)) else "min" for key in keys}


class TuneConfig(Section):
    space: Annotated[dict[str, EntryConfig], Field(min_length=1)]
    """Dotted path, as for `--set`, -> what it may be. Read in the order of the file, `simplex` last."""
    objectives: Annotated[
        dict[str, Direction], BeforeValidator(_directed, json_schema_input_type=Objectives), Field(min_length=1)
    ]
    """Metric keys of validation rows, alone, as a list, or each with `min` or `max`. A trial's value is that of the
    epoch which `train` would keep. With several, schedulers go by the first one."""
    constraints: tuple[ConstraintConfig, ...] = ()
    """Trials that break one are never suggested as the best, and the searcher turns away from them."""
    algorithm: Annotated[AlgorithmConfig, name_alone(AlgorithmConfig)] = TPEConfig()
    scheduler: Annotated[SchedulerConfig, name_alone(SchedulerConfig)] = NoSchedulerConfig()
    """Stops trials early; population based training does so by itself."""
    trials: PositiveInt = 32
    seed: NonNegativeInt = 0
    """Of the searcher."""
    cpus_per_trial: PositiveFloat = 1.0
    """CPUs of a trial of one worker, and its torch threads. A trial of several workers takes
    `training.cpus_per_worker` for each."""
    gpus_per_trial: NonNegativeFloat | None = None
    """GPUs of a trial of one worker, which trials may share; by default 1 with `training.use_gpu`, otherwise 0."""
    max_concurrent: PositiveInt | None = None
    """Trials at once; by default as many as the cluster has room for. To be set where a cluster grows by itself."""

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
    def _population(self) -> "TuneConfig":
        if self.algorithm.is_population:
            name = f"algorithm `{self.algorithm.kind}`"
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
