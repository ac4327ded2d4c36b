"""The architecture union: how the tasks share parameters, and how large each part is."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from mtl_ray.config.base import Section, name_alone
from mtl_ray.config.custom import CustomConfig
from mtl_ray.config.interactions import ConcatConfig, InteractionConfig

Probability = Annotated[float, Field(ge=0, lt=1)]


class MLPConfig(Section):
    """A stack of fully connected layers."""

    hidden: tuple[PositiveInt, ...] = (64,)
    """Width of each layer."""
    activation: Literal["relu", "gelu", "silu", "tanh"] = "relu"
    dropout: Probability = 0.0
    layer_norm: bool = False
    residual: bool = False
    """True if a layer's input is added to its output where the widths are equal (He et al. 2016)."""


class _ArchitectureConfig(Section):
    embedding_dim: PositiveInt = 16
    """Width of each feature's embedding, unless the feature sets its own `dim`."""
    embedding_dropout: Probability = 0.0
    """Share of embedding coordinates dropped in training."""
    interaction: Annotated[InteractionConfig, name_alone(InteractionConfig)] = ConcatConfig()
    """Interaction of the features' vectors before the trunk: a kind, or a section with its settings. All but `concat`
    and `dcn_v2` need vectors of one width, `embedding_dim`."""
    encoder: MLPConfig = MLPConfig(hidden=(128, 64))
    """The trunk: one for all tasks, one per task or one per expert, depending on the architecture."""
    tower: MLPConfig = MLPConfig(hidden=(32,))
    """Layers that each task has for itself above the trunk, before its output layer."""
    id_bias: bool = False
    """True if each user and each item has a number of its own for each task, which is added to the task's output; for
    tasks of kind regression, ordinal, count and binary, and ids that are inputs."""
    id_bias_prior: PositiveFloat = 10.0
    """Training rows of an id at which half of such a number counts; of n rows the share n / (n + prior) does."""
    needs_dense_tables: ClassVar[bool] = False
    """True if the loss has a gradient on every row of the embedding tables."""
    has_private_and_shared_tables: ClassVar[bool] = False
    """True if each task has embedding tables of its own beside shared ones."""

    @property
    def takes_inputs_by_task(self) -> bool:
        """True if the inputs may differ by task, as those of a partly shared image encoder do."""
        return False


class SingleTaskConfig(_ArchitectureConfig):
    """A separate network for each task, embedding tables included: the baseline for every way of sharing."""

    kind: Literal["single_task"] = "single_task"
    implementation: ClassVar[str] = "mtl_ray.models.architectures.single_task:SingleTaskNetwork"


class SharedBottomConfig(_ArchitectureConfig):
    """Hard parameter sharing (Caruana 1997): one encoder, or its first layers, for all tasks."""

    kind: Literal["shared_bottom"] = "shared_bottom"
    implementation: ClassVar[str] = "mtl_ray.models.architectures.shared_bottom:SharedBottomNetwork"
    shared_layers: NonNegativeInt | None = None
    """Layers of the encoder that all tasks share; each task has the rest for itself. All of them by default."""

    @property
    def takes_inputs_by_task(self) -> bool:
        return self.shared_layers == 0 or not self.encoder.hidden


class SoftSharingConfig(_ArchitectureConfig):
    """A network for each task, tied by a penalty on the distance between their parameters (Duong et al. 2015)."""

    kind: Literal["soft_sharing"] = "soft_sharing"
    needs_dense_tables: ClassVar[bool] = True
    implementation: ClassVar[str] = "mtl_ray.models.architectures.soft_sharing:SoftSharingNetwork"
    strength: NonNegativeFloat = 1e-3
    """Factor of the sum, over pairs of tasks, of squared distances."""


class CrossStitchConfig(_ArchitectureConfig):
    """A network for each task, joined after each layer by learned linear combinations (Misra et al. 2016)."""

    kind: Literal["cross_stitch"] = "cross_stitch"
    implementation: ClassVar[str] = "mtl_ray.models.architectures.cross_stitch:CrossStitchNetwork"
    self_weight: Annotated[float, Field(ge=0, le=1)] = 0.9
    """Initial weight of a task's own activation; the others share the rest."""


