"""Inputs to vectors: one (B, dim) vector a feature, with hidden inputs read as unknown or null."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from mtl_ray.experiment import Experiment
from mtl_ray.experiment.features import Feature, IdFeature, MultiCategoricalFeature, SequenceFeature, TextFeature
from mtl_ray.schema import NULL, PADDING, UNKNOWN, Schema

INITIAL_STD = 0.05
SHRINKAGE = 3.0
"""Interactions at the mean that a history's mean value starts from."""


class Inputs(nn.Module):
    """Embeds every feature.

    A history is pooled as sum / sqrt(n) over the table of the item ids (SVD++, Koren 2008); with `values` it is pooled
    a second time, weighted by the values. An empty history reads a trained vector.
    """

    def __init__(self, experiment: Experiment, schema: Schema) -> None:
        super().__init__()
        self.features: dict[str, Feature] = dict(experiment.features)
        self.tables = nn.ModuleDict()
        self.numbers = nn.ModuleDict()
        self.empty = nn.ParameterDict()
        self.dims: dict[str, int] = {}
        """Width of each vector."""
        self.num_scalars = 0
        """Plain numbers beside the vectors: size and mean value of each history."""
        default = experiment.model.embedding_dim
        for name, feature in self.features.items():
            dim = feature.dim or default
            if isinstance(feature, SequenceFeature):
                dim = self.features[feature.of].dim or default
                self.empty[name] = nn.Parameter(torch.randn(dim) * INITIAL_STD)
                self.num_scalars += 1
                if feature.values:
                    self.dims[f"{name}.values"] = dim
                    self.num_scalars += 1
            elif (size := schema.features[name].num_embeddings) is not None:
                table = nn.Embedding(size, dim, padding_idx=PADDING)
                with torch.no_grad():
                    nn.init.normal_(table.weight, std=INITIAL_STD)
                    table.weight[PADDING].zero_()
                self.tables[name] = table
            else:
                self.numbers[name] = nn.Linear(2, dim)
            self.dims[name] = dim
        self.dropout = nn.Dropout(experiment.model.embedding_dropout)

    def forward(self, batch: Mapping[str, Tensor], hidden: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], Tensor]:
        """Vectors by feature, each (B, dim), and (B, num_scalars) plain numbers.

        Args:
            batch: encoded columns.
            hidden: by feature, (B,) bool, rows in which the input is hidden.
        """
        vectors: dict[str, Tensor] = {}
        scalars: list[Tensor] = []
        for name, feature in self.features.items():
            column, hide = batch[name], hidden.get(name)
            match feature:
                case SequenceFeature():
                    self._history(name, feature, batch, hide, vectors, scalars)
                case MultiCategoricalFeature() | TextFeature():
                    if hide is not None:
                        nothing = torch.full_like(column, PADDING)
                        nothing[:, 0] = NULL
                        column = torch.where(hide[:, None], nothing, column)
                    vectors[name] = _pooled(self.tables[name](column), column).mean
                case _ if name in self.tables:
                    if hide is not None:
                        column = torch.where(hide, UNKNOWN if isinstance(feature, IdFeature) else NULL, column)
                    vectors[name] = self.tables[name](column)
                case _:
                    missing = torch.isnan(column) if hide is None else torch.isnan(column) | hide
                    value = torch.where(missing, torch.zeros_like(column), column)
                    vectors[name] = self.numbers[name](torch.stack([value, missing.to(value.dtype)], 1))
        numbers = torch.stack(torch.broadcast_tensors(*scalars), 1) if scalars else next(iter(vectors.values()))[:, :0]
        return {name: self.dropout(vector) for name, vector in vectors.items()}, numbers

    def _history(
        self,
        name: str,
        feature: SequenceFeature,
        batch: Mapping[str, Tensor],
        hide: Tensor | None,
        vectors: dict[str, Tensor],
        scalars: list[Tensor],
    ) -> None:
        items = batch[name]
        if hide is not None:
            items = torch.where(hide[:, None], PADDING, items)
        embedded = self.tables[feature.of](items)
        pooled = _pooled(embedded, items)
        size = pooled.size
        vectors[name] = torch.where(size > 0, pooled.total / size.clamp(min=1).sqrt(), self.empty[name])
        scalars.append(torch.log1p(size[:, 0]) / 4)
        if feature.values:
            values = torch.where(items != PADDING, batch[f"{name}.values"].to(embedded.dtype), 0)
            weighted = torch.bmm(values[:, None], embedded)[:, 0]
            vectors[f"{name}.values"] = weighted / size.clamp(min=1).sqrt()
            scalars.append(values.sum(1) / (size[:, 0] + SHRINKAGE))


class _pooled:  # noqa: N801 - used as a function with two results
    """Sum and number of the vectors that are not padding; (B, L, dim) and (B, L)."""

    def __init__(self, embedded: Tensor, rows: Tensor) -> None:
        # The padding row is zero and stays so, hence padding adds nothing to the sum.
        self.total = embedded.sum(1)
        self.size = (rows != PADDING).sum(1, keepdim=True).to(embedded.dtype)

    @property
    def mean(self) -> Tensor:
        return self.total / self.size.clamp(min=1)
