"""What an id's vector is made from where training has seen the id seldom or never, and what makes it."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from mtl_ray.config.model import MLPConfig
from mtl_ray.nn.mlp import MLP
from mtl_ray.schema import ITEM_SUPPORT, UNKNOWN, USER_SUPPORT

SUPPORTS = {"user": USER_SUPPORT, "item": ITEM_SUPPORT}


class ColdStartInputs(NamedTuple):
    """The two vectors of each row's entity. One of a single row holds for all rows."""

    own: Tensor
    """(B, dim) embedding of the id."""
    content: Tensor
    """(B, dim) vector made from the attributes that are not hidden."""
    support: Tensor
    """(B,) see `known_support`."""
    rows: Tensor
    """(B,) embedding rows of the ids, hidden or not."""


ReadIdVector = Callable[[ColdStartInputs], Tensor]
"""What is read as an id's vector, (B, dim)."""
LossesOfRows = Callable[[Mapping[str, ReadIdVector], Tensor], tuple[Tensor, Tensor]]
"""From what is read in every row, by set of tables, and (B,) bool rows: the summed loss of these rows, and this
worker's part of the global batch's mean loss over such rows. The gradient reaches no other part of the model."""


class Content(nn.Module):
    """Layers over the vectors of an entity's attributes: c(x).

    It reads the vectors that the model reads, of hidden attributes that of no value.
    """

    def __init__(self, dims: Mapping[str, int], width: int, layers: MLPConfig) -> None:
        super().__init__()
        self.names, self.width = list(dims), width
        mlp = MLP(sum(dims.values()), layers)
        self.layers = nn.Sequential(mlp, nn.Linear(mlp.out_features, width))

    def forward(self, vectors: Mapping[str, Tensor]) -> Tensor:
        """(B, dim) by attribute to (B, width)."""
        size = max(vectors[name].shape[0] for name in self.names)
        return self.layers(torch.cat([vectors[name].expand(size, -1) for name in self.names], 1))


class ColdStart(nn.Module, ABC):
    """What is read in place of an id's embedding."""

    def __init__(self, content: Content) -> None:
        super().__init__()
        self.content = content

    @abstractmethod
    def forward(self, sides: ColdStartInputs) -> Tensor:
        """(B, dim); where the support is 0, whatever the id is."""

    def penalty(self, sides: ColdStartInputs) -> Tensor | None:
        """(B,) what each training row adds to the loss."""
        return None


class MetaLearnedColdStart(ColdStart):
    """What the tasks' losses leave alone, since it has a loss of its own."""

    @staticmethod
    @abstractmethod
    def meta_loss(
        parts: Mapping[str, Any], losses: LossesOfRows, rows: Tensor, first: Tensor, scale: float = 1.0
    ) -> Tensor:
        """This worker's part of that loss.

        Args:
            parts: by set of tables, the module of the id.
            losses: of a fixed copy of the model.
            rows: (B,) embedding rows of the ids: which entity each row is of.
            first: (B,) bool, a random half of the rows.
            scale: keeps gradients in the range of float16.
        """


def known_support(batch: Mapping[str, Tensor], hidden: Mapping[str, Tensor], key: str, entity: str) -> Tensor:
    """(B,) training interactions of each row's entity whose id is `key`; of a hidden or unknown id 0."""
    nothing = batch[key] <= UNKNOWN
    if key in hidden:
        nothing = nothing | hidden[key]
    return torch.where(nothing, 0, batch[SUPPORTS[entity]])
