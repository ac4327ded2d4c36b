"""Feature kinds, each owned by an entity: user, item or context.

A kind is its settings, here or in `numbers`, listed in `FeatureConfig`, and the module of `mtl_ray.features` that they
name.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from mtl_ray.config.base import ENCODED_UNLESS_DEFAULT, NOT_ENCODED, Section, name_alone
from mtl_ray.config.cold_start import ColdStartConfig
from mtl_ray.config.encoders import (
    CNNEncoderConfig,
    CustomEncoderConfig,
    ImageEncoderConfig,
    MeanPoolConfig,
    SequenceEncoderConfig,
    TextEncoderConfig,
    VectorEncoderConfig,
)
from mtl_ray.config.feature_base import FEWER_LAYERS, Entity, FeatureSection, check_encoder, column_of, key_of
from mtl_ray.config.formats import Spelling
from mtl_ray.config.numbers import DateFeatureConfig, NumericFeatureConfig

if TYPE_CHECKING:
    from mtl_ray.config.experiment import Experiment


class CompressionConfig(Section):
    """Fewer rows than values in an embedding table; the prepared data set stays the same."""

    kind: Literal["hash", "quotient_remainder"]
    """`hash`: values share rows. `quotient_remainder`: a value reads the product of a row of a table of `rows` rows and
    one of a second table, which has the number of values divided by `rows`; no two values read the same two (Shi et al.
    2020)."""
    rows: PositiveInt
    """Rows of the table."""


class IdFeatureConfig(FeatureSection):
    """The key of a user or of an item. Exactly one of each is needed."""

    implementation: ClassVar[str] = "mtl_ray.features.id:IdKind"
    is_profile: ClassVar[bool] = False
    is_key: ClassVar[bool] = True
    kind: Literal["id"] = "id"
    entity: Literal["user", "item"]  # pyright: ignore[reportGeneralTypeIssues, reportIncompatibleVariableOverride]
    min_count: PositiveInt = 1
    """Ids with fewer training rows share the "unknown" row of the embedding table."""
    embed: bool = True
    """True if the id is an input; otherwise it only says which rows belong together."""
    cold_start: Annotated[Annotated[ColdStartConfig, name_alone(ColdStartConfig)] | None, NOT_ENCODED] = None
    """Use of the attributes for an id seen seldom or never; by default such an id reads the "unknown" row."""
    compression: Annotated[CompressionConfig | None, NOT_ENCODED] = None
    """How its embedding table is made smaller; by default each id has a row."""

    @property
    def is_input(self) -> bool:
        return self.embed

    @property
    def is_attribute(self) -> bool:
        return False


class CategoricalFeatureConfig(FeatureSection, Spelling):
    """One of the values seen in training, each with an embedding; a new or a rare one is "unknown"."""

    implementation: ClassVar[str] = "mtl_ray.features.categorical:CategoricalKind"
    kind: Literal["categorical"] = "categorical"
    min_count: PositiveInt = 1
    """Values with fewer training rows are "unknown"."""
    compression: Annotated[CompressionConfig | None, NOT_ENCODED] = None
    """As that of an id."""


class MultiCategoricalFeatureConfig(FeatureSection, Spelling):
    """A set of categories, as a list or as one string with separators."""

    implementation: ClassVar[str] = "mtl_ray.features.multi_categorical:MultiCategoricalKind"
    kind: Literal["multi_categorical"] = "multi_categorical"
    separator: str = "|"
    max_length: PositiveInt = 8
    """Values kept per row (the first ones)."""
    min_count: PositiveInt = 1


class TextFeatureConfig(FeatureSection):
    """A title or other short text, split into lower-case words and numbers."""

    implementation: ClassVar[str] = "mtl_ray.features.text:TextKind"
    kind: Literal["text"] = "text"
    max_length: PositiveInt = 10
    """Words kept per row (the first ones)."""
    min_count: PositiveInt = 2
    encoder: Annotated[TextEncoderConfig, name_alone(TextEncoderConfig), NOT_ENCODED] = MeanPoolConfig()
    """How the words become one vector."""

    def check(self, name: str, experiment: "Experiment") -> None:
        check_encoder(name, self.encoder, self.width(experiment.model.embedding_dim))


class SequenceFeatureConfig(FeatureSection):
    """The user's history, or the item's audience: the last items of the user, or users of the item, before this row.

    Made by `prepare` from the log; never holds the row itself nor the future. Rows at the same instant do not see each
    other. Interactions of evaluation rows enter neither, except under the time split, where an earlier evaluation row
    is known to a later one. Rows that the split shows enter as training rows do.
    """

    implementation: ClassVar[str] = "mtl_ray.features.sequence:SequenceKind"
    is_profile: ClassVar[bool] = False
    kind: Literal["sequence"] = "sequence"
    entity: Literal["user", "item"] = "user"  # pyright: ignore[reportIncompatibleVariableOverride]
    """`user`: a history of items. `item`: an audience of users."""
    of: str
    """The id feature of the other side whose values the list holds and whose embedding table it shares."""
    max_length: PositiveInt = 50
    """Ids kept: the most recent ones, oldest first."""
    known: Literal["past", "all"] = "past"
    """Interactions of its entity a row knows: those before it; or all others that are trained on or shown, for splits
    that do not cut time. Of all others a training row sees a random share, drawn anew in every epoch: it so stands for
    entities with few and with many interactions, and the one left out cannot be told from what the others add up to."""
    values: str | None = None
    """Numeric column of the log whose standardised value (e.g. the rating given) weights each id of the list in a
    second pooled vector."""
    encoder: Annotated[SequenceEncoderConfig, name_alone(SequenceEncoderConfig), NOT_ENCODED] = MeanPoolConfig()
    """How the list becomes one vector; with `values`, all but `pool` also read the value beside each id."""
    unseen: Annotated[Literal["unknown", "content"], ENCODED_UNLESS_DEFAULT] = "unknown"
    """The vector of an id that training has not seen: the row of such ids, or the vector that the `cold_start` of its
    id makes of its attributes, if a table has them. Training hides ids in the list as it hides the id itself."""

    @property
    def is_attribute(self) -> bool:
        return False

    def raw_column(self, name: str, features: Mapping[str, FeatureSection]) -> None:
        return None

    def tells_interactions(self, key_column: str) -> bool:
        return True

    def check(self, name: str, experiment: "Experiment") -> None:
        history, audience = ("item", experiment.item, "a history"), ("user", experiment.user, "an audience")
        listed, key, what = history if self.entity == "user" else audience
        if self.of != key:
            raise ValueError(f"features.{name}.of: expected the {listed}'s id feature `{key}`; found `{self.of}`")
        if not experiment.features[key].is_input:
            raise ValueError(f"features.{name}: {what} needs features.{key}.embed")
        if experiment.data.time is None:
            raise ValueError(f"features.{name}: {what} needs `data.time`, the log's time column")
        if self.known == "all" and experiment.data.split.kind == "time":
            raise ValueError(f"features.{name}.known: `all` does not go with the time split, it would see the future")
        if self.unseen == "content" and getattr(experiment.features[key], "cold_start", None) is None:
            raise ValueError(
                f"features.{name}.unseen: `content` is the vector of features.{key}.cold_start, which is not there; "
                "give one, or leave `unseen` out"
            )
        dates = [
            n
            for n, one in experiment.features.items()
            if one.entity == listed and isinstance(one, DateFeatureConfig) and one.is_duration
        ]
        if self.unseen == "content" and dates:
            raise ValueError(
                f"features.{name}.unseen: `content` has no use for features.{dates[0]}, which counts to the time of a "
                "row; make a number of it, or leave `unseen` out"
            )
        check_encoder(name, self.encoder, experiment.features[key].width(experiment.model.embedding_dim))


class StatisticFeatureConfig(FeatureSection):
    """Number of an entity's training labels and their mean, shrunken towards the mean of all.

    Made by `prepare` from the log. A training row sees strictly earlier training rows alone (without `data.time` those
    of other folds), never its own label. Any other row sees all training rows, and no evaluation row, however early.
    """

    implementation: ClassVar[str] = "mtl_ray.features.statistic:StatisticKind"
    is_profile: ClassVar[bool] = False
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

    def raw_column(self, name: str, features: Mapping[str, FeatureSection]) -> str:
        return column_of(features, key_of(features, self.entity)) if self.column is None else self.column

    def tells_interactions(self, key_column: str) -> bool:
        return self.column in (None, key_column)

    def check(self, name: str, experiment: "Experiment") -> None:
        for task, spec in experiment.tasks.items():
            if spec.masked_input and experiment.column_of(task) == self.of:
                raise ValueError(
                    f"features.{name}.of: `{self.of}` is what tasks.{task} has to tell with it hidden, and its "
                    "statistics would tell it; expected another column"
                )


class VectorFeatureConfig(FeatureSection):
    """A dense vector, such as an embedding made elsewhere: a list of numbers, read as it is."""

    implementation: ClassVar[str] = "mtl_ray.features.vector:VectorKind"
    kind: Literal["vector"] = "vector"
    size: PositiveInt
    """Numbers in each list; lists of another length are quarantined."""
    encoder: Annotated[VectorEncoderConfig | None, NOT_ENCODED] = None
    """Layers over the vector; without it the vector itself goes to the trunk."""

    def width(self, default: int) -> int:
        if isinstance(self.encoder, CustomEncoderConfig):
            return super().width(default)
        return [self.size, *(self.encoder.hidden if self.encoder else ())][-1]


class ImageFeatureConfig(FeatureSection):
    """An image: a list of height x width x channels numbers, row by row."""

    implementation: ClassVar[str] = "mtl_ray.features.image:ImageKind"
    kind: Literal["image"] = "image"
    shape: tuple[PositiveInt, PositiveInt, PositiveInt]
    """Height, width, channels."""
    scale: PositiveFloat = 255.0
    """Divisor of the numbers."""
    encoder: Annotated[ImageEncoderConfig, NOT_ENCODED] = CNNEncoderConfig()

    @property
    def size(self) -> int:
        """Numbers in each list."""
        return self.shape[0] * self.shape[1] * self.shape[2]

    @property
    def is_attribute(self) -> bool:
        return self.encoder.shared_layers is None  # else each task reads a vector of its own

    def check(self, name: str, experiment: "Experiment") -> None:
        if isinstance(self.encoder, CustomEncoderConfig) or self.encoder.shared_layers is None:
            return
        path, model = f"features.{name}.encoder.shared_layers", experiment.model
        if self.encoder.shared_layers >= len(self.encoder.channels):
            raise ValueError(FEWER_LAYERS.format(path))
        if not model.takes_inputs_by_task:
            raise ValueError(
                f"{path}: needs model.kind `shared_bottom` with model.shared_layers 0 (or no encoder layers), "
                "since nothing above the layers of each task can be shared"
            )
        if model.interaction.adds_dot_product:
            raise ValueError(f"{path}: does not go with model.interaction `{model.interaction.kind}`")


FeatureConfig = Annotated[
    IdFeatureConfig
    | CategoricalFeatureConfig
    | NumericFeatureConfig
    | DateFeatureConfig
    | MultiCategoricalFeatureConfig
    | TextFeatureConfig
    | SequenceFeatureConfig
    | StatisticFeatureConfig
    | VectorFeatureConfig
    | ImageFeatureConfig,
    Field(discriminator="kind"),
]


def attributes_of(features: Mapping[str, FeatureConfig], entity: Entity) -> list[str]:
    """Return the inputs that say what an entity is like when its id is new."""
    return [name for name, feature in features.items() if feature.entity == entity and feature.is_attribute]


def catalogued(features: Mapping[str, FeatureSection]) -> dict[str, str]:
    """Return the histories and audiences in which an unseen id reads its attributes, each with the id that it lists."""
    lists = {name: f for name, f in features.items() if isinstance(f, SequenceFeatureConfig)}
    return {name: feature.of for name, feature in lists.items() if feature.unseen == "content"}
