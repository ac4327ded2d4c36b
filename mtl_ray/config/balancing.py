"""The balancing union: how the task losses become one scalar. Formulas and papers are with the code in `balancing/`.

Hyper-parameters have the names and defaults of their paper where it gives any.
"""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from mtl_ray.config.auxiliary_balancing import (
    BanditBalancingConfig,
    GradientToTargetBalancingConfig,
    GuardedBalancingConfig,
)
from mtl_ray.config.balancing_base import BalancingSection, GradientBalancingConfig, Space
from mtl_ray.config.custom import CustomConfig

Share = Annotated[float, Field(ge=0, le=1)]


class StaticBalancingConfig(BalancingSection):
    """The sum of w_t L_t with the weights that the tasks declare, relative to each other."""

    kind: Literal["static"] = "static"
    implementation: ClassVar[str] = "mtl_ray.balancing.static:StaticBalancer"
    uses_declared_weights: ClassVar[bool] = True


class EqualBalancingConfig(BalancingSection):
    """The plain mean of the losses; weights that the tasks declare are ignored."""

    kind: Literal["equal"] = "equal"
    implementation: ClassVar[str] = "mtl_ray.balancing.static:EqualBalancer"


class ScheduledBalancingConfig(BalancingSection):
    """Static weights that change between epochs."""

    kind: Literal["scheduled"] = "scheduled"
    keys_of_tasks: ClassVar[tuple[str, ...]] = ("weights",)
    implementation: ClassVar[str] = "mtl_ray.balancing.static:ScheduledBalancer"
    weights: dict[str, dict[NonNegativeInt, NonNegativeFloat]] = Field(min_length=1)
    """Weights by task and first epoch (from 0), e.g. `{click: {0: 1.0, 5: 0.2}}`, relative to those of other tasks.
    Before the first epoch, and for tasks that are not named, the declared weight holds."""


class UncertaintyBalancingConfig(BalancingSection):
    """Homoscedastic uncertainty (Kendall et al. 2018)."""

    kind: Literal["uncertainty"] = "uncertainty"
    implementation: ClassVar[str] = "mtl_ray.balancing.loss_based:uncertainty"
    lr: PositiveFloat | None = None
    """Learning rate of the log-variances (Adam); `training.optimizer.lr` by default."""


class DWABalancingConfig(BalancingSection):
    """Dynamic weight average (Liu et al. 2019)."""

    kind: Literal["dwa"] = "dwa"
    implementation: ClassVar[str] = "mtl_ray.balancing.loss_based:DWABalancer"
    temperature: PositiveFloat = 2.0


class RLWBalancingConfig(BalancingSection):
    """Random loss weighting (Lin et al. 2022)."""

    kind: Literal["rlw"] = "rlw"
    implementation: ClassVar[str] = "mtl_ray.balancing.loss_based:rlw"


class GeometricMeanBalancingConfig(BalancingSection):
    """Geometric mean of the losses (Chennupati et al. 2019)."""

    kind: Literal["geometric_mean"] = "geometric_mean"
    implementation: ClassVar[str] = "mtl_ray.balancing.loss_based:geometric_mean"


class IMTLLBalancingConfig(BalancingSection):
    """Impartial multi-task learning, loss half (Liu et al. 2021)."""

    kind: Literal["imtl_l"] = "imtl_l"
    implementation: ClassVar[str] = "mtl_ray.balancing.loss_based:imtl_l"
    lr: PositiveFloat | None = None
    """Learning rate of the scales (Adam); `training.optimizer.lr` by default."""


