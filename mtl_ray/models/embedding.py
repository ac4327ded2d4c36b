"""Inputs to vectors: one (B, dim) vector a feature, with hidden inputs read as unknown or null."""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from mtl_ray.config import Experiment
from mtl_ray.config.features import (
    FeatureConfig,
    IdFeatureConfig,
    ImageFeatureConfig,
    MultiCategoricalFeatureConfig,
    SequenceFeatureConfig,
    StatisticFeatureConfig,
    TextFeatureConfig,
    VectorFeatureConfig,
    attributes_of,
)
from mtl_ray.models.cold_start.base import SUPPORTS, ColdStartInputs, ReadIdVector, known_support
from mtl_ray.models.cold_start.content import build_cold_start
from mtl_ray.models.cold_start.meta_learned import MWUF
from mtl_ray.nn.compressed_embedding import INITIAL_STD, build_table
from mtl_ray.nn.containers import ModuleDict, ParameterDict
from mtl_ray.nn.image_encoder import ImageCNN
from mtl_ray.nn.mlp import MLP
from mtl_ray.nn.pooling import list_sizes, pooled
from mtl_ray.nn.sequence_encoders import build_sequence_encoder
from mtl_ray.schema import NULL, PADDING, UNKNOWN, Schema

SHRINKAGE = 3.0
"""Interactions at the mean that a history's mean value starts from."""


class EmbeddedFeatures(NamedTuple):
    """What the features say about each row."""

    vectors: dict[str, Tensor]
    """(B, dim) by feature."""
    scalars: Tensor
    """(B, num_scalars) plain numbers: size and mean value of each history."""
    own: dict[str, dict[str, Tensor]]
    """By task, (B, dim) vectors of features whose encoder has layers of each task."""
    sides: dict[str, ColdStartInputs]
    """By id with a `cold_start`, what its vector was made from."""


