"""Encoded features to vectors: one (B, dim) vector a feature, with hidden inputs read as unknown or null."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from mtl_ray.config.feature_base import key_of
from mtl_ray.config.features import IdFeatureConfig, attributes_of
from mtl_ray.features.base import FeatureKind
from mtl_ray.models.cold_start.base import (
    SUPPORTS,
    ColdStartInputs,
    ReadIdVector,
    build_cold_start,
    known_support,
)
from mtl_ray.models.cold_start.meta_learned import MWUF
from mtl_ray.nn.containers import ModuleDict
from mtl_ray.nn.embedding_parts import EmbeddingParts
from mtl_ray.schema import UNKNOWN, FittedFeature


class EmbeddedFeatures(NamedTuple):
    """The vectors of all features."""

    vectors: dict[str, Tensor]
    """(B, dim) by feature."""
    scalars: Tensor
    """(B, num_scalars) plain numbers: size and mean value of each history."""
    own: dict[str, dict[str, Tensor]]
    """Vectors (B, dim), by task, of features whose encoder has layers of each task."""
    sides: dict[str, ColdStartInputs]
    """Inputs of the vector of each id with a `cold_start`."""


class FeatureEmbeddings(EmbeddingParts):
    """Embeds every feature, and puts a vector made from attributes in the place of ids seen seldom or never."""

    def __init__(
        self,
        kinds: Mapping[str, FeatureKind[Any]],
        fitted: Mapping[str, FittedFeature],
        *,
        context: bool = True,
        dropout: float = 0.0,
        catalogs: ModuleDict | None = None,
    ) -> None:
        """Build the parts of the features that are inputs.

        Args:
            kinds: all features, by name.
            fitted: what `prepare` found in them, by name.
            context: true for all features, false for those of the user and the item alone.
            dropout: share of the coordinates of the vectors that training drops.
            catalogs: those of the model, see `build_catalogs`.
        """
        super().__init__()
        features = {name: kind.config for name, kind in kinds.items()}
        self.keys = (key_of(features, "user"), key_of(features, "item"))
        self._catalogs: dict[str, Any] = dict(catalogs.items()) if catalogs else {}  # one for all sets of tables
        self.features = {
            name: feature
            for name, feature in features.items()
            if feature.is_input and (context or feature.entity != "context")
        }
        self.kinds = {name: kinds[name] for name in self.features}
        self.dims: dict[str, int] = {}
        """Width of each vector."""
        self.num_scalars = 0
        """Plain numbers beside the vectors."""
        self._owner: dict[str, str] = {}
        for name, kind in self.kinds.items():
            widths = kind.build(self, fitted[name])
            self.dims |= widths
            self._owner |= dict.fromkeys(widths, name)
            self.num_scalars += kind.num_scalars
        self.cold_starts = ModuleDict()
        tables = dict(self.tables.items())
        for name, feature in self.features.items():
            if isinstance(feature, IdFeatureConfig) and feature.cold_start is not None:
                dims = {n: self.dims[n] for n in attributes_of(self.features, feature.entity)}
                table, other = (tables.get(n) for n in self._keys_from(name))
                self.cold_starts[name] = build_cold_start(feature.cold_start, dims, table, other)  # pyright: ignore
        self.dropout = nn.Dropout(dropout)

    def of_entity(self, entity: str) -> list[str]:
        """Return the names of the vectors that describe an entity."""
        return [name for name in self.dims if self.features[self._owner[name]].entity == entity]

    def first_unseen(self, key: str) -> int:  # noqa: D102
        return self._catalogs[key].known

    def unseen_vectors(self, key: str, rows: Tensor) -> Tensor:  # noqa: D102
        columns, vectors = self._catalogs[key].at(rows), {}
        for name in attributes_of(self.features, self.features[key].entity):
            vectors |= self.kinds[name].embed(self, columns, {}, {}).vectors
        nobody = rows.new_full((1,), UNKNOWN)
        part = self.cold_starts[key]
        own, content = self.tables[key](nobody), part.content(vectors)  # pyright: ignore[reportCallIssue]
        return part(ColdStartInputs(own, content, torch.zeros_like(nobody), nobody)).expand(len(rows), -1)

    def _keys_from(self, key: str) -> tuple[str, str]:
        """Return the id `key`, then that of the other side."""
        user, item = self.keys
        return (user, item) if key == user else (item, user)

    def update_statistics(self, batch: Mapping[str, Tensor]) -> None:
        """Update the running statistics of cold-start vectors from a batch of training rows."""
        for name, part in self.cold_starts.items():
            if isinstance(part, MWUF):
                ids, others = (batch[key] for key in self._keys_from(name))
                tables = [self.tables[key].weight.detach() for key in self._keys_from(name)]  # pyright: ignore
                part.update_statistics(ids, others, batch[SUPPORTS[self.features[name].entity]], *tables)  # pyright: ignore

    def forward(
        self, batch: Mapping[str, Tensor], hidden: Mapping[str, Tensor], read: Mapping[str, ReadIdVector] | None = None
    ) -> EmbeddedFeatures:
        """Embed encoded rows.

        Args:
            batch: encoded columns; one of a single row holds for all rows and is read once.
            hidden: by feature, (B,) bool, rows in which the input is hidden.
            read: by id, what is read as its vector in every row.
        """
        vectors: dict[str, Tensor] = {}
        scalars: list[Tensor] = []
        own: dict[str, dict[str, Tensor]] = {}
        made: dict[str, list[str]] = {}

        def embed(*, last: bool) -> None:
            for name, kind in self.kinds.items():
                if kind.embedded_last == last:
                    found = kind.embed(self, batch, hidden, vectors)
                    vectors.update(found.vectors)
                    made[name] = list(found.vectors)
                    scalars.extend(found.scalars)
                    for task, vector in found.by_task.items():
                        own.setdefault(task, {})[name] = vector

        embed(last=False)
        sides = {}
        for name, part in self.cold_starts.items():
            support = known_support(batch, hidden, name, self.features[name].entity)
            content = part.content(vectors)  # pyright: ignore[reportCallIssue]
            sides[name] = ColdStartInputs(vectors[name], content, support, batch[name])
            vectors[name] = (read or {}).get(name, part)(sides[name])
        embed(last=True)
        vectors = {vector: vectors[vector] for name in self.features for vector in made[name]}
        size = max(column.shape[0] for column in batch.values())
        weight = next(self.parameters())
        numbers = torch.stack([x.expand(size) for x in scalars], 1) if scalars else weight.new_zeros(size, 0)
        dropped = {task: self._dropped(parts, size) for task, parts in own.items()}
        return EmbeddedFeatures(self._dropped(vectors, size), numbers, dropped, sides)

    def _dropped(self, vectors: Mapping[str, Tensor], size: int) -> dict[str, Tensor]:
        return {name: self.dropout(vector.expand(size, -1)) for name, vector in vectors.items()}
