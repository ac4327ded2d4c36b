"""A statistic of a key: the number of its training labels and their shrunken mean."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from mtl_ray.config.features import StatisticFeatureConfig
from mtl_ray.features.base import Embedded, EncodedColumn, FeatureKind, FittedState, LogColumn
from mtl_ray.features.target_statistics import TargetStatistics, slices_of
from mtl_ray.schema import FittedFeature
from mtl_ray.values.keys import bad_keys, to_keys
from mtl_ray.values.numbers import bad_numbers, parse_numbers, to_numbers
from mtl_ray.values.partition import TIME, TRAIN, Partition
from mtl_ray.values.vocabulary import Vocabulary

if TYPE_CHECKING:
    from torch import Tensor

    from mtl_ray.nn.embedding_parts import EmbeddingParts


class StatisticKind(FeatureKind[StatisticFeatureConfig]):
    """A statistic of the training labels of a key."""

    out_of_fold = True

    def log_columns(self) -> list[LogColumn]:
        return [*super().log_columns(), LogColumn(self.config.of, f"features.{self.name}.of", log_only=True)]

    def bad_cells(self, table: pa.Table) -> Iterator[tuple[np.ndarray, str]]:
        yield from bad_keys(self.raw(table), self.column)

    def bad_log_cells(self, table: pa.Table) -> Iterator[tuple[np.ndarray, str]]:
        numbers, wrong = parse_numbers(self.around.numbers(table, self.config.of), self.null_words)
        yield from bad_numbers(numbers, wrong, self.config.of)

    def fit(self, rows: Partition, train: pa.Table) -> TargetStatistics:
        is_train = rows.split == TRAIN
        slices = np.zeros(len(is_train), np.int64) if self._is_exact else self._slices(rows)
        keys = to_keys(self.raw(rows.table)).filter(pa.array(is_train))
        return TargetStatistics.of(keys, slices[is_train], self._labels(rows)[is_train])

    @property
    def _is_exact(self) -> bool:
        """True if each partition has all earlier rows of its keys, since they are users."""
        return self.around.time is not None and self.column == self.around.user_column

    def _slices(self, rows: Partition) -> np.ndarray:
        return slices_of(rows, self.around.seed, timed=self.around.time is not None)

    def _labels(self, rows: Partition) -> np.ndarray:
        return to_numbers(self.around.numbers(rows.table, self.config.of), self.null_words)

    def vocabulary(self, statistics: TargetStatistics) -> Vocabulary:
        return statistics.by_key()

    def fitted(self, statistics: TargetStatistics, vocabularies: Mapping[str, Vocabulary]) -> FittedFeature:
        """Return the mean label, and the spread over the rows of the shrunken mean of their key."""
        keys = vocabularies[self.name]
        assert keys.totals is not None
        count, total = keys.counts.to_numpy(), keys.totals.to_numpy()
        if not count.sum():
            return FittedFeature(mean=0.0, std=1.0)
        mean = float(total.sum() / count.sum())
        means = (total + self.config.prior * mean) / (count + self.config.prior)
        spread = float(np.sqrt((count * (means - mean) ** 2).sum() / count.sum()))
        return FittedFeature(mean=mean, std=spread or 1.0)

    def encoded_columns(self, fitted: FittedFeature) -> dict[str, EncodedColumn]:
        meaning = (
            "(total - count * mean) / (count + prior) / std and log(1 + count) / 4, of `count` and `total` of the "
            f"value in vocabulary.parquet, where `feature` is `{self.name}`; zeros for another value"
        )
        return {self.name: EncodedColumn(meaning, "float32", (2,))}

    def encode_values(self, values: pa.Array, state: FittedState) -> np.ndarray:
        """Encode what all training rows say."""
        sums = state.vocabularies[self.name].target_sums(to_keys(values))
        return self._encode_sums(sums, state.features[self.name])

    def _encode_sums(self, sums: np.ndarray, fitted: FittedFeature) -> np.ndarray:
        """Return (n, 2) float32 from (n, 2) counts and totals: how far the shrunken mean is from the mean of all, in
        units of its spread, and log(1 + count) / 4. A key without labels has zeros."""
        mean, std = fitted.mean or 0.0, fitted.std or 1.0
        count, total = sums.T
        away = (total - count * mean) / (count + self.config.prior) / std
        return np.stack([away, np.log1p(count) / 4], 1).astype(np.float32)

    def encode_partition(
        self, rows: Partition, state: FittedState, statistics: Any
    ) -> tuple[dict[str, np.ndarray], dict[str, pa.Array]]:
        """Encode training rows by what other training rows say, all others by what all training rows say."""
        is_train, keys = rows.split == TRAIN, to_keys(self.raw(rows.table))
        sums = state.vocabularies[self.name].target_sums(keys)
        keys, cells, slices = keys.filter(pa.array(is_train)), statistics, self._slices(rows)[is_train]
        if self._is_exact:
            slices = np.unique(rows.table.column(TIME).to_numpy()[is_train], return_inverse=True)[1]
            cells = TargetStatistics.of(keys, slices, self._labels(rows)[is_train])
        sums[is_train] = cells.others(keys, slices, earlier=self.around.time is not None)
        return {self.name: self._encode_sums(sums, state.features[self.name])}, {}

    def build(self, parts: "EmbeddingParts", fitted: FittedFeature) -> dict[str, int]:
        from torch import nn

        parts.numbers[self.name] = nn.Linear(2, self.width)
        return {self.name: self.width}

    def embed(
        self,
        parts: "EmbeddingParts",
        batch: "Mapping[str, Tensor]",
        hidden: "Mapping[str, Tensor]",
        vectors: "Mapping[str, Tensor]",
    ) -> Embedded:
        import torch

        column, hide = batch[self.name], hidden.get(self.name)
        known = column if hide is None else torch.where(hide[:, None], 0.0, column)
        return Embedded({self.name: parts.numbers[self.name](known)})

    def observed(self, batch: "Mapping[str, Tensor]") -> np.ndarray:
        """Return the shrunken mean of each row's key."""
        return batch[self.name].double()[:, 0].numpy()
