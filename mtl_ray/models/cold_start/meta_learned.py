"""Cold-start methods with a loss of their own: generated and warmed-up embeddings."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from mtl_ray.config import cold_start as settings
from mtl_ray.distributed import gather_rows, gather_rows_with_gradient
from mtl_ray.models.cold_start.base import ColdStartInputs, Content, LossesOfRows, MetaLearnedColdStart
from mtl_ray.nn.mlp import MLP
from mtl_ray.schema import FIRST, UNKNOWN


class MetaEmbedding(MetaLearnedColdStart):
    """The embedding e of a known id and the generated c(x) for any other (Meta-Embedding, Pan et al. 2019, SIGIR)."""

    def __init__(self, content: Content, spec: settings.MetaEmbeddingConfig) -> None:
        super().__init__(content)
        self.spec = spec

    def forward(self, inputs: ColdStartInputs) -> Tensor:  # noqa: D102
        return torch.where(inputs.support[:, None] > 0, inputs.own, inputs.content.detach())

    @staticmethod
    def meta_loss(
        parts: Mapping[str, "MetaEmbedding"], losses: LossesOfRows, rows: Tensor, first: Tensor, scale: float = 1.0
    ) -> Tensor:
        """Return alpha l_a + (1 - alpha) l_b, which trains the generator c(x) of id embeddings.

        l_a is the loss of a first half of the rows with the generated embedding phi. One step on an entity's rows among
        them gives phi' = phi - step * (mean gradient of their losses on phi), and l_b is the loss of the other half
        with phi'. The gradient goes through the step, second derivatives included.

        Deviations: the paper draws two batches of K rows of one entity, and trains the generator after everything else.
        Here the rows of an entity are those in the global batch, whichever worker holds them; an entity without a row
        in the first half takes no step; and the generator learns beside the model, of which it sees a fixed copy.
        """
        part = next(iter(parts.values()))
        like = next(part.parameters())
        shifts = {name: like.new_zeros(len(rows), part.content.width, requires_grad=True) for name in parts}

        def loss(chosen: Tensor) -> tuple[Tensor, Tensor]:
            return losses({name: lambda inputs, s=shift: inputs.content + s for name, shift in shifts.items()}, chosen)

        total, cold = loss(first)
        gradients = torch.autograd.grad(total * scale, list(shifts.values()), create_graph=True, materialize_grads=True)
        same = (rows[:, None] == gather_rows(rows)) & gather_rows(first)
        share = (same / same.sum(1, keepdim=True).clamp(min=1)).to(total.dtype)
        steps = [part.spec.step * (share @ gather_rows_with_gradient(gradient)) / scale for gradient in gradients]
        shifts = {name: -step for name, step in zip(parts, steps, strict=True)}
        _, warm = loss(~first)
        return part.spec.alpha * cold + (1 - part.spec.alpha) * warm


class MWUF(MetaLearnedColdStart):
    """The vector s(x) * e' + t(a) for ids with few training interactions, e for others (Zhu et al. 2021, SIGIR).

    e' is a second, cold embedding of the id that starts as the mean of all ids' embeddings. s scales it by the
    attributes; t shifts it by a, the mean embedding of the entities that have interacted with this one. For an unseen
    id, e' is the mean and a is the mean over everybody. As in the paper, e' learns from the loss with e' alone, s and t
    from the loss with the warmed-up vector, both under a fixed model.

    Deviations: the paper does this after everything else is trained; here it happens beside. Since the mean embeddings
    move, e' is stored as its difference from the mean of the ids, and a is a running mean over about one epoch.
    """

    mean: Tensor
    """(dim,) mean of all ids' embeddings."""
    audience: Tensor
    """(size, width) mean embedding of those who have interacted with each id; over everybody for an unseen id."""
    counts: Tensor
    """(size,) rows of each id seen so far, at most those of an epoch."""

    def __init__(self, content: Content, spec: settings.MWUFConfig, size: int, width: int) -> None:
        """Build it for `size` ids, with embeddings of `width` on the other side."""
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

    @classmethod
    def build(  # noqa: D102
        cls, content: Content, spec: settings.MWUFConfig, table: nn.Embedding, other: nn.Embedding | None
    ) -> "MWUF":
        assert other is not None, "check_cold_start"
        return cls(content, spec, table.num_embeddings, other.embedding_dim)

    @property
    def by_id(self) -> tuple[Tensor, ...]:
        """Tensors with one row per id."""
        return self.cold.weight, self.audience, self.counts

    def forward(self, inputs: ColdStartInputs) -> Tensor:  # noqa: D102
        seldom = inputs.support[:, None] <= self.interactions
        rows = torch.where(inputs.support > 0, inputs.rows, UNKNOWN)
        return torch.where(seldom, self.warmed(inputs._replace(rows=rows)).detach(), inputs.own)

    def warmed(self, inputs: ColdStartInputs) -> Tensor:
        """Return the (B, dim) warmed-up vectors of the ids in `inputs.rows`, whatever their support."""
        cold = self.mean + self.cold(inputs.rows).detach()
        return inputs.content * cold + self.shift(self.audience[inputs.rows])

    @staticmethod
    def meta_loss(  # noqa: D102
        parts: Mapping[str, "MWUF"], losses: LossesOfRows, rows: Tensor, first: Tensor, scale: float = 1.0
    ) -> Tensor:
        everyone = torch.ones_like(first)
        plain = {name: lambda inputs, p=part: p.mean + p.cold(inputs.rows) for name, part in parts.items()}
        _, cold = losses(plain, everyone)
        _, warm = losses({name: part.warmed for name, part in parts.items()}, everyone)
        return cold + warm

    @torch.no_grad()
    def update_statistics(self, ids: Tensor, others: Tensor, supports: Tensor, table: Tensor, other: Tensor) -> None:
        """Update the running means from the pairs of ids in a batch.

        Args:
            ids: (B,) embedding rows of this worker's rows.
            others: (B,) embedding rows of the ids on the other side.
            supports: (B,) training interactions of the entity.
            table: (size, dim) embeddings of the ids.
            other: (n, width) embeddings of the ids on the other side.
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
