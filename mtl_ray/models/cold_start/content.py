"""Content vectors, made from an entity's attributes, in place of ids with few training interactions."""

import math

import torch
import torch.nn.functional as F  # noqa: N812 - its customary name
from torch import Tensor, nn

from mtl_ray.config import cold_start as settings
from mtl_ray.distributed import gather_rows, gather_rows_with_gradient
from mtl_ray.models.cold_start.base import ColdStart, ColdStartInputs, Content


class ContentGate(ColdStart):
    """The mixture g e + (1 - g) c(x) with g = n / (n + k): e embeds the id, n counts its training interactions.

    This is the credibility of a mean of n observations against a prior mean (Bühlmann 1967), with a learned k. g grows
    with n, and is exactly 0 where n is 0.
    """

    def __init__(self, content: Content, spec: settings.ContentGateConfig) -> None:
        super().__init__(content)
        self.interactions = spec.interactions
        self.log_factor = nn.Parameter(torch.zeros(()))
        """log(k / interactions)."""

    def forward(self, inputs: ColdStartInputs) -> Tensor:  # noqa: D102
        support = inputs.support.to(inputs.own.dtype)[:, None]
        gate = support / (support + self.interactions * self.log_factor.exp())
        return gate * inputs.own + (1 - gate) * inputs.content


class CLCRec(ColdStart):
    """The embedding e of a known id and the content vector c(x) of any other (Wei et al. 2021).

    Each row i with a known id adds the contrast -log(exp(s_ii) / sum_j exp(s_ij)) to the loss, with
    s_ij = cos(e_i, c(x_j)) / temperature. The sum goes over the row's own entity and each other entity of the global
    batch once, however many rows it has. This is the paper's contrast between an item and its content; the tasks take
    the place of its contrast between user and item, and `training.masking` that of its random replacement of embeddings
    by content vectors. Deviations: the paper draws a fixed number of items as negatives; the mean is over all rows of
    the batch, to which rows with a hidden id add 0.
    """

    def __init__(self, content: Content, spec: settings.CLCRecConfig) -> None:
        super().__init__(content)
        self.weight, self.temperature = spec.weight, spec.temperature

    def forward(self, inputs: ColdStartInputs) -> Tensor:  # noqa: D102
        return torch.where(inputs.support[:, None] > 0, inputs.own, inputs.content)

    def penalty(self, inputs: ColdStartInputs) -> Tensor:  # noqa: D102
        rows, size = inputs.rows, len(inputs.rows)
        own, content = (F.normalize(side, dim=1).expand(size, -1) for side in inputs[:2])
        match = (own * content).sum(1, keepdim=True) / self.temperature
        everyone = gather_rows(rows)
        times = (everyone[:, None] == everyone).sum(1).to(own.dtype)
        others = own @ gather_rows_with_gradient(content).T / self.temperature - times.log()
        others = others.masked_fill(rows[:, None] == everyone, -math.inf)
        contrast = torch.cat([match, others], 1).logsumexp(1) - match[:, 0]
        return self.weight * torch.where(inputs.support.expand(size) > 0, contrast, 0)
