"""The interface of a feature kind. Each kind is one module of this package.

Torch is slow to load, and `prepare` and `check` do without it: only the methods that embed may import it.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, NamedTuple, Protocol, Self, TypeVar

import numpy as np
import pyarrow as pa

from mtl_ray.config import Experiment
from mtl_ray.config.base import implementation_of
from mtl_ray.config.feature_base import Entity, FeatureSection, column_of
from mtl_ray.config.training import MaskingConfig
from mtl_ray.features.surroundings import Surroundings
from mtl_ray.schema import FittedFeature
from mtl_ray.values.columns import raw_values
from mtl_ray.values.partition import Partition
from mtl_ray.values.vocabulary import Vocabulary

if TYPE_CHECKING:
    from torch import Tensor

    from mtl_ray.nn.embedding_parts import EmbeddingParts

ConfigT = TypeVar("ConfigT", bound=FeatureSection)


class Statistics(Protocol):
    """Statistics of the training rows of a partition; two add up to those of both."""

    def __add__(self, other: Self) -> Self: ...

    @property
    def is_constant(self) -> bool:
        """True if the feature has the same value in all rows."""
        ...


class FittedState(NamedTuple):
    """Everything that was fitted on the training rows."""

    features: Mapping[str, FittedFeature]
    vocabularies: Mapping[str, Vocabulary]


class LogColumn(NamedTuple):
    """A raw column that `prepare` reads."""

    name: str
    setting: str
    """Path of the setting that names it, for errors."""
    log_only: bool = False
    """True if the log must have it, not a side table."""


class EncodedColumn(NamedTuple):
    """Shape, type and range of an encoded column."""

    meaning: str
    """How it is made of raw values, for those who make it elsewhere."""
    dtype: Literal["int32", "float32"] = "int32"
    shape: tuple[int, ...] = ()
    """Shape of one row."""
    low: int = 0
    """Smallest row of the embedding table that stands for an entry."""
    num_embeddings: int = 0
    """Rows of the embedding table."""
    min_length: int = 0
    """Entries that a list has at least; the others are padding."""
    is_nullable: bool = False
    """True if a real number may be NaN, for null."""


class Embedded(NamedTuple):
    """A feature's part of what the model reads of each row."""

    vectors: "dict[str, Tensor]"
    """(B, dim) by name."""
    scalars: "tuple[Tensor, ...]" = ()
    """(B,) plain numbers that go beside the vectors."""
    by_task: "Mapping[str, Tensor]" = MappingProxyType({})
    """(B, dim) by task, where each task has encoder layers of its own."""


