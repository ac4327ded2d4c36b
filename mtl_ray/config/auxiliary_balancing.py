"""Task weightings for the sake of a task that matters: the others are there to help it."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, PositiveFloat, PositiveInt

from mtl_ray.config.balancing_base import BalancingSection, GradientBalancingConfig


class GradientToTargetBalancingConfig(GradientBalancingConfig):
    """Weights of auxiliary tasks by the agreement of their gradient with that of the target (Du et al. 2018)."""

    kind: Literal["gradient_to_target"] = "gradient_to_target"
    keys_of_tasks: ClassVar[tuple[str, ...]] = ("target",)
    implementation: ClassVar[str] = "mtl_ray.balancing.auxiliary:GradientToTargetBalancer"
    target: str
    """The task that matters."""
    gate: Literal["weighted", "unweighted"] = "weighted"
    """`weighted`: by the cosine, where it is positive. `unweighted`: fully, where it is not negative."""


class BanditBalancingConfig(BalancingSection):
    """A learned policy over the tasks, rewarded by what each task does to the targets on validation rows."""

    kind: Literal["bandit"] = "bandit"
    keys_of_tasks: ClassVar[tuple[str, ...]] = ("targets",)
    implementation: ClassVar[str] = "mtl_ray.balancing.auxiliary:BanditBalancer"
    looks_ahead: ClassVar[bool] = True
    targets: tuple[str, ...] = Field(min_length=1)
    """The tasks whose validation loss is the reward."""
    every: PositiveInt = 20
    """Steps between two rounds."""
    eta: PositiveFloat = 0.5
    """Learning rate of the policy."""
    rows: PositiveInt = 4096
    """Validation rows, of all workers, on which a round is rewarded."""

    def rewarding_tasks(self, main: str) -> tuple[str, ...]:
        return self.targets


class GuardedBalancingConfig(BalancingSection):
    """The declared weights, of which an auxiliary task loses a part while it harms the main task (`main`)."""

    kind: Literal["guarded"] = "guarded"
    keys_of_tasks: ClassVar[tuple[str, ...]] = ("factors",)
    implementation: ClassVar[str] = "mtl_ray.balancing.guarded:GuardedBalancer"
    uses_declared_weights: ClassVar[bool] = True
    looks_ahead: ClassVar[bool] = True
    every: PositiveInt | None = None
    """Steps between two measurements; by default as many as let them take about an eighth of the time."""
    rows: PositiveInt = 2048
    """Validation rows, of all workers, that say in which direction the main task's loss falls."""
    floor: Annotated[float, Field(gt=0, le=1)] = 0.05
    """The smallest share of its weight that a task keeps. It is above 0, so that a task that no longer harms shows."""
    factors: dict[str, Annotated[float, Field(gt=0, le=1)]] = Field(default={})
    """Shares of their weights that tasks keep throughout, as an earlier training has found them: without validation
    rows, the one that chooses the number of epochs. If there are any, nothing is measured."""

    def rewarding_tasks(self, main: str) -> tuple[str, ...]:
        return () if self.factors else (main,)
