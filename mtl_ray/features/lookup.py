"""Values of a vocabulary, each with a row of an embedding table: what ids and categories share."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import pyarrow as pa

from mtl_ray.config.features import CategoricalFeatureConfig, IdFeatureConfig
from mtl_ray.config.numbers import DateFeatureConfig
from mtl_ray.features.base import Embedded, EncodedColumn, FeatureKind, FittedState
from mtl_ray.features.unseen import with_unseen
from mtl_ray.schema import FIRST, NULL, UNKNOWN, FittedFeature
from mtl_ray.values.counts import ValueCounts
from mtl_ray.values.keys import bad_keys, to_keys
from mtl_ray.values.partition import Partition
from mtl_ray.values.vocabulary import Vocabulary

if TYPE_CHECKING:
    from torch import Tensor, nn

    from mtl_ray.nn.embedding_parts import EmbeddingParts

LookupConfigT = TypeVar("LookupConfigT", IdFeatureConfig, CategoricalFeatureConfig, DateFeatureConfig)


class LookupKind(FeatureKind[LookupConfigT]):
    """A value looked up in a vocabulary, then in an embedding table."""

    nothing = NULL
    """Embedding row that is read where the value is hidden."""

    def bad_cells(self, table: pa.Table) -> Iterator[tuple[np.ndarray, str]]:
        yield from bad_keys(self.raw(table), self.column)

    def fit(self, rows: Partition, train: pa.Table) -> ValueCounts:
        return ValueCounts.of_values(self.raw(train))

    def vocabulary(self, statistics: ValueCounts) -> Vocabulary:
        return statistics.vocabulary(self.config.min_count)

    def fitted(self, statistics: ValueCounts, vocabularies: Mapping[str, Vocabulary]) -> FittedFeature:
        return FittedFeature(num_embeddings=FIRST + len(vocabularies[self.name]))

    def encoded_columns(self, fitted: FittedFeature) -> dict[str, EncodedColumn]:
        meaning = (
            f"{FIRST} + the place of the value, as text, among the rows of vocabulary.parquet whose `feature` is "
            f"`{self.name}`; {NULL} for null, {UNKNOWN} for another value"
        )
        return {self.name: EncodedColumn(meaning, low=NULL, num_embeddings=fitted.num_embeddings or 0)}

    def encode_values(self, values: pa.Array, state: FittedState) -> np.ndarray:
        return state.vocabularies[self.name].rows(to_keys(values))

    def build(self, parts: "EmbeddingParts", fitted: FittedFeature) -> dict[str, int]:
        from mtl_ray.nn.compressed_embedding import build_table

        sparse_rows, compression = self.around.sparse_rows, self.config.compression
        parts.tables[self.name] = build_table(fitted.num_embeddings or 0, self.width, sparse_rows, compression)
        return {self.name: self.width}

    def embed(
        self,
        parts: "EmbeddingParts",
        batch: "Mapping[str, Tensor]",
        hidden: "Mapping[str, Tensor]",
        vectors: "Mapping[str, Tensor]",
    ) -> Embedded:
        table, column = parts.tables[self.name], with_unseen(self.name, batch[self.name], hidden)
        return Embedded({self.name: embed_rows(table, column, hidden.get(self.name), self.nothing)})


def embed_rows(table: "nn.Module", rows: "Tensor", hide: "Tensor | None", nothing: int) -> "Tensor":
    """Return the (B, dim) vectors of (B,) embedding rows, in hidden rows that of the row `nothing`."""
    import torch

    return table(rows if hide is None else torch.where(hide, nothing, rows))