class MMoEConfig(_ArchitectureConfig):
    """Shared experts and a gate for each task (Ma et al. 2018)."""

    kind: Literal["mmoe"] = "mmoe"
    implementation: ClassVar[str] = "mtl_ray.models.architectures.mmoe:MMoENetwork"
    experts: PositiveInt = 4


class CGCConfig(_ArchitectureConfig):
    """Customized gate control (Tang et al. 2020): shared and task-specific experts, one level."""

    kind: Literal["cgc"] = "cgc"
    levels: ClassVar[int] = 1
    implementation: ClassVar[str] = "mtl_ray.models.architectures.ple:PLENetwork"
    shared_experts: PositiveInt = 2
    task_experts: NonNegativeInt = 1


class PLEConfig(_ArchitectureConfig):
    """Progressive layered extraction (Tang et al. 2020): levels of `cgc`, the shared experts gated as well."""

    kind: Literal["ple"] = "ple"
    implementation: ClassVar[str] = "mtl_ray.models.architectures.ple:PLENetwork"
    levels: PositiveInt = 2
    shared_experts: PositiveInt = 2
    task_experts: NonNegativeInt = 1


class AdaTTConfig(_ArchitectureConfig):
    """Adaptive task-to-task fusion (Li et al. 2023), the variant AdaTT-sp without shared experts."""

    kind: Literal["adatt"] = "adatt"
    implementation: ClassVar[str] = "mtl_ray.models.architectures.adatt:AdaTTNetwork"
    levels: PositiveInt = 2
    task_experts: PositiveInt = 2


class STEMConfig(_ArchitectureConfig):
    """Shared and task-specific embeddings (Su et al. 2024)."""

    kind: Literal["stem"] = "stem"
    has_private_and_shared_tables: ClassVar[bool] = True
    implementation: ClassVar[str] = "mtl_ray.models.architectures.stem:STEMNetwork"
    shared_experts: PositiveInt = 1
    task_experts: PositiveInt = 1


class PEPNetConfig(_ArchitectureConfig):
    """Parameter and embedding personalized network (Chang et al. 2023), personalised by profile and support."""

    kind: Literal["pepnet"] = "pepnet"
    implementation: ClassVar[str] = "mtl_ray.models.architectures.pepnet:PEPNetNetwork"
    gate_hidden: PositiveInt = 32


class POSOConfig(_ArchitectureConfig):
    """Personalized cold start modules (Dai et al. 2021): a shared bottom with layers gated by profile and support."""

    kind: Literal["poso"] = "poso"
    implementation: ClassVar[str] = "mtl_ray.models.architectures.poso:POSONetwork"
    gate_hidden: PositiveInt = 32


class ESMMConfig(_ArchitectureConfig):
    """Entire space multi-task model (Ma et al. 2018): a task `after` another is the product of two probabilities."""

    kind: Literal["esmm"] = "esmm"
    implementation: ClassVar[str] = "mtl_ray.models.architectures.esmm:ESMMNetwork"


class AITMConfig(_ArchitectureConfig):
    """Adaptive information transfer (Xi et al. 2021): a task attends to what its `after` task passes on."""

    kind: Literal["aitm"] = "aitm"
    implementation: ClassVar[str] = "mtl_ray.models.architectures.aitm:AITMNetwork"
    transfer_dim: PositiveInt = 32
    calibrator: NonNegativeFloat = 0.6
    """Weight of the penalty on a conversion more probable than the step before it."""


class CustomArchitectureConfig(CustomConfig, _ArchitectureConfig):
    """An architecture of your own: a `Network` that is built from a `NetworkSpec` and its settings."""

    base: ClassVar[str] = "mtl_ray.models.architectures.base:Network"
    is_part_of_model: ClassVar[bool] = True

    @property
    def needs_dense_tables(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.fact("needs_dense_tables", default=False)

    @property
    def has_private_and_shared_tables(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        sets = self.fact("sets")
        return sets is not None and len(sets(["task"])) > 1


ArchitectureConfig = Annotated[
    SingleTaskConfig
    | SharedBottomConfig
    | SoftSharingConfig
    | CrossStitchConfig
    | MMoEConfig
    | CGCConfig
    | PLEConfig
    | AdaTTConfig
    | STEMConfig
    | PEPNetConfig
    | POSOConfig
    | ESMMConfig
    | AITMConfig
    | CustomArchitectureConfig,
    Field(discriminator="kind"),
]
"""Union of all architectures, discriminated by `kind`."""
