"""A number, standardised or cut into quantile buckets."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import pyarrow as pa

from mtl_ray.config.encoders import CustomEncoderConfig, PeriodicNumberConfig, PiecewiseLinearNumberConfig
from mtl_ray.config.numbers import NumberSection, NumericFeatureConfig
from mtl_ray.errors import InputError
from mtl_ray.features.base import Embedded, EncodedColumn, FeatureKind, FittedState
from mtl_ray.features.lookup import embed_rows
from mtl_ray.features.observed import observed_rows
from mtl_ray.schema import FIRST, NULL, FittedFeature
from mtl_ray.values.moments import Moments, scaled
from mtl_ray.values.money import as_numbers
from mtl_ray.values.numbers import bad_numbers, mend_numbers, parse_numbers, to_numbers
from mtl_ray.values.partition import Partition
from mtl_ray.values.quantiles import Distribution
from mtl_ray.values.vocabulary import Vocabulary

if TYPE_CHECKING:
    from torch import Tensor, nn

    from mtl_ray.nn.embedding_parts import EmbeddingParts

NumberConfigT = TypeVar("NumberConfigT", bound=NumberSection)

PIECES = 32
"""Largest number of pieces of `piecewise_linear`."""


@dataclass(frozen=True)
class NumberStatistics:
    """Moments and distribution."""

    moments: Moments
    distribution: Distribution

    def __add__(self, other: "NumberStatistics") -> "NumberStatistics":
        return NumberStatistics(self.moments + other.moments, self.distribution + other.distribution)

    @property
    def is_constant(self) -> bool:
        """True if all numbers are equal, or there is none."""
        return self.moments.is_constant


class NumberKind(FeatureKind[NumberConfigT]):
    """A feature that becomes a number: `raw` returns numbers, or texts of numbers."""

    quantity = "value"
    """What is standardised, in words."""

    def fit(self, rows: Partition, train: pa.Table) -> NumberStatistics:
        numbers = to_numbers(self.raw(train), self.null_words)
        return NumberStatistics(Moments.of(numbers), Distribution.of(numbers))

    def advice(self, statistics: NumberStatistics) -> str | None:
        number, wanted = len(statistics.distribution.values), self.config.buckets
        if wanted is None or not 1 < number < wanted:
            return None
        return f"has {number} different values for {wanted} buckets: each has its own, as with `categorical`"

    def fitted(self, statistics: NumberStatistics, vocabularies: Mapping[str, Vocabulary]) -> FittedFeature:
        (mean, std), distribution = statistics.moments.scale, statistics.distribution
        if self.config.buckets is None:
            return FittedFeature(mean=mean, std=std, quantiles=distribution.quantiles(PIECES))
        boundaries = distribution.borders(self.config.buckets)
        return FittedFeature(num_embeddings=FIRST + len(boundaries) + 1, mean=mean, std=std, boundaries=boundaries)

    def encoded_columns(self, fitted: FittedFeature) -> dict[str, EncodedColumn]:
        if fitted.num_embeddings is None:
            return {
                self.name: EncodedColumn(f"({self.quantity} - mean) / std; NaN for null", "float32", is_nullable=True)
            }
        meaning = f"{FIRST} + how many of `boundaries` are at most the {self.quantity}; {NULL} for null"
        return {self.name: EncodedColumn(meaning, low=NULL, num_embeddings=fitted.num_embeddings)}

    def encode_values(self, values: pa.Array, state: FittedState) -> np.ndarray:
        fitted, numbers = state.features[self.name], to_numbers(values, self.null_words, self.column)
        if self.config.buckets is None:
            return scaled(numbers, fitted.mean, fitted.std)
        buckets = np.searchsorted(np.asarray(fitted.boundaries or ()), numbers, side="right") + FIRST
        return np.where(np.isnan(numbers), NULL, buckets).astype(np.int32)

    def build(self, parts: "EmbeddingParts", fitted: FittedFeature) -> dict[str, int]:
        from mtl_ray.nn.compressed_embedding import build_table

        if fitted.num_embeddings is None:
            parts.numbers[self.name] = self._encoder(fitted)
        else:
            parts.tables[self.name] = build_table(fitted.num_embeddings, self.width, self.around.sparse_rows)
        return {self.name: self.width}

    def embed(
        self,
        parts: "EmbeddingParts",
        batch: "Mapping[str, Tensor]",
        hidden: "Mapping[str, Tensor]",
        vectors: "Mapping[str, Tensor]",
    ) -> Embedded:
        """Embed the number and whether it is missing, or its bucket."""
        import torch

        column, hide = batch[self.name], hidden.get(self.name)
        if self.name in parts.tables:
            return Embedded({self.name: embed_rows(parts.tables[self.name], column, hide, NULL)})
        missing = torch.isnan(column) if hide is None else torch.isnan(column) | hide
        value = torch.where(missing, torch.zeros_like(column), column)
        return Embedded({self.name: parts.numbers[self.name](torch.stack([value, missing.to(value.dtype)], 1))})

    def _encoder(self, fitted: FittedFeature) -> "nn.Module":
        from torch import nn

        from mtl_ray.nn.number_encoders import PeriodicNumber, PiecewiseLinearNumber
        from mtl_ray.nn.own_encoder import build_own_encoder

        match self.config.encoder:
            case PiecewiseLinearNumberConfig():
                if fitted.quantiles is None:
                    raise InputError(
                        f"features.{self.name}.encoder: the data set was prepared before there was `piecewise_linear`; "
                        "remove it, or choose another encoder"
                    )
                borders = scaled(np.asarray(fitted.quantiles or (0.0,)), fitted.mean, fitted.std)
                return PiecewiseLinearNumber(borders, self.width)
            case PeriodicNumberConfig(frequencies=number, scale=scale):
                return PeriodicNumber(number, scale, self.width)
            case CustomEncoderConfig() as own:
                return build_own_encoder(own, self.width, (2,))
        return nn.Linear(2, self.width)

    @property
    def is_category(self) -> bool:
        return self.config.buckets is not None

    def observed(self, batch: "Mapping[str, Tensor]") -> np.ndarray:
        column = batch[self.name]
        return observed_rows(column.numpy()) if self.is_category else column.double().numpy()


class NumericKind(NumberKind[NumericFeatureConfig]):
    """A number."""

    def read(self, values: pa.Array) -> pa.Array:
        return as_numbers(values, self.config, self.null_words)

    @property
    def may_lose(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """True if it has a format."""
        return self.config.format is not None

    def bad_cells(self, table: pa.Table) -> Iterator[tuple[np.ndarray, str]]:
        if (column := self.column_in(table)) in table.column_names:
            yield from bad_numbers(*parse_numbers(self.raw(table), self.null_words), column)

    def mend(self, values: pa.Array) -> tuple[pa.Array, dict[str, int]] | None:
        return None if self.may_lose else mend_numbers(values, self.null_words)
