"""The encoders: how a number, a list of vectors, a vector or an image becomes one vector."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Discriminator, Field, NonNegativeInt, PositiveFloat, PositiveInt, Tag, field_validator

from mtl_ray.config.base import Section
from mtl_ray.config.custom import CustomConfig
from mtl_ray.config.model import MLPConfig, Probability


class _EncoderConfig(Section):
    reads_row: ClassVar[bool] = False
    """True if the row's own item takes part in encoding a history, or its user in encoding an audience."""

    @property
    def width_divisor(self) -> int:
        """Number of which the width of the entries must be a multiple."""
        return 1


class MeanPoolConfig(_EncoderConfig):
    """The mean of a set's vectors; of a history the sum over the square root of its length (SVD++, Koren 2008)."""

    kind: Literal["pool"] = "pool"


class MLPEncoderConfig(MLPConfig):
    """Layers over a dense vector."""

    kind: Literal["mlp"] = "mlp"


class CNNEncoderConfig(_EncoderConfig):
    """Convolutions and pooling: over positions of a history or a text, or over both directions of an image."""

    kind: Literal["cnn"] = "cnn"
    implementation: ClassVar[str] = "mtl_ray.nn.sequence_encoders:SequenceCNN"
    channels: Annotated[tuple[PositiveInt, ...], Field(min_length=1)] = (32, 64)
    kernel: PositiveInt = 3
    """Width of each kernel; an odd number keeps rows aligned."""
    shared_layers: NonNegativeInt | None = None
    """Convolutions that all tasks share; each task has the rest for itself. For images under `shared_bottom` only."""

    @field_validator("kernel")
    @classmethod
    def _odd(cls, kernel: int) -> int:
        if kernel % 2 == 0:
            raise ValueError(f"expected an odd number; found {kernel}")
        return kernel


class RNNEncoderConfig(_EncoderConfig):
    """The state after the last entry of a recurrent network."""

    kind: Literal["rnn"] = "rnn"
    implementation: ClassVar[str] = "mtl_ray.nn.sequence_encoders:SequenceRNN"
    cell: Literal["gru", "lstm"] = "gru"
    hidden: PositiveInt = 32


class TransformerEncoderConfig(_EncoderConfig):
    """Self-attention with positions counted back from the most recent entry (Vaswani et al. 2017)."""

    kind: Literal["transformer"] = "transformer"
    implementation: ClassVar[str] = "mtl_ray.nn.sequence_encoders:SequenceTransformer"
    layers: PositiveInt = 1
    heads: PositiveInt = 2
    causal: bool = True
    """True if an entry sees only earlier ones and the last state is read (as SASRec); otherwise the mean of all states
    is read."""
    dropout: Probability = 0.0

    @property
    def width_divisor(self) -> int:
        return self.heads


class AttentionEncoderConfig(_EncoderConfig):
    """Target attention: entries of a history weighted by their fit to the row's item (DIN, Zhou et al. 2018), or of an
    audience by their fit to the row's user."""

    kind: Literal["attention"] = "attention"
    implementation: ClassVar[str] = "mtl_ray.nn.sequence_encoders:TargetAttention"
    reads_row: ClassVar[bool] = True
    hidden: PositiveInt = 32


class LinearNumberConfig(Section):
    """A linear layer over the standardised number."""

    kind: Literal["linear"] = "linear"


class PiecewiseLinearNumberConfig(Section):
    """A linear layer over the number's place among its quantiles (piecewise-linear encoding, Gorishniy et al. 2022).

    There are at most 32 pieces, with about as many training rows each. A number's vector moves along a line within a
    piece, and turns between pieces. Skewed numbers need no logarithm.
    """

    kind: Literal["piecewise_linear"] = "piecewise_linear"


class PeriodicNumberConfig(Section):
    """A layer over sines and cosines of the standardised number with learned frequencies (Gorishniy et al. 2022)."""

    kind: Literal["periodic"] = "periodic"
    frequencies: PositiveInt = 24
    scale: PositiveFloat = 0.1
    """Standard deviation of the initial frequencies."""


class CustomEncoderConfig(CustomConfig, _EncoderConfig):
    """An encoder of your own, for a feature of any kind that has one: a `FeatureEncoder` that is built from an
    `EncoderSpec` and its settings."""

    base: ClassVar[str] = "mtl_ray.nn.own_encoder:FeatureEncoder"
    is_part_of_model: ClassVar[bool] = True
    shared_layers: ClassVar[None] = None

    @property
    def reads_row(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.fact("reads_row", default=False)


SequenceEncoderConfig = Annotated[
    MeanPoolConfig
    | CNNEncoderConfig
    | RNNEncoderConfig
    | TransformerEncoderConfig
    | AttentionEncoderConfig
    | CustomEncoderConfig,
    Field(discriminator="kind"),
]
TextEncoderConfig = Annotated[MeanPoolConfig | CNNEncoderConfig | CustomEncoderConfig, Field(discriminator="kind")]
NumberEncoderConfig = Annotated[
    LinearNumberConfig | PiecewiseLinearNumberConfig | PeriodicNumberConfig | CustomEncoderConfig,
    Field(discriminator="kind"),
]


def _is_custom(value: Any) -> str:
    kind = value.get("kind") if isinstance(value, Mapping) else getattr(value, "kind", None)
    return "custom" if kind == "custom" else "own"


_EITHER = Discriminator(_is_custom)  # files may leave out the kind of the other member
_Custom = Annotated[CustomEncoderConfig, Tag("custom")]
VectorEncoderConfig = Annotated[Annotated[MLPEncoderConfig, Tag("own")] | _Custom, _EITHER]
ImageEncoderConfig = Annotated[Annotated[CNNEncoderConfig, Tag("own")] | _Custom, _EITHER]
