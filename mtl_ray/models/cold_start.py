"""Vectors that stand for ids seen seldom or never, made from the entity's attributes."""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812 - its customary name
from torch import Tensor, nn

from mtl_ray.distributed import gather_rows, gather_rows_with_gradient
from mtl_ray.experiment import cold_start as settings
from mtl_ray.experiment.model import MLPSettings
from mtl_ray.models.layers import MLP
from mtl_ray.schema import ITEM_SUPPORT, UNKNOWN, USER_SUPPORT

SUPPORTS = {"user": USER_SUPPORT, "item": ITEM_SUPPORT}


class Sides(NamedTuple):
    """The two vectors of each row's entity. One of a single row holds for all rows."""

    own: Tensor
    """(B, dim) embedding of the id."""
    content: Tensor
    """(B, dim) vector made from the attributes that are not hidden."""
    support: Tensor
    """(B,) see `known_support`."""


class Content(nn.Module):
    """Layers over the vectors of an entity's attributes: c(x).

    It reads the vectors that the model reads, of hidden attributes that of no value.
    """

    def __init__(self, dims: Mapping[str, int], width: int, layers: MLPSettings) -> None:
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
    def forward(self, sides: Sides) -> Tensor:
        """(B, dim); the content vector where the support is 0."""

    def penalty(self, sides: Sides, rows: Tensor) -> Tensor | None:
        """(B,) what each training row adds to the loss, from the (B,) embedding rows of the ids, hidden or not."""
        return None


class ContentGate(ColdStart):
    """g e + (1 - g) c(x) with g = n / (n + k): e embeds the id, n is its number of training interactions.

    The credibility of a mean of n observations against a prior mean (Bühlmann 1967), with a learned k. g grows with n
    and is exactly 0 where n is.
    """

    def __init__(self, content: Content, spec: settings.ContentGate) -> None:
        super().__init__(content)
        self.interactions = spec.interactions
        self.log_factor = nn.Parameter(torch.zeros(()))
        """log(k / interactions)."""

    def forward(self, sides: Sides) -> Tensor:  # noqa: D102
        support = sides.support.to(sides.own.dtype)[:, None]
        gate = support / (support + self.interactions * self.log_factor.exp())
        return gate * sides.own + (1 - gate) * sides.content


class CLCRec(ColdStart):
    """e for known ids, c(x) for others (Wei et al. 2021), with the contrast -log(exp(s_ii) / sum_j exp(s_ij)),
    s_ij = cos(e_i, c(x_j)) / temperature, of each row i whose id is known.

    The sum goes over the row's own entity and each other entity of the global batch once, however many rows it has.
    This is the paper's contrast between an item and its content. That between user and item are the tasks; and its
    random replacement of embeddings by content vectors is `training.masking`. Deviations: the paper draws a fixed
    number of items as negatives; the mean is over all rows of the batch, to which rows with a hidden id add 0.
    """

    def __init__(self, content: Content, spec: settings.CLCRec) -> None:
        super().__init__(content)
        self.weight, self.temperature = spec.weight, spec.temperature

    def forward(self, sides: Sides) -> Tensor:  # noqa: D102
        return torch.where(sides.support[:, None] > 0, sides.own, sides.content)

    def penalty(self, sides: Sides, rows: Tensor) -> Tensor:  # noqa: D102
        size = len(rows)
        own, content = (F.normalize(side, dim=1).expand(size, -1) for side in sides[:2])
        match = (own * content).sum(1, keepdim=True) / self.temperature
        everyone = gather_rows(rows)
        times = (everyone[:, None] == everyone).sum(1).to(own.dtype)
        others = own @ gather_rows_with_gradient(content).T / self.temperature - times.log()
        others = others.masked_fill(rows[:, None] == everyone, -math.inf)
        contrast = torch.cat([match, others], 1).logsumexp(1) - match[:, 0]
        return self.weight * torch.where(sides.support.expand(size) > 0, contrast, 0)


class MetaEmbedding(ColdStart):
    """e for known ids, c(x) for others (Pan et al. 2019). The tasks' losses leave c alone: see `meta_loss`."""

    def __init__(self, content: Content, spec: settings.MetaEmbedding) -> None:
        super().__init__(content)
        self.spec = spec

    def forward(self, sides: Sides) -> Tensor:  # noqa: D102
        return torch.where(sides.support[:, None] > 0, sides.own, sides.content.detach())


def known_support(batch: Mapping[str, Tensor], hidden: Mapping[str, Tensor], key: str, entity: str) -> Tensor:
    """(B,) training interactions of each row's entity whose id is `key`; of a hidden or unknown id 0."""
    nothing = batch[key] <= UNKNOWN
    if key in hidden:
        nothing = nothing | hidden[key]
    return torch.where(nothing, 0, batch[SUPPORTS[entity]])


def build_cold_start(spec: settings.ColdStart, dims: Mapping[str, int], width: int) -> ColdStart:
    """What stands for the id of an entity.

    Args:
        spec: kind and sizes.
        dims: width of each attribute's vector.
        width: of the id's embedding.
    """
    content = Content(dims, width, spec.content)
    match spec:
        case settings.ContentGate():
            return ContentGate(content, spec)
        case settings.CLCRec():
            return CLCRec(content, spec)
        case settings.MetaEmbedding():
            return MetaEmbedding(content, spec)
