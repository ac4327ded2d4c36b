"""The cold-start union: a vector made from an entity's attributes replaces an id with few training interactions."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt

from mtl_ray.config.base import Section
from mtl_ray.config.model import MLPConfig


class _ColdStartConfig(Section):
    content: MLPConfig = MLPConfig(hidden=(32,))
    """Layers over the attributes' vectors, before a linear layer to the width of the id's embedding."""
    needs_hidden_ids: ClassVar[bool] = False
    """True if it learns from training rows whose id is hidden."""
    needs_other_id: ClassVar[bool] = False
    """True if it reads the embeddings of the entities that an entity has interacted with."""
    needs_row_per_id: ClassVar[bool] = False
    """True if each id needs an embedding row of its own."""
    needs_row_losses: ClassVar[bool] = False
    """True if it takes steps on the losses of single rows."""
    compares_rows: ClassVar[bool] = True
    """True if its loss depends on several rows of the batch at once."""


class ContentGateConfig(_ColdStartConfig):
    """The id's vector and the content vector, mixed by the number of training interactions."""

    kind: Literal["content_gate"] = "content_gate"
    implementation: ClassVar[str] = "mtl_ray.models.cold_start.content:ContentGate"
    needs_hidden_ids: ClassVar[bool] = True
    compares_rows: ClassVar[bool] = False
    interactions: PositiveFloat = 3.0
    """Training interactions at which both vectors count equally before training; it is learned."""


class CLCRecConfig(_ColdStartConfig):
    """The content vector in place of an id not seen in training. It learns from a contrast between the two vectors of
    known entities (Wei et al. 2021)."""

    kind: Literal["clcrec"] = "clcrec"
    implementation: ClassVar[str] = "mtl_ray.models.cold_start.content:CLCRec"
    needs_hidden_ids: ClassVar[bool] = True
    weight: NonNegativeFloat = 0.1
    """Weight of the contrast in the total loss; no balancer changes it."""
    temperature: PositiveFloat = 0.2
    """Divisor of the cosines."""


class MetaEmbeddingConfig(_ColdStartConfig):
    """The content vector in place of an id not seen in training. It learns to predict well, and better still after one
    step of learning on a few rows (Pan et al. 2019)."""

    kind: Literal["meta_embedding"] = "meta_embedding"
    implementation: ClassVar[str] = "mtl_ray.models.cold_start.meta_learned:MetaEmbedding"
    needs_row_losses: ClassVar[bool] = True
    alpha: Annotated[float, Field(ge=0, le=1)] = 0.1
    """Share of the loss before the step; the rest is the loss after it."""
    step: PositiveFloat = 1e-4
    """Learning rate of the simulated step."""


class MWUFConfig(_ColdStartConfig):
    """A warmed-up vector in place of an id with few training interactions: scaled by the attributes, shifted by the
    entities that have interacted with it (Zhu et al. 2021)."""

    kind: Literal["mwuf"] = "mwuf"
    implementation: ClassVar[str] = "mtl_ray.models.cold_start.meta_learned:MWUF"
    needs_other_id: ClassVar[bool] = True
    needs_row_per_id: ClassVar[bool] = True
    interactions: PositiveInt = 20
    """Largest number of training interactions of an id that reads this vector."""


ColdStartConfig = Annotated[
    ContentGateConfig | CLCRecConfig | MetaEmbeddingConfig | MWUFConfig, Field(discriminator="kind")
]
