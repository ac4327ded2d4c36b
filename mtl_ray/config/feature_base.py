"""Settings that all feature kinds share."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import PositiveInt

from mtl_ray.config.base import NOT_ENCODED, Section
from mtl_ray.config.encoders import CNNEncoderConfig, SequenceEncoderConfig

if TYPE_CHECKING:
    from mtl_ray.config.experiment import Experiment

Entity = Literal["user", "item", "context"]


class FeatureSection(Section):
    """Settings that every feature kind has, and what other sections ask of a kind."""

    is_profile: ClassVar[bool] = True
    """True if it says what its entity is like, apart from the log."""
    is_key: ClassVar[bool] = False
    """True if it is the key of its entity."""

    entity: Entity = "context"
    """Whose property it is; decides what is hidden together when training simulates cold start."""
    column: str | None = None
    """Column of the log or of a side table; the feature's own name by default."""
    dim: Annotated[PositiveInt | None, NOT_ENCODED] = None
    """Width of its embedding; `model.embedding_dim` by default."""

    @property
    def is_input(self) -> bool:
        """True if the model reads it."""
        return True

    @property
    def is_attribute(self) -> bool:
        """True if it is a vector that describes an entity whose id is new."""
        return True

    def raw_column(self, name: str, features: "Mapping[str, FeatureSection]") -> str | None:
        """Return the raw column it is read from; None if `prepare` makes it. It is one of `features`, under `name`."""
        return self.column or name

    def tells_interactions(self, key_column: str) -> bool:
        """Return whether it tells with whom the entity with the key column has interacted."""
        return False

    def width(self, default: int) -> int:
        """Return the width of its vector where the model's default is `default`."""
        return self.dim or default

    def check(self, name: str, experiment: "Experiment") -> None:
        """Check it against the other sections. Raises ValueError."""


def key_of(features: Mapping[str, FeatureSection], entity: str) -> str:
    """Return the name of the feature that is the key of an entity, `user` or `item`."""
    return next(name for name, feature in features.items() if feature.is_key and feature.entity == entity)


def column_of(features: Mapping[str, FeatureSection], name: str) -> str:
    """Return the raw column of a feature, or its name if `prepare` makes it."""
    return features[name].raw_column(name, features) or name


def readers_of(features: Mapping[str, FeatureSection], column: str) -> list[str]:
    """Return the names of the features that read a raw column."""
    return [name for name, feature in features.items() if feature.raw_column(name, features) == column]


FEWER_LAYERS = "{}: expected fewer layers than an image's encoder has"


def check_encoder(name: str, encoder: SequenceEncoderConfig, width: int) -> None:
    """Check the encoder of a list of vectors of the given width. Raises ValueError."""
    if isinstance(encoder, CNNEncoderConfig) and encoder.shared_layers is not None:
        raise ValueError(FEWER_LAYERS.format(f"features.{name}.encoder.shared_layers"))
    if width % encoder.width_divisor:
        raise ValueError(f"features.{name}.encoder.heads: expected a divisor of the width {width}")
