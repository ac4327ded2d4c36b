"""What stands for an id that training has seen seldom or never: a vector made from the entity's attributes."""

from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt

from mtl_ray.config.base import Section
from mtl_ray.config.model import MLPConfig


class _ColdStartConfig(Section):
    content: MLPConfig = MLPConfig(hidden=(32,))
    """Layers over the attributes' vectors, before a linear layer to the width of the id's embedding."""


class ContentGateConfig(_ColdStartConfig):
    """The id's vector and the content vector, mixed by the number of training interactions."""

    kind: Literal["content_gate"] = "content_gate"
    interactions: PositiveFloat = 3.0
    """Training interactions at which both count alike, before training; it is learned."""


class CLCRecConfig(_ColdStartConfig):
    """The content vector in place of an id not seen in training, taught by a contrast between both vectors of known
    entities (Wei et al. 2021)."""

    kind: Literal["clcrec"] = "clcrec"
    weight: NonNegativeFloat = 0.1
    """Of the contrast in the total loss; no balancer changes it."""
    temperature: PositiveFloat = 0.2
    """Cosines are divided by it."""


class MetaEmbeddingConfig(_ColdStartConfig):
    """The content vector in place of an id not seen in training, taught to predict well and to do so better after a
    step of learning on a few rows (Pan et al. 2019)."""

    kind: Literal["meta_embedding"] = "meta_embedding"
    alpha: Annotated[float, Field(ge=0, le=1)] = 0.1
    """Share of the loss before the step; the rest is that after it."""
    step: PositiveFloat = 1e-4
    """Learning rate of the simulated step."""


class MWUFConfig(_ColdStartConfig):
    """A vector scaled by what the attributes say and shifted by who has interacted, in place of an id seen seldom or
    never (Zhu et al. 2021)."""

    kind: Literal["mwuf"] = "mwuf"
    interactions: PositiveInt = 20
    """Ids with at most so many training interactions read it."""


ColdStartConfig = Annotated[
    ContentGateConfig | CLCRecConfig | MetaEmbeddingConfig | MWUFConfig, Field(discriminator="kind")
]
