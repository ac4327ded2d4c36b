"""Inputs of the model, each owned by an entity: user, item or context."""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from mtl_ray.config.base import Section, name_alone
from mtl_ray.config.cold_start import ColdStart
from mtl_ray.config.model import CNNEncoder, MeanPool, MLPEncoder, SequenceEncoder, TextEncoder

Entity = Literal["user", "item", "context"]


class _Feature(Section):
    entity: Entity = "context"
    """Whose property it is; decides what is hidden together when training simulates cold start."""
    column: str | None = None
    """Column of the log or of a side table; the feature's own name by default."""
    dim: PositiveInt | None = None
    """Width of its embedding; `model.embedding_dim` by default."""


class Compression(Section):
    """Fewer rows than values in an embedding table; the prepared data set stays the same."""

    kind: Literal["hash", "quotient_remainder"]
    """`hash`: values share rows. `quotient_remainder`: a value reads the product of a row of a table of `rows` rows and
    one of a second table, which has the number of values divided by `rows`; no two values read the same two (Shi et al.
    2020)."""
    rows: PositiveInt
    """Rows of the table."""


class IdFeature(_Feature):
    """The key of a user or of an item. Exactly one of each is needed."""

    kind: Literal["id"] = "id"
    entity: Literal["user", "item"]  # pyright: ignore[reportGeneralTypeIssues, reportIncompatibleVariableOverride]
    min_count: PositiveInt = 1
    """Ids with fewer training rows share the "unknown" row of the embedding table."""
    embed: bool = True
    """Whether the id is an input; otherwise it only says which rows belong together."""
    cold_start: Annotated[ColdStart, name_alone(ColdStart)] | None = None
    """What the attributes do for an id seen seldom or never; by default such an id reads the "unknown" row."""
    compression: Compression | None = None
    """How its embedding table is made smaller; by default each id has a row."""


class CategoricalFeature(_Feature):
    kind: Literal["categorical"] = "categorical"
    min_count: PositiveInt = 1
    """Values with fewer training rows are "unknown"."""
    compression: Compression | None = None
    """As that of an id."""


class NumericFeature(_Feature):
    """A number, standardised with the mean and deviation of the training rows, or cut into quantile buckets."""

    kind: Literal["numeric"] = "numeric"
    buckets: Annotated[int, Field(ge=2, le=1024)] | None = None
    """Number of quantile buckets, each with an embedding; None keeps the standardised number."""


class MultiCategoricalFeature(_Feature):
    """A set of categories, as a list or as one string with separators."""

    kind: Literal["multi_categorical"] = "multi_categorical"
    separator: str = "|"
    max_length: PositiveInt = 8
    """Values kept per row (the first ones)."""
    min_count: PositiveInt = 1


class TextFeature(_Feature):
    """A title or other short text, split into lower-case words and numbers."""

    kind: Literal["text"] = "text"
    max_length: PositiveInt = 10
    """Words kept per row (the first ones)."""
    min_count: PositiveInt = 2
    encoder: Annotated[TextEncoder, name_alone(TextEncoder)] = MeanPool()
    """How the words become one vector."""


class SequenceFeature(_Feature):
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
    encoder: Annotated[SequenceEncoder, name_alone(SequenceEncoder)] = MeanPool()
    """How the history becomes one vector; with `values`, all but `pool` also read the value beside each item."""


class StatisticFeature(_Feature):
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
    def _has_key(self) -> "StatisticFeature":
        if self.entity == "context" and self.column is None:
            raise ValueError("expected an entity, `user` or `item`, or a column whose values have a statistic each")
        return self


class VectorFeature(_Feature):
    """A dense vector, such as an embedding made elsewhere: a list of numbers, read as it is."""

    kind: Literal["vector"] = "vector"
    size: PositiveInt
    """Numbers in each list; lists of another length are quarantined."""
    encoder: MLPEncoder | None = None
    """Layers over the vector; without it the vector itself goes to the trunk."""


class ImageFeature(_Feature):
    """An image: a list of height x width x channels numbers, row by row."""

    kind: Literal["image"] = "image"
    shape: tuple[PositiveInt, PositiveInt, PositiveInt]
    """Height, width, channels."""
    scale: PositiveFloat = 255.0
    """Divisor of the numbers."""
    encoder: CNNEncoder = CNNEncoder()

    @property
    def size(self) -> int:
        """Numbers in each list."""
        return self.shape[0] * self.shape[1] * self.shape[2]


Feature = Annotated[
    IdFeature
    | CategoricalFeature
    | NumericFeature
    | MultiCategoricalFeature
    | TextFeature
    | SequenceFeature
    | StatisticFeature
    | VectorFeature
    | ImageFeature,
    Field(discriminator="kind"),
]


def attributes_of(features: Mapping[str, Feature], entity: Entity) -> list[str]:
    """Inputs that say what an entity is like: no id, no history, and no image that each task reads differently."""
    owned = {n: f for n, f in features.items() if f.entity == entity}
    plain = {n: f for n, f in owned.items() if not isinstance(f, IdFeature | SequenceFeature)}
    return [n for n, f in plain.items() if not isinstance(f, ImageFeature) or f.encoder.shared_layers is None]
