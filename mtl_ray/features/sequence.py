"""The history of a user, the items of earlier interactions, and the audience of an item, the users of such."""

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mtl_ray.config.feature_base import Entity
from mtl_ray.config.features import SequenceFeatureConfig
from mtl_ray.config.training import MaskingConfig
from mtl_ray.counter_rng import Stream, uniform_rows
from mtl_ray.features.base import Embedded, EncodedColumn, FeatureKind, FittedState, LogColumn
from mtl_ray.features.histories import histories
from mtl_ray.features.observed import observed_rows
from mtl_ray.features.unseen import draw_unseen
from mtl_ray.schema import FIRST, PADDING, UNKNOWN, FittedFeature
from mtl_ray.values.columns import raw_values
from mtl_ray.values.keys import decoded, flat, to_keys
from mtl_ray.values.lists import last_entries
from mtl_ray.values.moments import Moments, standardised
from mtl_ray.values.numbers import bad_numbers, parse_numbers, to_numbers
from mtl_ray.values.partition import ITEM, TEST, USER, Partition
from mtl_ray.values.vectors import is_lists
from mtl_ray.values.vocabulary import Vocabulary

if TYPE_CHECKING:
    from torch import Tensor

    from mtl_ray.nn.embedding_parts import EmbeddingParts

SHRINKAGE = 3.0
"""Interactions at the mean that a list's mean value starts from."""