class FeatureEmbeddings(nn.Module):
    """Embeds every feature.

    A history is pooled as sum / sqrt(n) over the table of the item ids (SVD++, Koren 2008), or goes through its own
    encoder; with `values` it is pooled a second time, weighted by the values. A history, vector or image with nothing
    in it reads a trained vector.
    """

    def __init__(self, experiment: Experiment, schema: Schema, *, context: bool = True) -> None:
        """Tables of all features, or of those of the user and the item alone."""
        super().__init__()
        self.item = experiment.item
        self.keys = (experiment.user, experiment.item)
        self.features: dict[str, FeatureConfig] = {
            n: f
            for n, f in experiment.features.items()
            if not (isinstance(f, IdFeatureConfig) and not f.embed) and (context or f.entity != "context")
        }
        self.tables = ModuleDict()
        self.numbers = ModuleDict()
        self.encoders = ModuleDict()
        self.values = ParameterDict()
        """Direction in which an entry of an encoded history moves with its value."""
        self.tails = ModuleDict()
        """By feature and task: the layers of an image's encoder that each task has for itself."""
        self.empty = ParameterDict()
        self.dims: dict[str, int] = {}
        """Width of each vector."""
        self.num_scalars = 0
        """Plain numbers beside the vectors: size and mean value of each history."""
        self._default = experiment.model.embedding_dim
        for name, feature in self.features.items():
            dim = feature.dim or self._default
            match feature:
                case SequenceFeatureConfig():
                    dim = self._build_history(name, feature)
                case VectorFeatureConfig():
                    dim = feature.size
                    if feature.encoder is not None:
                        self.encoders[name] = MLP(feature.size, feature.encoder)
                        dim = self.encoders[name].out_features
                    self.empty[name] = nn.Parameter(torch.randn(dim) * INITIAL_STD)  # pyright: ignore
                case ImageFeatureConfig():
                    self._build_image(name, feature, dim, readers_of(experiment, feature))
                case _ if (size := schema.features[name].num_embeddings) is not None:
                    self.tables[name] = build_table(feature, size, dim, experiment.training)  # pyright: ignore
                    if isinstance(feature, TextFeatureConfig):
                        encoder = build_sequence_encoder(feature.encoder, dim, feature.max_length)
                        if encoder is not None:
                            self.encoders[name] = encoder
                case _:
                    self.numbers[name] = nn.Linear(2, dim)
            self.dims[name] = dim  # pyright: ignore[reportArgumentType]
        self.cold_starts = ModuleDict()
        tables = dict(self.tables.items())
        for name, feature in self.features.items():
            if isinstance(feature, IdFeatureConfig) and feature.cold_start is not None:
                dims = {n: self.dims[n] for n in attributes_of(self.features, feature.entity)}
                table, other = (tables.get(n) for n in self._keys_from(name))
                self.cold_starts[name] = build_cold_start(feature.cold_start, dims, table, other)  # pyright: ignore
        self.dropout = nn.Dropout(experiment.model.embedding_dropout)

    def of_entity(self, entity: str) -> list[str]:
        """Names of the vectors that describe an entity."""
        return [name for name in self.dims if self.features[name.removesuffix(".values")].entity == entity]

    def _keys_from(self, key: str) -> tuple[str, str]:
        """The id `key`, then that of the other side."""
        user, item = self.keys
        return (user, item) if key == user else (item, user)

    def observe(self, batch: Mapping[str, Tensor]) -> None:
        """Tell the vectors for ids who interacts with whom in a batch of training rows."""
        for name, part in self.cold_starts.items():
            if isinstance(part, MWUF):
                ids, others = (batch[key] for key in self._keys_from(name))
                tables = [self.tables[key].weight.detach() for key in self._keys_from(name)]  # pyright: ignore
                part.observe(ids, others, batch[SUPPORTS[self.features[name].entity]], *tables)  # pyright: ignore

    def _build_history(self, name: str, feature: SequenceFeatureConfig) -> int:
        dim = self.features[feature.of].dim or self._default
        self.empty[name] = nn.Parameter(torch.randn(dim) * INITIAL_STD)
        self.num_scalars += 1
        encoder = build_sequence_encoder(feature.encoder, dim, feature.max_length)
        if encoder is not None:
            self.encoders[name] = encoder
        if feature.values:
            self.dims[f"{name}.values"] = dim
            self.num_scalars += 1
            if encoder is not None:
                self.values[name] = nn.Parameter(torch.randn(dim) * INITIAL_STD)
        return dim

    def _build_image(self, name: str, feature: ImageFeatureConfig, dim: int, tasks: list[str]) -> None:
        channels, kernel, k = feature.encoder.channels, feature.encoder.kernel, feature.encoder.shared_layers
        self.empty[name] = nn.Parameter(torch.randn(dim) * INITIAL_STD)
        if k is None:
            self.encoders[name] = ImageCNN(feature.shape[2], channels, kernel, dim)
            return
        self.encoders[name] = ImageCNN(feature.shape[2], channels[:k], kernel, None)
        width = channels[k - 1] if k else feature.shape[2]
        self.tails[name] = ModuleDict({task: ImageCNN(width, channels[k:], kernel, dim) for task in tasks})

    def forward(
        self, batch: Mapping[str, Tensor], hidden: Mapping[str, Tensor], read: Mapping[str, ReadIdVector] | None = None
    ) -> EmbeddedFeatures:
        """The features' vectors of encoded rows.

        Args:
            batch: encoded columns; one of a single row holds for all rows and is read once.
            hidden: by feature, (B,) bool, rows in which the input is hidden.
            read: by id, what is read as its vector in every row.
        """
        vectors: dict[str, Tensor] = {}
        scalars: list[Tensor] = []
        own: dict[str, dict[str, Tensor]] = {}
        for name, feature in self.features.items():
            column, hide = batch[name], hidden.get(name)
            match feature:
                case SequenceFeatureConfig():
                    continue
                case VectorFeatureConfig() | ImageFeatureConfig():
                    self._dense(name, feature, column, hide, vectors, own)
                case MultiCategoricalFeatureConfig() | TextFeatureConfig():
                    if hide is not None:
                        nothing = torch.full_like(column, PADDING)
                        nothing[:, 0] = NULL
                        column = torch.where(hide[:, None], nothing, column)
                    table: nn.Embedding = self.tables[name]  # pyright: ignore[reportAssignmentType]
                    if name in self.encoders:
                        embedded = table(column)
                        vectors[name] = self.encoders[name](embedded, column != PADDING, embedded[:, 0])
                    else:
                        vectors[name] = pooled(table, column)[0] / list_sizes(table, column).clamp(min=1)
                case StatisticFeatureConfig():
                    known = column if hide is None else torch.where(hide[:, None], 0.0, column)
                    vectors[name] = self.numbers[name](known)
                case _ if name in self.tables:
                    vectors[name] = self._embedded(name, batch, hidden)
                case _:
                    missing = torch.isnan(column) if hide is None else torch.isnan(column) | hide
                    value = torch.where(missing, torch.zeros_like(column), column)
                    vectors[name] = self.numbers[name](torch.stack([value, missing.to(value.dtype)], 1))
        sides = {}
        for name, part in self.cold_starts.items():
            support = known_support(batch, hidden, name, self.features[name].entity)
            content = part.content(vectors)  # pyright: ignore[reportCallIssue]
            sides[name] = ColdStartInputs(vectors[name], content, support, batch[name])
            vectors[name] = (read or {}).get(name, part)(sides[name])
        for name, feature in self.features.items():
            if isinstance(feature, SequenceFeatureConfig):
                self._history(name, feature, batch, hidden, vectors, scalars)
        vectors = {n: vectors[n] for name in self.features for n in (name, f"{name}.values") if n in vectors}
        size = max(column.shape[0] for column in batch.values())
        weight = next(self.parameters())
        numbers = torch.stack([x.expand(size) for x in scalars], 1) if scalars else weight.new_zeros(size, 0)
        dropped = {task: self._dropped(parts, size) for task, parts in own.items()}
        return EmbeddedFeatures(self._dropped(vectors, size), numbers, dropped, sides)

    def _dropped(self, vectors: Mapping[str, Tensor], size: int) -> dict[str, Tensor]:
        return {name: self.dropout(vector.expand(size, -1)) for name, vector in vectors.items()}

    def _embedded(self, name: str, batch: Mapping[str, Tensor], hidden: Mapping[str, Tensor]) -> Tensor:
        column = batch[name]
        if name in hidden:
            nothing = UNKNOWN if isinstance(self.features[name], IdFeatureConfig) else NULL
            column = torch.where(hidden[name], nothing, column)
        return self.tables[name](column)

    def _dense(
        self,
        name: str,
        feature: VectorFeatureConfig | ImageFeatureConfig,
        column: Tensor,
        hide: Tensor | None,
        vectors: dict[str, Tensor],
        own: dict[str, dict[str, Tensor]],
    ) -> None:
        missing = torch.isnan(column[:, :1]) if hide is None else torch.isnan(column[:, :1]) | hide[:, None]
        x = torch.where(missing, torch.zeros_like(column), column)
        if isinstance(feature, ImageFeatureConfig):
            x = x.reshape(-1, *feature.shape).permute(0, 3, 1, 2)
        if name in self.encoders:
            x = self.encoders[name](x)
        if name not in self.tails:
            vectors[name] = torch.where(missing, self.empty[name], x)
            return
        for task, tail in self.tails[name].items():  # pyright: ignore[reportCallIssue]
            own.setdefault(task, {})[name] = torch.where(missing, self.empty[name], tail(x))

    def _history(
        self,
        name: str,
        feature: SequenceFeatureConfig,
        batch: Mapping[str, Tensor],
        hidden: Mapping[str, Tensor],
        vectors: dict[str, Tensor],
        scalars: list[Tensor],
    ) -> None:
        table: nn.Embedding = self.tables[feature.of]  # pyright: ignore[reportAssignmentType]
        items = batch[name]
        values = batch[f"{name}.values"].to(next(self.parameters()).dtype) if feature.values else None
        if name in hidden:
            items = torch.where(hidden[name][:, None], PADDING, items)
        if (entries := f"{name}.entries") in hidden:
            items = torch.where(hidden[entries], PADDING, items)
            if name in self.encoders:  # they want padding on the right
                order = (items == PADDING).to(torch.int8).argsort(dim=1, stable=True)
                items, values = items.gather(1, order), None if values is None else values.gather(1, order)
        if values is not None:
            values = torch.where(items != PADDING, values, 0)
        size = list_sizes(table, items)
        sums = pooled(table, items, values) if name not in self.encoders or values is not None else []
        if name in self.encoders:
            embedded = table(items)
            if values is not None:
                embedded = embedded + values[..., None] * self.values[name]
            vector = self.encoders[name](embedded, items != PADDING, vectors[self.item])
        else:
            vector = sums[0] / size.clamp(min=1).sqrt()
        vectors[name] = torch.where(size > 0, vector, self.empty[name])
        scalars.append(torch.log1p(size[:, 0]) / 4)
        if values is not None:
            vectors[f"{name}.values"] = sums[1] / size.clamp(min=1).sqrt()
            scalars.append(values.sum(1) / (size[:, 0] + SHRINKAGE))


def readers_of(experiment: Experiment, feature: FeatureConfig) -> list[str]:
    """Tasks that read a feature: ranking tasks have no context."""
    return [n for n, t in experiment.tasks.items() if t.kind != "ranking" or feature.entity != "context"]