class FeatureKind(ABC, Generic[ConfigT]):
    """A feature of an experiment: checked, fitted, encoded, embedded and described."""

    out_of_fold: ClassVar[bool] = False
    """True if a training row is encoded from the statistics of other training rows (see `encode_partition`)."""
    embedded_last: ClassVar[bool] = False
    """True if it reads the vectors of other features."""

    def __init__(self, name: str, config: ConfigT, around: Surroundings) -> None:
        self.name, self.config, self.around = name, config, around

    @property
    def null_words(self) -> tuple[str, ...]:
        """Words that mean "no value" in a column of numbers."""
        return self.around.null_words

    @property
    def column(self) -> str:
        """Raw column of the log or of a table."""
        return column_of(self.around.features, self.name)

    @property
    def request_column(self) -> str:
        """Raw column that callers of a model send, see `request_columns`."""
        return self.around.request_columns[self.name]

    def column_in(self, table: pa.Table) -> str:
        """Return the raw column of a table: a table of one entity may call it by its plain name."""
        return self.request_column if self.request_column in table.column_names else self.column

    # Raw rows

    def log_columns(self) -> list[LogColumn]:
        """Return the raw columns that `prepare` reads."""
        return [LogColumn(self.column, f"features.{self.name}")]

    def input_columns(self) -> list[str]:
        """Return the raw columns that scoring reads."""
        return [self.request_column]

    def raw(self, table: pa.Table) -> pa.Array:
        """Return the raw values as `read` gives them, nulls if the table does not have the column."""
        return self.read(raw_values(table, self.column_in(table)))

    def read(self, values: pa.Array) -> pa.Array:
        """Return a raw column as the settings say that it is written, null where a cell is not written so."""
        return values

    may_lose = False
    """True if `read` gives null for some cells that hold something; `prepare` counts them."""

    def bad_cells(self, table: pa.Table) -> Iterator[tuple[np.ndarray, str]]:
        """Yield (n,) flags of rows whose raw value is unusable, with the reason; a missing column has none."""
        yield from ()

    def bad_log_cells(self, table: pa.Table) -> Iterator[tuple[np.ndarray, str]]:
        """Yield such flags for columns of the log that only `prepare` reads."""
        yield from ()

    def bad_request_cells(self, table: pa.Table) -> Iterator[tuple[np.ndarray, str]]:
        """Yield such flags for columns that only scoring reads."""
        yield from ()

    def mend(self, values: pa.Array) -> tuple[pa.Array, dict[str, int]] | None:
        """Return a side table's column with unusable cells set to null, and their number by reason.

        None if every value is usable.
        """
        return None

    @property
    def lists_ids_of(self) -> Entity | None:
        """Entity whose ids its raw column lists, and whose embedding rows its encoded column lists."""
        return None

    @property
    def needs_all_rows_of(self) -> Entity:
        """Entity of which `encode_partition` must see all rows at once: a user, or an item."""
        return "user"

    # Fitting

    def fit(self, rows: Partition, train: pa.Table) -> Statistics | None:
        """Return the statistics of a partition; `train` is the table of its training rows. None if none are needed."""
        return None

    def advice(self, statistics: Any) -> str | None:
        """Say what another setting would do better, from the statistics of all partitions; None if nothing is amiss."""
        return None

    def vocabulary(self, statistics: Any) -> Vocabulary | None:
        """Return the known values, from the statistics of all partitions; None if it has none of its own."""
        return None

    def fitted(self, statistics: Any, vocabularies: Mapping[str, Vocabulary]) -> FittedFeature:
        """Return what encoding needs, from the statistics of all partitions."""
        return FittedFeature()

    # Encoding

    @abstractmethod
    def encoded_columns(self, fitted: FittedFeature) -> dict[str, EncodedColumn]:
        """Describe the encoded columns by name; the first has the feature's own name."""

    def encode(self, table: pa.Table, state: FittedState) -> dict[str, np.ndarray]:
        """Encode raw rows, see `encoded_columns`. Raises ValueError for a value that cannot be read."""
        return {self.name: self.encode_column(self.raw(table), state)}

    def encode_partition(
        self, rows: Partition, state: FittedState, statistics: Any
    ) -> tuple[dict[str, np.ndarray], dict[str, pa.Array]]:
        """Encode the rows of the log.

        Args:
            rows: a partition, see `needs_all_rows_of`.
            state: what was fitted.
            statistics: those of all partitions, if the kind is `out_of_fold`.

        Returns:
            Encoded columns of all rows, and raw columns of the test rows that the log does not have.
        """
        return self.encode(rows.table, state), {}

    def encode_column(self, values: pa.Array, state: FittedState) -> np.ndarray:
        """Encode raw values; what many rows share in a dictionary is encoded once."""
        if not pa.types.is_dictionary(values.type):
            return self.encode_values(values, state)
        distinct = pa.concat_arrays([values.dictionary, pa.nulls(1, values.type.value_type)])
        return self.encode_values(distinct, state)[values.indices.fill_null(len(distinct) - 1).to_numpy()]

    @abstractmethod
    def encode_values(self, values: pa.Array, state: FittedState) -> np.ndarray:
        """Encode a plain column."""

    @property
    def padded_columns(self) -> tuple[str, ...]:
        """Encoded columns that are lists padded on the right: embedding rows first, then what is beside them."""
        return ()

    # Embedding

    @property
    def width(self) -> int:
        """Width of its vector."""
        return self.config.width(self.around.embedding_dim)

    @property
    def num_scalars(self) -> int:
        """Plain numbers that go beside its vectors."""
        return 0

    @abstractmethod
    def build(self, parts: "EmbeddingParts", fitted: FittedFeature) -> dict[str, int]:
        """Add its modules to `parts` and return the width of each of its vectors by name."""

    @abstractmethod
    def embed(
        self,
        parts: "EmbeddingParts",
        batch: "Mapping[str, Tensor]",
        hidden: "Mapping[str, Tensor]",
        vectors: "Mapping[str, Tensor]",
    ) -> Embedded:
        """Embed encoded rows.

        Args:
            parts: what `build` has filled.
            batch: encoded columns; one of a single row holds for all rows.
            hidden: by feature, (B,) bool, rows in which the input is hidden: it then reads like no value.
            vectors: those of other features, if the kind is `embedded_last`.
        """

    def hide_at_random(self, rows: "Tensor", seed: int, epoch: int, rates: MaskingConfig) -> "dict[str, Tensor]":
        """Return what training hides within the feature, by name.

        Args:
            rows: (B,) numbers of the rows.
            seed: seed of the draws.
            epoch: number of the epoch.
            rates: how often values and ids are read as ones that training has not seen.
        """
        return {}

    # Describing

    def size(self, fitted: FittedFeature) -> str:
        """Say how large it is, in a few words."""
        return "a number" if fitted.num_embeddings is None else f"{fitted.num_embeddings:,} embedding rows"

    def describe(self, fitted: FittedFeature) -> str:
        """Describe it in one line, for `mtl-ray check`."""
        return f"{self.config.kind} of the {self.config.entity}, {self.size(fitted)}"  # pyright: ignore

    @property
    def is_category(self) -> bool:
        """True if `observed` returns categories, not numbers."""
        return False

    @abstractmethod
    def observed(self, batch: "Mapping[str, Tensor]") -> np.ndarray:
        """Return float64 values whose distribution tells drift, with `NO_VALUE` and `NOT_SEEN` for those."""


def make_kinds(around: Surroundings) -> dict[str, FeatureKind[Any]]:
    """Make the kinds of all features, by name."""
    return {name: implementation_of(feature)(name, feature, around) for name, feature in around.features.items()}


def feature_kinds(experiment: Experiment) -> dict[str, FeatureKind[Any]]:
    """Make the features of an experiment, by name."""
    return make_kinds(Surroundings.of(experiment))
