"""Vectors that stand for ids seen seldom or never, made from the entity's attributes."""

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F  # noqa: N812 - its customary name
from torch import Tensor, nn

from mtl_ray.config import cold_start as settings
from mtl_ray.distributed import gather_rows, gather_rows_with_gradient
from mtl_ray.models.cold_start.base import ColdStart, ColdStartInputs, Content
from mtl_ray.models.cold_start.meta_learned import MWUF, MetaEmbedding


class ContentGate(ColdStart):
    """g e + (1 - g) c(x) with g = n / (n + k): e embeds the id, n is its number of training interactions.

    The credibility of a mean of n observations against a prior mean (Bühlmann 1967), with a learned k. g grows with n
    and is exactly 0 where n is.
    """

    def __init__(self, content: Content, spec: settings.ContentGateConfig) -> None:
        super().__init__(content)
        self.interactions = spec.interactions
        self.log_factor = nn.Parameter(torch.zeros(()))
        """log(k / interactions)."""

    def forward(self, sides: ColdStartInputs) -> Tensor:  # noqa: D102
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

    def __init__(self, content: Content, spec: settings.CLCRecConfig) -> None:
        super().__init__(content)
        self.weight, self.temperature = spec.weight, spec.temperature

    def forward(self, sides: ColdStartInputs) -> Tensor:  # noqa: D102
        return torch.where(sides.support[:, None] > 0, sides.own, sides.content)

    def penalty(self, sides: ColdStartInputs) -> Tensor:  # noqa: D102
        rows, size = sides.rows, len(sides.rows)
        own, content = (F.normalize(side, dim=1).expand(size, -1) for side in sides[:2])
        match = (own * content).sum(1, keepdim=True) / self.temperature
        everyone = gather_rows(rows)
        times = (everyone[:, None] == everyone).sum(1).to(own.dtype)
        others = own @ gather_rows_with_gradient(content).T / self.temperature - times.log()
        others = others.masked_fill(rows[:, None] == everyone, -math.inf)
        contrast = torch.cat([match, others], 1).logsumexp(1) - match[:, 0]
        return self.weight * torch.where(sides.support.expand(size) > 0, contrast, 0)


def build_cold_start(
    spec: settings.ColdStartConfig, dims: Mapping[str, int], table: nn.Embedding, other: nn.Embedding | None
) -> ColdStart:
    """What stands for the id of an entity.

    Args:
        spec: kind and sizes.
        dims: width of each attribute's vector.
        table: the id's embeddings.
        other: those of the id on the other side, of the items for a user.
    """
    width = table.embedding_dim
    content = Content(dims, width, spec.content)
    match spec:
        case settings.ContentGateConfig():
            return ContentGate(content, spec)
        case settings.CLCRecConfig():
            return CLCRec(content, spec)
        case settings.MetaEmbeddingConfig():
            return MetaEmbedding(content, spec)
        case settings.MWUFConfig():
            assert other is not None, "Experiment._cold_start"
            return MWUF(content, spec, table.num_embeddings, other.embedding_dim)
