"""Lists of values of a vocabulary: what sets of categories and texts share."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import pyarrow as pa

from mtl_ray.config.features import MultiCategoricalFeatureConfig, TextFeatureConfig
from mtl_ray.config.training import MaskingConfig
from mtl_ray.features.base import Embedded, EncodedColumn, FeatureKind, FittedState
from mtl_ray.features.observed import observed_rows
from mtl_ray.features.unseen import draw_unseen, with_unseen
from mtl_ray.schema import FIRST, NULL, PADDING, UNKNOWN, FittedFeature
from mtl_ray.values.counts import ValueCounts
from mtl_ray.values.lists import first_entries, to_lists
from mtl_ray.values.partition import Partition
from mtl_ray.values.vocabulary import Vocabulary

if TYPE_CHECKING:
    from torch import Tensor

    from mtl_ray.nn.embedding_parts import EmbeddingParts

ListConfigT = TypeVar("ListConfigT", MultiCategoricalFeatureConfig, TextFeatureConfig)


class ValueListKind(FeatureKind[ListConfigT]):
    """The first values of a list, whose mean embedding is read unless an encoder reads them."""

    separator: str | None
    """Separator of the values in a text, see `to_lists`."""

    def fit(self, rows: Partition, train: pa.Table) -> ValueCounts:
        return ValueCounts.of_lists(self.raw(train), self.separator)

    def vocabulary(self, statistics: ValueCounts) -> Vocabulary:
        return statistics.vocabulary(self.config.min_count)

    def fitted(self, statistics: ValueCounts, vocabularies: Mapping[str, Vocabulary]) -> FittedFeature:
        return FittedFeature(num_embeddings=FIRST + len(vocabularies[self.name]))

    def encoded_columns(self, fitted: FittedFeature) -> dict[str, EncodedColumn]:
        length, num_embeddings = self.config.max_length, fitted.num_embeddings or 0
        meaning = (
            f"the first {length} values, each {FIRST} + its place among the rows of vocabulary.parquet "
            f"whose `feature` is `{self.name}`, {UNKNOWN} for another value; padded on the right with {PADDING}; where "
            f"there is none the first is {NULL}"
        )
        column = EncodedColumn(meaning, shape=(length,), low=NULL, num_embeddings=num_embeddings, min_length=1)
        return {self.name: column}

    def encode_values(self, values: pa.Array, state: FittedState) -> np.ndarray:
        lists = to_lists(values, self.separator).fill_null([])
        rows = state.vocabularies[self.name].rows(lists.flatten())
        rows = first_entries(rows, lists, self.config.max_length)
        rows[:, 0] = np.where(rows[:, 0] == PADDING, NULL, rows[:, 0])
        return rows

    @property
    def padded_columns(self) -> tuple[str, ...]:
        return (self.name,)

    def build(self, parts: "EmbeddingParts", fitted: FittedFeature) -> dict[str, int]:
        from mtl_ray.nn.compressed_embedding import build_table

        parts.tables[self.name] = build_table(fitted.num_embeddings or 0, self.width, self.around.sparse_rows)
        return {self.name: self.width}

    def embed(
        self,
        parts: "EmbeddingParts",
        batch: "Mapping[str, Tensor]",
        hidden: "Mapping[str, Tensor]",
        vectors: "Mapping[str, Tensor]",
    ) -> Embedded:
        import torch

        from mtl_ray.nn.pooling import list_sizes, pooled

        column, table = with_unseen(self.name, batch[self.name], hidden), parts.tables[self.name]
        if self.name in hidden:
            nothing = torch.full_like(column, PADDING)
            nothing[:, 0] = NULL
            column = torch.where(hidden[self.name][:, None], nothing, column)
        if self.name not in parts.encoders:
            return Embedded({self.name: pooled(table, column)[0] / list_sizes(table, column).clamp(min=1)})
        embedded = table(column)
        return Embedded({self.name: parts.encoders[self.name](embedded, column != PADDING, embedded[:, 0])})

    def hide_at_random(self, rows: "Tensor", seed: int, epoch: int, rates: MaskingConfig) -> "dict[str, Tensor]":
        return draw_unseen(self.name, rows, seed, epoch, rates.values, self.config.max_length)

    @property
    def is_category(self) -> bool:
        return True

    def observed(self, batch: "Mapping[str, Tensor]") -> np.ndarray:
        return observed_rows(batch[self.name].numpy())
