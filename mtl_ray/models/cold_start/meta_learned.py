"""Vectors for ids that have a loss of their own: generated embeddings and warmed-up ones."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from mtl_ray.config import cold_start as settings
from mtl_ray.distributed import gather_rows, gather_rows_with_gradient
from mtl_ray.models.cold_start.base import ColdStartInputs, Content, LossesOfRows, MetaLearnedColdStart
from mtl_ray.nn.mlp import MLP
from mtl_ray.schema import FIRST, UNKNOWN


class MetaEmbedding(MetaLearnedColdStart):
    """e for known ids, c(x) for others (Pan et al. 2019, SIGIR)."""

    def __init__(self, content: Content, spec: settings.MetaEmbeddingConfig) -> None:
        super().__init__(content)
        self.spec = spec

    def forward(self, sides: ColdStartInputs) -> Tensor:  # noqa: D102
        return torch.where(sides.support[:, None] > 0, sides.own, sides.content.detach())

    @staticmethod
    def meta_loss(
        parts: Mapping[str, "MetaEmbedding"], losses: LossesOfRows, rows: Tensor, first: Tensor, scale: float = 1.0
    ) -> Tensor:
        """alpha l_a + (1 - alpha) l_b, which teaches the generator c(x) of id embeddings.

        l_a is the loss of a first half of the rows with the generated embedding phi. One step on an entity's rows among
        them gives phi' = phi - step * (mean gradient of their losses on phi), and l_b is the loss of the other half
        with phi'. The gradient goes through the step, second derivatives included.

        Deviations from the paper, which draws two batches of K rows of one entity and teaches the generator after all
        else is trained: the rows of an entity are those in the global batch, on whichever worker, one without a row in
        the first half takes no step; and the generator learns beside the model, of which it sees a fixed copy.
        """
        part = next(iter(parts.values()))
        like = next(part.parameters())
        shifts = {name: like.new_zeros(len(rows), part.content.width, requires_grad=True) for name in parts}

        def loss(chosen: Tensor) -> tuple[Tensor, Tensor]:
            return losses({name: lambda sides, s=shift: sides.content + s for name, shift in shifts.items()}, chosen)

        total, cold = loss(first)
        gradients = torch.autograd.grad(total * scale, list(shifts.values()), create_graph=True, materialize_grads=True)
        same = (rows[:, None] == gather_rows(rows)) & gather_rows(first)
        share = (same / same.sum(1, keepdim=True).clamp(min=1)).to(total.dtype)
        steps = [part.spec.step * (share @ gather_rows_with_gradient(gradient)) / scale for gradient in gradients]
        shifts = {name: -step for name, step in zip(parts, steps, strict=True)}
        _, warm = loss(~first)
        return part.spec.alpha * cold + (1 - part.spec.alpha) * warm


class MWUF(MetaLearnedColdStart):
    """s(x) * e' + t(a) for ids with few training interactions, e for others (Zhu et al. 2021, SIGIR).

    e' is a second, cold embedding of the id, which starts as the mean of all ids' embeddings; s scales it by the
    attributes, t shifts it by a, the mean embedding of those who have interacted with the entity. For an unseen id e'
    is the mean and a that over everybody. As in the paper, e' learns from the loss with e' alone, s and t from the loss
    with the warmed-up vector, both under a fixed model.

    Deviations: the paper does this after all else is trained, here it goes beside; so the mean embeddings move, e' is
    kept as its difference from that of the ids, and a is a running mean over about an epoch.
    """

    mean: Tensor
    """(dim,) of all ids' embeddings."""
    audience: Tensor
    """(size, width) mean embedding of those who have interacted with each id; of an unseen id that of everybody."""
    counts: Tensor
    """(size,) rows of each id seen so far, at most those of an epoch."""

    def __init__(self, content: Content, spec: settings.MWUFConfig, size: int, width: int) -> None:
        """Of `size` ids, with embeddings of `width` on the other side."""
        super().__init__(content)
        self.interactions = spec.interactions
        nn.init.ones_(content.layers[-1].bias)  # pyright: ignore - to begin with, it scales by about one
        self.cold = nn.Embedding(size, content.width, padding_idx=UNKNOWN)
        nn.init.zeros_(self.cold.weight)
        mlp = MLP(width, spec.content)
        self.shift = nn.Sequential(mlp, nn.Linear(mlp.out_features, content.width))
        self.register_buffer("mean", torch.zeros(content.width))
        self.register_buffer("audience", torch.zeros(size, width))
        self.register_buffer("counts", torch.zeros(size))

    @property
    def by_id(self) -> tuple[Tensor, ...]:
        """What has a row an id."""
        return self.cold.weight, self.audience, self.counts

    def forward(self, sides: ColdStartInputs) -> Tensor:  # noqa: D102
        seldom = sides.support[:, None] <= self.interactions
        rows = torch.where(sides.support > 0, sides.rows, UNKNOWN)
        return torch.where(seldom, self.warmed(sides._replace(rows=rows)).detach(), sides.own)

    def warmed(self, sides: ColdStartInputs) -> Tensor:
        """(B, dim) the vector, of the ids in `sides.rows` whatever their support."""
        cold = self.mean + self.cold(sides.rows).detach()
        return sides.content * cold + self.shift(self.audience[sides.rows])

    @staticmethod
    def meta_loss(  # noqa: D102
        parts: Mapping[str, "MWUF"], losses: LossesOfRows, rows: Tensor, first: Tensor, scale: float = 1.0
    ) -> Tensor:
        everyone = torch.ones_like(first)
        plain = {name: lambda sides, p=part: p.mean + p.cold(sides.rows) for name, part in parts.items()}
        _, cold = losses(plain, everyone)
        _, warm = losses({name: part.warmed for name, part in parts.items()}, everyone)
        return cold + warm

    @torch.no_grad()
    def observe(self, ids: Tensor, others: Tensor, supports: Tensor, table: Tensor, other: Tensor) -> None:
        """Note who interacts with whom in a batch.

        Args:
            ids: (B,) embedding rows of this worker's rows.
            others: (B,) those of the ids on the other side.
            supports: (B,) training interactions of the entity.
            table: (size, dim) embeddings of the ids.
            other: (n, width) those on the other side.
        """
        known = (ids >= FIRST) & (others >= FIRST)
        ids, supports, vectors = (gather_rows(x[known]) for x in (ids, supports, other[others]))
        seen, places, counts = ids.unique(return_inverse=True, return_counts=True)
        limits = torch.zeros_like(seen).scatter_(0, places, supports)
        means = vectors.new_zeros(len(seen), vectors.shape[1]).index_add_(0, places, vectors) / counts[:, None]
        self.counts[seen] = torch.minimum(self.counts[seen] + counts, limits.to(self.counts.dtype)).clamp(min=1)
        share = (counts / self.counts[seen]).clamp(max=1)[:, None]
        self.audience[seen] += share * (means - self.audience[seen])
        self.audience[UNKNOWN] = other[FIRST:].mean(0)
        self.mean.copy_(table[FIRST:].mean(0))