class FAMOBalancingConfig(BalancingSection):
    """Fast adaptive multi-task optimization (Liu et al. 2023). It runs the model twice a step."""

    kind: Literal["famo"] = "famo"
    implementation: ClassVar[str] = "mtl_ray.balancing.loss_based:FAMOBalancer"
    lr: PositiveFloat = 0.025
    """Learning rate of the task logits (Adam)."""
    gamma: NonNegativeFloat = 0.001
    """Decay of the task logits."""
    sample: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Share of the batch's rows on which the losses after the step are measured: all in the paper. A sample saves the
    second pass, at the price of noise where labels are few or inputs are dropped out."""

    @property
    def sampled_share(self) -> float:
        return self.sample


class SmoothTchebycheffBalancingConfig(BalancingSection):
    """Smooth Tchebycheff scalarization (Lin et al. 2024), with equal preferences."""

    kind: Literal["smooth_tchebycheff"] = "smooth_tchebycheff"
    implementation: ClassVar[str] = "mtl_ray.balancing.loss_based:smooth_tchebycheff"
    mu: PositiveFloat = 0.1
    """Smoothing: the smaller it is, the closer the result is to the maximum of the losses."""


class DTPBalancingConfig(BalancingSection):
    """Dynamic task prioritisation: the harder task first (Guo et al. 2018)."""

    kind: Literal["dtp"] = "dtp"
    implementation: ClassVar[str] = "mtl_ray.balancing.loss_based:DTPBalancer"
    alpha: Annotated[float, Field(gt=0, le=1)] = 0.1
    """Share of the newest value in the running average of a task's performance (ours; the paper gives none)."""
    gamma: NonNegativeFloat = 2.0
    """Focusing exponent (that of the focal loss; the paper gives none)."""


class GradNormBalancingConfig(GradientBalancingConfig):
    """Gradient normalization (Chen et al. 2018)."""

    kind: Literal["gradnorm"] = "gradnorm"
    implementation: ClassVar[str] = "mtl_ray.balancing.gradnorm:GradNormBalancer"
    alpha: NonNegativeFloat = 1.5
    """Strength of the pull towards equal training rates."""
    lr: PositiveFloat = 0.025
    """Learning rate of the weights (Adam)."""


class PCGradBalancingConfig(GradientBalancingConfig):
    """Projection of conflicting gradients (Yu et al. 2020)."""

    kind: Literal["pcgrad"] = "pcgrad"
    implementation: ClassVar[str] = "mtl_ray.balancing.gramian:pcgrad"


class MGDABalancingConfig(GradientBalancingConfig):
    """Multiple-gradient descent: the shortest convex combination (Sener and Koltun 2018)."""

    kind: Literal["mgda"] = "mgda"
    implementation: ClassVar[str] = "mtl_ray.balancing.gramian:mgda"
    epsilon: PositiveFloat = 1e-3
    """The solver stops at a smaller step."""
    max_iters: PositiveInt = 100


class CAGradBalancingConfig(GradientBalancingConfig):
    """Conflict-averse gradient descent (Liu et al. 2021)."""

    kind: Literal["cagrad"] = "cagrad"
    implementation: ClassVar[str] = "mtl_ray.balancing.gramian:cagrad"
    c: NonNegativeFloat = 0.4
    """Radius of the search around the mean gradient, in units of its norm."""


class IMTLGBalancingConfig(GradientBalancingConfig):
    """Impartial multi-task learning, gradient half (Liu et al. 2021)."""

    kind: Literal["imtl_g"] = "imtl_g"
    implementation: ClassVar[str] = "mtl_ray.balancing.gramian:imtl_g"


class NashMTLBalancingConfig(GradientBalancingConfig):
    """Nash bargaining solution (Navon et al. 2022)."""

    kind: Literal["nash_mtl"] = "nash_mtl"
    implementation: ClassVar[str] = "mtl_ray.balancing.nash_mtl:NashMTLBalancer"
    update_weights_every: PositiveInt = 1
    """Steps between two solutions."""
    max_norm: NonNegativeFloat = 1.0
    """Largest norm of the combined gradient; 0 for no limit."""


class AlignedMTLBalancingConfig(GradientBalancingConfig):
    """Alignment of principal components (Senushkin et al. 2023)."""

    kind: Literal["aligned_mtl"] = "aligned_mtl"
    implementation: ClassVar[str] = "mtl_ray.balancing.gramian:aligned_mtl"
    scale_mode: Literal["min", "median", "rmse"] = "min"


