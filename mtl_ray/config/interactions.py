"""The interaction union: how the features' vectors interact before the trunk of the model."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, PositiveInt

from mtl_ray.config.base import Section


class _InteractionConfig(Section):
    needs_one_width: ClassVar[bool] = False
    """True if all vectors must have the width `embedding_dim`."""
    adds_dot_product: ClassVar[bool] = False
    """True if a dot product of the user's and the item's vectors is added to the outputs."""


class ConcatConfig(_InteractionConfig):
    """The features' vectors side by side."""

    kind: Literal["concat"] = "concat"
    implementation: ClassVar[str] = "mtl_ray.models.interactions:Concatenation"


class DotConfig(_InteractionConfig):
    """`concat`, and a dot product of the user's and the item's vectors that goes straight to the outputs."""

    kind: Literal["dot"] = "dot"
    numbers: Literal["plain", "gated"] = "plain"
    """How the vectors of numbers, which are larger than those of ids at the start, enter the product: as they are, or
    times a learned factor each, which is 0 at the start."""
    implementation: ClassVar[str] = "mtl_ray.models.interactions:Concatenation"
    needs_one_width: ClassVar[bool] = True
    adds_dot_product: ClassVar[bool] = True


class FMConfig(_InteractionConfig):
    """`concat`, and beside it the second-order term of a factorisation machine before its sum over coordinates."""

    kind: Literal["fm"] = "fm"
    implementation: ClassVar[str] = "mtl_ray.models.interactions:FactorisationMachine"
    needs_one_width: ClassVar[bool] = True


class DCNv2Config(_InteractionConfig):
    """Cross layers over the concatenated vectors (Wang et al. 2021)."""

    kind: Literal["dcn_v2"] = "dcn_v2"
    implementation: ClassVar[str] = "mtl_ray.models.interactions:CrossNetwork"
    layers: PositiveInt = 2


class DLRMDotConfig(_InteractionConfig):
    """Dot products of all pairs of vectors, beside a bottom layer over the numbers (Naumov et al. 2019)."""

    kind: Literal["dlrm_dot"] = "dlrm_dot"
    implementation: ClassVar[str] = "mtl_ray.models.interactions:PairwiseDots"
    needs_one_width: ClassVar[bool] = True


InteractionConfig = Annotated[
    ConcatConfig | DotConfig | FMConfig | DCNv2Config | DLRMDotConfig, Field(discriminator="kind")
]
