"""The architecture union: the door through which a new way of sharing comes in."""

from typing import Annotated, Literal

from pydantic import Field, PositiveInt

from mtl_ray.experiment.section import Section

Probability = Annotated[float, Field(ge=0, lt=1)]


class MLPSettings(Section):
    hidden: tuple[PositiveInt, ...] = (64,)
    """Width of each layer."""
    activation: Literal["relu", "gelu", "silu", "tanh"] = "relu"
    dropout: Probability = 0.0
    layer_norm: bool = False


class _Architecture(Section):
    embedding_dim: PositiveInt = 16
    """Width of each feature's embedding, unless the feature sets its own `dim`."""
    embedding_dropout: Probability = 0.0
    """Share of embedding coordinates dropped in training."""
    interaction: Literal["concat", "dot"] = "concat"
    """`concat`: the features' vectors side by side. `dot`: in addition a dot product of the user's and the item's
    vectors goes straight to the outputs (all features then have the width `embedding_dim`)."""


class SharedBottom(_Architecture):
    """Hard parameter sharing: one encoder for all tasks, one tower a task (Caruana 1997)."""

    kind: Literal["shared_bottom"] = "shared_bottom"
    encoder: MLPSettings = MLPSettings(hidden=(128, 64))
    tower: MLPSettings = MLPSettings(hidden=(32,))


Architecture = SharedBottom
"""Union of all architectures, discriminated by `kind`."""