class FairGradBalancingConfig(GradientBalancingConfig):
    """Alpha-fair utilities (Ban and Ji 2024)."""

    kind: Literal["fairgrad"] = "fairgrad"
    implementation: ClassVar[str] = "mtl_ray.balancing.gramian:fairgrad"
    alpha: PositiveFloat = 1.0


class UPGradBalancingConfig(GradientBalancingConfig):
    """Unconflicting projection of gradients (Quinton and Rey 2024)."""

    kind: Literal["upgrad"] = "upgrad"
    implementation: ClassVar[str] = "mtl_ray.balancing.gramian:upgrad"


class GradVacBalancingConfig(GradientBalancingConfig):
    """Gradient vaccine (Wang et al. 2021)."""

    kind: Literal["gradvac"] = "gradvac"
    implementation: ClassVar[str] = "mtl_ray.balancing.gramian:GradVacBalancer"
    beta: Share = 0.01
    """Share of the newest cosine in the running average that is the goal."""


class GradDropBalancingConfig(BalancingSection):
    """Gradient sign dropout (Chen et al. 2020), on the shared representation."""

    kind: Literal["graddrop"] = "graddrop"
    implementation: ClassVar[str] = "mtl_ray.balancing.gradient_surgery:GradDropBalancer"
    leak: Share = 0.0
    """Share of each task's gradient that is never dropped."""

    @property
    def gradient_space(self) -> Space:
        return "representation"


class DBMTLBalancingConfig(BalancingSection):
    """Dual balancing (Lin et al. 2023), on all parameters below the shared representation."""

    kind: Literal["db_mtl"] = "db_mtl"
    implementation: ClassVar[str] = "mtl_ray.balancing.gradient_surgery:DBMTLBalancer"
    beta: Share = 0.9
    """Forgetting rate of the running average of the gradients at the first step."""
    beta_sigma: NonNegativeFloat = 0.5
    """Exponent of the decay of `beta` over steps."""

    @property
    def gradient_space(self) -> Space:
        return "parameters"


class CustomBalancingConfig(CustomConfig, BalancingSection):
    """A task weighting of your own: a `Balancer` that is built from its settings and the `WeightedTasks`."""

    base: ClassVar[str] = "mtl_ray.balancing.base:Balancer"

    @property
    def looks_ahead(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.fact("probe_every", 0) > 0

    @property
    def gradient_space(self) -> Space | None:
        return self.fact("gradient_space")

    @property
    def sampled_share(self) -> float:
        return self.fact("sample") or 1.0

    def rewarding_tasks(self, main: str) -> tuple[str, ...]:
        return (main,) if self.looks_ahead else ()


BalancingConfig = Annotated[
    StaticBalancingConfig
    | EqualBalancingConfig
    | ScheduledBalancingConfig
    | UncertaintyBalancingConfig
    | DWABalancingConfig
    | RLWBalancingConfig
    | GeometricMeanBalancingConfig
    | IMTLLBalancingConfig
    | FAMOBalancingConfig
    | SmoothTchebycheffBalancingConfig
    | DTPBalancingConfig
    | GradNormBalancingConfig
    | PCGradBalancingConfig
    | MGDABalancingConfig
    | CAGradBalancingConfig
    | IMTLGBalancingConfig
    | NashMTLBalancingConfig
    | AlignedMTLBalancingConfig
    | FairGradBalancingConfig
    | UPGradBalancingConfig
    | GradVacBalancingConfig
    | GradDropBalancingConfig
    | DBMTLBalancingConfig
    | GradientToTargetBalancingConfig
    | BanditBalancingConfig
    | GuardedBalancingConfig
    | CustomBalancingConfig,
    Field(discriminator="kind"),
]
"""Union of all task weightings, discriminated by `kind`."""
