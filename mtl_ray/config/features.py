"""Inputs of the model, each owned by an entity: user, item or context."""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from mtl_ray.config.base import NOT_ENCODED, Section, name_alone
from mtl_ray.config.cold_start import ColdStartConfig
from mtl_ray.config.model import (
    CNNEncoderConfig,
    MeanPoolConfig,
    MLPEncoderConfig,
    SequenceEncoderConfig,
    TextEncoderConfig,
)

Entity = Literal["user", "item", "context"]


class _FeatureConfig(Section):
    entity: Entity = "context"
    """Whose property it is; decides what is hidden together when training simulates cold start."""
    column: str | None = None
    """Column of the log or of a side table; the feature's own name by default."""
    dim: Annotated[PositiveInt | None, NOT_ENCODED] = None
    """Width of its embedding; `model.embedding_dim` by default."""


class CompressionConfig(Section):
    """Fewer rows than values in an embedding table; the prepared data set stays the same."""

    kind: Literal["hash", "quotient_remainder"]
    """`hash`: values share rows. `quotient_remainder`: a value reads the product of a row of a table of `rows` rows and
    one of a second table, which has the number of values divided by `rows`; no two values read the same two (Shi et al.
    2020)."""
    rows: PositiveInt
    """Rows of the table."""


class IdFeatureConfig(_FeatureConfig):
    """The key of a user or of an item. Exactly one of each is needed."""

    kind: Literal["id"] = "id"
    entity: Literal["user", "item"]  # pyright: ignore[reportGeneralTypeIssues, reportIncompatibleVariableOverride]
    min_count: PositiveInt = 1
    """Ids with fewer training rows share the "unknown" row of the embedding table."""
    embed: bool = True
    """Whether the id is an input; otherwise it only says which rows belong together."""
    cold_start: Annotated[Annotated[ColdStartConfig, name_alone(ColdStartConfig)] | None, NOT_ENCODED] = None
    """What the attributes do for an id seen seldom or never; by default such an id reads the "unknown" row."""
    compression: Annotated[CompressionConfig | None, NOT_ENCODED] = None
    """How its embedding table is made smaller; by default each id has a row."""


class CategoricalFeatureConfig(_FeatureConfig):
    kind: Literal["categorical"] = "categorical"
    min_count: PositiveInt = 1
    """Values with fewer training rows are "unknown"."""
    compression: Annotated[CompressionConfig | None, NOT_ENCODED] = None
    """As that of an id."""


class NumericFeatureConfig(_FeatureConfig):
    """A number, standardised with the mean and deviation of the training rows, or cut into quantile buckets."""

    kind: Literal["numeric"] = "numeric"
    buckets: Annotated[int, Field(ge=2, le=1024)] | None = None
    """Number of quantile buckets, each with an embedding; None keeps the standardised number."""


class MultiCategoricalFeatureConfig(_FeatureConfig):
    """A set of categories, as a list or as one string with separators."""

    kind: Literal["multi_categorical"] = "multi_categorical"
    separator: str = "|"
    max_length: PositiveInt = 8
    """Values kept per row (the first ones)."""
    min_count: PositiveInt = 1


class TextFeatureConfig(_FeatureConfig):
    """A title or other short text, split into lower-case words and numbers."""

    kind: Literal["text"] = "text"
    max_length: PositiveInt = 10
    """Words kept per row (the first ones)."""
    min_count: PositiveInt = 2
    encoder: Annotated[TextEncoderConfig, name_alone(TextEncoderConfig), NOT_ENCODED] = MeanPoolConfig()
    """How the words become one vector."""


