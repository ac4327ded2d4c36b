"""Algorithms that propose the trials of a search, and schedulers that stop them early."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, NonNegativeInt, PositiveInt

from mtl_ray.config.base import Section


class _AlgorithmConfig(Section):
    is_population: ClassVar[bool] = False
    """True if trials are replaced by changed copies of better ones while they run."""


class RandomConfig(_AlgorithmConfig):
    """Independent draws from the space."""

    kind: Literal["random"] = "random"


class TPEConfig(_AlgorithmConfig):
    """Tree-structured Parzen estimator (Bergstra et al. 2011); with several objectives MOTPE (Ozaki et al. 2022)."""

    kind: Literal["tpe"] = "tpe"
    startup_trials: NonNegativeInt = 10
    """Random trials before the estimator is used."""


class NSGA2Config(_AlgorithmConfig):
    """Non-dominated sorting genetic algorithm II (Deb et al. 2002)."""

    kind: Literal["nsga2"] = "nsga2"
    population: Annotated[int, Field(ge=2)] = 16
    """Trials per generation."""


class _PopulationConfig(_AlgorithmConfig):
    is_population: ClassVar[bool] = True
    every: PositiveInt = 1
    """Epochs between two exchanges in the population."""
    quantile: Annotated[float, Field(gt=0, le=0.5)] = 0.25
    """Share of the population, the worst, that is replaced by copies of as many of the best."""


class PBTConfig(_PopulationConfig):
    """Population based training (Jaderberg et al. 2017); `trials` is the size of the population."""

    kind: Literal["pbt"] = "pbt"
    resample: Annotated[float, Field(ge=0, le=1)] = 0.25
    """Probability of drawing a new value instead of multiplying it by 0.8 or 1.2."""


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
    """Epochs that every trial is trained for at least."""
    reduction: Annotated[float, Field(gt=1)] = 3.0
    """One in so many of the trials at a rung continues; each rung is so many times as late as the one before."""

    @property
    def first_epochs(self) -> int:
        return self.grace


class MedianConfig(_SchedulerConfig):
    """Median stopping (Golovin et al. 2017): stop a trial whose best value is worse than the median of other means."""

    kind: Literal["median"] = "median"
    grace: PositiveInt = 1
    """Epochs that every trial is trained for at least."""
    min_trials: PositiveInt = 3
    """Trials that must have reached an epoch before any is stopped there."""

    @property
    def first_epochs(self) -> int:
        return self.grace


class HyperBandConfig(_SchedulerConfig):
    """HyperBand (Li et al. 2017): brackets of successive halving, in which trials wait for each other."""

    kind: Literal["hyperband"] = "hyperband"
    pauses_trials: ClassVar[bool] = True
    reduction: Annotated[float, Field(gt=1)] = 3.0


SchedulerConfig = Annotated[
    NoSchedulerConfig | ASHAConfig | MedianConfig | HyperBandConfig, Field(discriminator="kind")
]
