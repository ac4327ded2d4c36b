"""The base of every cold-start method: a vector in place of the embedding of an id with few training interactions."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from mtl_ray.config.base import implementation_of
from mtl_ray.config.cold_start import ColdStartConfig
from mtl_ray.config.model import MLPConfig
from mtl_ray.nn.mlp import MLP
from mtl_ray.schema import ITEM_SUPPORT, UNKNOWN, USER_SUPPORT

SUPPORTS = {"user": USER_SUPPORT, "item": ITEM_SUPPORT}


class ColdStartInputs(NamedTuple):
    """The two vectors of each row's entity. A tensor of a single row holds for all rows."""

    own: Tensor
    """(B, dim) embedding of the id."""
    content: Tensor
    """(B, dim) vector made from the attributes that are not hidden."""
    support: Tensor
    """(B,) see `known_support`."""
    rows: Tensor
    """(B,) embedding rows of the ids, hidden or not."""


ReadIdVector = Callable[[ColdStartInputs], Tensor]
"""From these inputs, the vector (B, dim) that is read in place of the id's embedding."""
LossesOfRows = Callable[[Mapping[str, ReadIdVector], Tensor], tuple[Tensor, Tensor]]
"""From a `ReadIdVector` by set of tables, and (B,) bool rows: the summed loss of these rows, and this worker's part of
the global batch's mean loss over such rows. The gradient reaches no other part of the model."""


class Content(nn.Module):
    """Layers over the vectors of an entity's attributes: c(x).

    It reads the same attribute vectors as the model; a hidden attribute has the vector of a missing value.
    """

    def __init__(self, dims: Mapping[str, int], width: int, layers: MLPConfig) -> None:
        super().__init__()
        self.names, self.width = list(dims), width
        mlp = MLP(sum(dims.values()), layers)
        self.layers = nn.Sequential(mlp, nn.Linear(mlp.out_features, width))

    def forward(self, vectors: Mapping[str, Tensor]) -> Tensor:
        """Return (B, width) from (B, dim) by attribute."""
        size = max(vectors[name].shape[0] for name in self.names)
        return self.layers(torch.cat([vectors[name].expand(size, -1) for name in self.names], 1))


class ColdStart(nn.Module, ABC):
    """A vector that is read in place of an id's embedding."""

    def __init__(self, content: Content) -> None:
        super().__init__()
        self.content = content

    @classmethod
    def build(cls, content: Content, spec: Any, table: nn.Embedding, other: nn.Embedding | None) -> "ColdStart":
        """Build it for an id; see `build_cold_start` for the arguments."""
        return cls(content, spec)  # pyright: ignore[reportCallIssue]

    @abstractmethod
    def forward(self, inputs: ColdStartInputs) -> Tensor:
        """Return (B, dim) vectors; where the support is 0 they do not depend on the id."""

    def penalty(self, inputs: ColdStartInputs) -> Tensor | None:
        """Return (B,) terms that the training rows add to the loss, or None without such terms."""
        return None


class MetaLearnedColdStart(ColdStart):
    """A cold-start method with a loss of its own; the tasks' losses leave its parameters alone."""

    @staticmethod
    @abstractmethod
    def meta_loss(
        parts: Mapping[str, Any], losses: LossesOfRows, rows: Tensor, first: Tensor, scale: float = 1.0
    ) -> Tensor:
        """Return this worker's part of that loss.

        Args:
            parts: by set of tables, the module of the id.
            losses: losses of the tasks under a fixed copy of the model.
            rows: (B,) embedding rows of the ids: they tell which rows belong to the same entity.
            first: (B,) bool, a random half of the rows.
            scale: factor that keeps gradients in the range of float16.
        """


def build_cold_start(
    spec: ColdStartConfig, dims: Mapping[str, int], table: nn.Embedding, other: nn.Embedding | None
) -> ColdStart:
    """Build the module that replaces the embedding of an entity's id.

    Args:
        spec: kind and sizes.
        dims: width of each attribute's vector.
        table: the id's embeddings.
        other: embeddings of the id on the other side: of the items for a user.
    """
    return implementation_of(spec).build(Content(dims, table.embedding_dim, spec.content), spec, table, other)


def known_support(batch: Mapping[str, Tensor], hidden: Mapping[str, Tensor], key: str, entity: str) -> Tensor:
    """Return (B,) training interactions of each row's entity, 0 for a hidden or unknown id.

    Args:
        batch: encoded columns.
        hidden: by feature, (B,) bool, rows in which the input is hidden.
        key: name of the id feature.
        entity: whose id it is, `user` or `item`.
    """
    nothing = batch[key] <= UNKNOWN
    if key in hidden:
        nothing = nothing | hidden[key]
    return torch.where(nothing, 0, batch[SUPPORTS[entity]])