class SequenceFeatureConfig(_FeatureConfig):
    """The user's history: the last items before this row in time, never the row itself nor the future.

    Made by `prepare` from the log. Rows at the same instant do not see each other. Interactions of evaluation rows
    enter no history, except under the time split, where an earlier evaluation row is known to a later one. Rows that
    the split shows enter histories as training rows do.
    """

    kind: Literal["sequence"] = "sequence"
    entity: Literal["user"] = "user"  # pyright: ignore[reportIncompatibleVariableOverride]
    of: str
    """The id feature (of the item) whose values the history holds and whose embedding table it shares."""
    max_length: PositiveInt = 50
    """Items kept: the most recent ones, oldest first."""
    known: Literal["past", "all"] = "past"
    """What a row knows of its user: the interactions before it; or all others that are trained on or shown, for splits
    that do not cut time. Of all others a training row sees a random share, drawn anew in every epoch: it so stands for
    users with few and with many interactions, and the one left out cannot be told from what the others add up to."""
    values: str | None = None
    """Numeric column of the log whose standardised value (e.g. the rating given) weights each item of the history in
    a second pooled vector."""
    encoder: Annotated[SequenceEncoderConfig, name_alone(SequenceEncoderConfig), NOT_ENCODED] = MeanPoolConfig()
    """How the history becomes one vector; with `values`, all but `pool` also read the value beside each item."""


class StatisticFeatureConfig(_FeatureConfig):
    """What training rows say of an entity: the number of its labels and their mean, shrunken towards the mean of all.

    Made by `prepare` from the log. A training row sees strictly earlier training rows alone (without `data.time` those
    of other folds), never its own label. Any other row sees all training rows, and no evaluation row, however early.
    """

    kind: Literal["statistic"] = "statistic"
    column: str | None = None
    """Column whose values have a statistic each; by default the id of the entity."""
    of: str
    """Numeric column of the log, usually a label: a feedback or a rating."""
    prior: PositiveFloat = 20.0
    """Labels at the mean of all that each mean starts from."""

    @model_validator(mode="after")
    def _has_key(self) -> "StatisticFeatureConfig":
        if self.entity == "context" and self.column is None:
            raise ValueError("expected an entity, `user` or `item`, or a column whose values have a statistic each")
        return self


class VectorFeatureConfig(_FeatureConfig):
    """A dense vector, such as an embedding made elsewhere: a list of numbers, read as it is."""

    kind: Literal["vector"] = "vector"
    size: PositiveInt
    """Numbers in each list; lists of another length are quarantined."""
    encoder: Annotated[MLPEncoderConfig | None, NOT_ENCODED] = None
    """Layers over the vector; without it the vector itself goes to the trunk."""


class ImageFeatureConfig(_FeatureConfig):
    """An image: a list of height x width x channels numbers, row by row."""

    kind: Literal["image"] = "image"
    shape: tuple[PositiveInt, PositiveInt, PositiveInt]
    """Height, width, channels."""
    scale: PositiveFloat = 255.0
    """Divisor of the numbers."""
    encoder: Annotated[CNNEncoderConfig, NOT_ENCODED] = CNNEncoderConfig()

    @property
    def size(self) -> int:
        """Numbers in each list."""
        return self.shape[0] * self.shape[1] * self.shape[2]


FeatureConfig = Annotated[
    IdFeatureConfig
    | CategoricalFeatureConfig
    | NumericFeatureConfig
    | MultiCategoricalFeatureConfig
    | TextFeatureConfig
    | SequenceFeatureConfig
    | StatisticFeatureConfig
    | VectorFeatureConfig
    | ImageFeatureConfig,
    Field(discriminator="kind"),
]


def attributes_of(features: Mapping[str, FeatureConfig], entity: Entity) -> list[str]:
    """Inputs that say what an entity is like: no id, no history, and no image that each task reads differently."""
    owned = {n: f for n, f in features.items() if f.entity == entity}
    plain = {n: f for n, f in owned.items() if not isinstance(f, IdFeatureConfig | SequenceFeatureConfig)}
    return [n for n, f in plain.items() if not isinstance(f, ImageFeatureConfig) or f.encoder.shared_layers is None]