class SequenceKind(FeatureKind[SequenceFeatureConfig]):
    """A history or an audience, read from the column of its own name: a list of ids, oldest first; absent means none.

    The values that go with it are a list of numbers in `NAME.values`, by default unknown (0, the mean).
    """

    embedded_last = True

    @property
    def lists_ids_of(self) -> Entity:
        return "item" if self.config.entity == "user" else "user"

    @property
    def needs_all_rows_of(self) -> Entity:
        return self.config.entity

    @property
    def values_column(self) -> str:
        """Column of the value beside each id, raw and encoded."""
        return f"{self.name}.values"

    def log_columns(self) -> list[LogColumn]:
        return [LogColumn(self.config.values, f"features.{self.values_column}")] if self.config.values else []

    def input_columns(self) -> list[str]:
        return [self.name, self.values_column] if self.config.values else [self.name]

    def raw(self, table: pa.Table) -> pa.Array:
        return raw_values(table, self.name, pa.list_(pa.string()))

    def bad_log_cells(self, table: pa.Table) -> Iterator[tuple[np.ndarray, str]]:
        column = self.config.values
        if column and column in table.column_names:
            yield from bad_numbers(*parse_numbers(self.around.numbers(table, column), self.null_words), column)

    def bad_request_cells(self, table: pa.Table) -> Iterator[tuple[np.ndarray, str]]:
        for column in self.input_columns():
            if column not in table.column_names:
                continue
            lists = raw_values(table, column)
            if not is_lists(lists.type):  # an empty cell of a CSV file is no list either, but means none
                yield np.asarray(to_keys(lists).is_valid()), f"{column} is not a list"
            elif column != self.name:
                _, wrong = parse_numbers(lists.fill_null([]).flatten(), self.null_words)
                parents = pc.list_parent_indices(lists.fill_null([])).to_numpy(zero_copy_only=False)
                yield np.bincount(parents[wrong], minlength=len(lists)) > 0, f"{column} holds what is not a number"

    def fit(self, rows: Partition, train: pa.Table) -> Moments | None:
        """Describe the values that go with ids."""
        return Moments.of(self._numbers(train, self.config.values)) if self.config.values else None

    def _numbers(self, table: pa.Table, column: str) -> np.ndarray:
        return to_numbers(self.around.numbers(table, column), self.null_words, column)

    def fitted(self, statistics: Moments | None, vocabularies: Mapping[str, Vocabulary]) -> FittedFeature:
        mean, std = (statistics or Moments()).scale
        size = FIRST + len(vocabularies[self.config.of]) + len(vocabularies.get(self.name, ()))
        return FittedFeature(num_embeddings=size, mean=mean, std=std)

    def encoded_columns(self, fitted: FittedFeature) -> dict[str, EncodedColumn]:
        length, num_embeddings = self.config.max_length, fitted.num_embeddings or 0
        meaning = (
            f"the last {length} {self.lists_ids_of}s of the {self.config.entity}, oldest first, each as "
            f"`{self.config.of}` is; padded on the right with {PADDING}"
        )
        if self.config.unseen == "content":
            meaning += f"; after these, those among the rows of vocabulary.parquet whose `feature` is `{self.name}`"
        columns = {self.name: EncodedColumn(meaning, shape=(length,), low=UNKNOWN, num_embeddings=num_embeddings)}
        if self.config.values:
            meaning = f"the value beside each entry of `{self.name}`, standardised, 0 for none"
            columns[self.values_column] = EncodedColumn(meaning, "float32", (length,))
        return columns

    def encode(self, table: pa.Table, state: FittedState) -> dict[str, np.ndarray]:
        encoded = super().encode(table, state)
        if self.config.values:
            encoded[self.values_column] = self._encode_values_beside(table, state.features[self.name])
        return encoded

    def encode_values(self, values: pa.Array, state: FittedState) -> np.ndarray:
        lists = values if is_lists(values.type) else pa.nulls(len(values), pa.list_(pa.string()))
        lists = lists.fill_null([])
        return last_entries(self._rows(to_keys(lists.flatten()), state), lists, self.config.max_length)

    def _rows(self, keys: pa.Array, state: FittedState) -> np.ndarray:
        """Return the (n,) rows of ids: of the table of embeddings, then of what is described beside."""
        rows = state.vocabularies[self.config.of].rows(keys)
        if self.config.unseen == "unknown":
            return rows
        others = state.vocabularies[self.name].rows(keys)
        first = state.features[self.config.of].num_embeddings or 0
        return np.where((rows == UNKNOWN) & (others >= FIRST), others - FIRST + first, rows).astype(np.int32)

    def _encode_values_beside(self, table: pa.Table, fitted: FittedFeature) -> np.ndarray:
        if self.values_column not in table.column_names:
            return np.zeros((len(table), self.config.max_length), np.float32)
        lists = raw_values(table, self.values_column)
        if pa.types.is_null(lists.type):
            lists = lists.cast(pa.list_(pa.float64()))
        lists = lists.fill_null([])
        numbers = standardised(
            to_numbers(lists.flatten(), self.null_words, self.values_column), fitted.mean, fitted.std
        )
        return last_entries(numbers, lists, self.config.max_length)

    def encode_partition(
        self, rows: Partition, state: FittedState, statistics: Any
    ) -> tuple[dict[str, np.ndarray], dict[str, pa.Array]]:
        """Make the lists from the log."""
        return self.from_log(rows, state)(np.arange(len(rows.split)))

    def from_log(
        self, rows: Partition, state: FittedState
    ) -> Callable[[np.ndarray], tuple[dict[str, np.ndarray], dict[str, pa.Array]]]:
        """Find the interactions that each row knows.

        Args:
            rows: all rows of some users, or for an audience of some items.
            state: what was fitted.

        Returns:
            A function that encodes the rows at (m,) positions, see `encode_partition`. Lists are long: making them for
            few rows at a time bounds memory.
        """
        ids, length = flat(rows.table.column(ITEM if self.lists_ids_of == "item" else USER)), self.config.max_length
        known = histories(rows, self.config, self.around.split)
        columns: dict[str, tuple[np.ndarray, pa.Array]] = {self.name: (self._rows(ids, state), decoded(ids))}
        if self.config.values:
            numbers, fitted = self._numbers(rows.table, self.config.values), state.features[self.name]
            columns[self.values_column] = standardised(numbers, fitted.mean, fitted.std), pa.array(numbers)

        def encode_at(places: np.ndarray) -> tuple[dict[str, np.ndarray], dict[str, pa.Array]]:
            own, tested = known.at(places), known.at(places[rows.split[places] == TEST])
            encoded = {name: own.rows(values, length) for name, (values, _) in columns.items()}
            return encoded, {name: tested.lists(raw) for name, (_, raw) in columns.items()}

        return encode_at

    @property
    def padded_columns(self) -> tuple[str, ...]:
        return tuple(self.input_columns())

    @property
    def width(self) -> int:
        """Width of the vector of the ids, whose table it reads."""
        return self.around.features[self.config.of].width(self.around.embedding_dim)

    @property
    def num_scalars(self) -> int:
        """Size of the list, and its mean value."""
        return 2 if self.config.values else 1

    def build(self, parts: "EmbeddingParts", fitted: FittedFeature) -> dict[str, int]:
        import torch
        from torch import nn

        from mtl_ray.nn.compressed_embedding import INITIAL_STD
        from mtl_ray.nn.sequence_encoders import build_sequence_encoder

        dim = self.width
        parts.empty[self.name] = nn.Parameter(torch.randn(dim) * INITIAL_STD)
        encoder = build_sequence_encoder(self.config.encoder, dim, self.config.max_length)
        if encoder is not None:
            parts.encoders[self.name] = encoder
        if not self.config.values:
            return {self.name: dim}
        if encoder is not None:
            parts.values[self.name] = nn.Parameter(torch.randn(dim) * INITIAL_STD)
        return {self.values_column: dim, self.name: dim}

    def embed(
        self,
        parts: "EmbeddingParts",
        batch: "Mapping[str, Tensor]",
        hidden: "Mapping[str, Tensor]",
        vectors: "Mapping[str, Tensor]",
    ) -> Embedded:
        """Pool the ids as sum / sqrt(n) over their feature's table (SVD++, Koren 2008), or encode them.

        With values they are pooled a second time, weighted by the values. Beside the vectors go log(1 + n) / 4 and the
        shrunken mean value. A list without ids reads a trained vector. Under `unseen: content` the ids that training
        has not seen, or hides, have the vector of their attributes; that of each id is made once.
        """
        import torch

        from mtl_ray.features.visible_entries import visible_entries
        from mtl_ray.nn.pooling import list_sizes, pooled

        name, table = self.name, parts.tables[self.config.of]
        ids, values, unseen = visible_entries(self, parts, batch, hidden)
        size = list_sizes(table, ids)
        known, weights = ids, values
        if unseen is not None:
            known = torch.where(unseen.where, PADDING, ids)
            weights = None if values is None else torch.where(unseen.where, 0, values)
        sums = pooled(table, known, weights) if name not in parts.encoders or values is not None else []
        if unseen is not None:
            sums = [unseen.added_to(total, by) for total, by in zip(sums, (None, values), strict=False)]
        if name in parts.encoders:
            embedded = table(known)
            if unseen is not None:
                embedded = unseen.put_into(embedded)
            if values is not None:
                embedded = embedded + values[..., None] * parts.values[name]
            vector = parts.encoders[name](embedded, ids != PADDING, vectors[self.config.of])
        else:
            vector = sums[0] / size.clamp(min=1).sqrt()
        vector, scalar = torch.where(size > 0, vector, parts.empty[name]), torch.log1p(size[:, 0]) / 4
        if values is None:
            return Embedded({name: vector}, (scalar,))
        weighted = sums[1] / size.clamp(min=1).sqrt()
        mean = values.sum(1) / (size[:, 0] + SHRINKAGE)
        return Embedded({name: vector, self.values_column: weighted}, (scalar, mean))

    def hide_at_random(self, rows: "Tensor", seed: int, epoch: int, rates: MaskingConfig) -> "dict[str, Tensor]":
        """Return which entries are not seen, or seen by their attributes alone.

        Under `known: all`, `NAME.entries`, (B, L) bool, is true for a random share of the entries. Under
        `unseen: content`, `NAME.unseen` is true as often as the id that the list holds is hidden where it is an input.
        """
        import torch

        hidden = {}
        if self.config.unseen == "content":
            of = rates.item if self.lists_ids_of == "item" else rates.user
            rate = 1 - (1 - of.id) * (1 - of.new)
            hidden = draw_unseen(self.name, rows, seed, epoch, rate, self.config.max_length)
        if self.config.known != "all":
            return hidden
        history, audience = (Stream.HISTORY_SHARE, Stream.HISTORY_ENTRY), (Stream.AUDIENCE_SHARE, Stream.AUDIENCE_ENTRY)
        share, entry = history if self.config.entity == "user" else audience
        kept = uniform_rows(rows, seed, epoch, share).sqrt()
        entries = rows[:, None] * self.config.max_length + torch.arange(self.config.max_length, device=rows.device)
        return hidden | {f"{self.name}.entries": uniform_rows(entries, seed, epoch, entry) >= kept[:, None]}

    @property
    def is_category(self) -> bool:
        return True

    def observed(self, batch: "Mapping[str, Tensor]") -> np.ndarray:
        return observed_rows(batch[self.name].numpy())
