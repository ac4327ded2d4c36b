"""Numbers of the user and of the item that go straight to the outputs, shrunken where there are few training rows."""

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn

from mtl_ray.config.feature_base import FeatureSection, key_of
from mtl_ray.config.tasks import TaskConfig
from mtl_ray.config.training import is_sparse
from mtl_ray.config.visibility import hidden_by
from mtl_ray.models.cold_start.base import known_support
from mtl_ray.nn.containers import ModuleDict
from mtl_ray.schema import PADDING, FittedFeature


class IdBias(nn.Module):
    """A bias of each id for each task: y_t += b_t n / (n + k), with b = 0 at the start.

    n is the number of the id's training rows, 0 for a hidden or unknown id. These are the baselines of users and items
    of matrix factorisation (Koren et al. 2009), weighted by their credibility (Bühlmann 1967). In training n counts the
    row itself: the bias of an id with a single row would otherwise learn nothing.

    k is a setting: trained by the loss on the same rows it runs to 0, since that fits them best. A task with
    `masked_input` has no bias of the id that it does not see.
    """

    def __init__(
        self, key: str, entity: str, tasks: Sequence[str], size: int, prior: float = 10.0, *, sparse: bool = False
    ) -> None:
        """Build it for an id.

        Args:
            key: name of the id feature.
            entity: whose id it is, `user` or `item`.
            tasks: names of the tasks with a bias.
            size: embedding rows of the id.
            prior: k, in training rows.
            sparse: true if the table is trained row by row.
        """
        super().__init__()
        self.key, self.entity, self.tasks, self.prior = key, entity, list(tasks), prior
        self.table = nn.Embedding(size, len(self.tasks), padding_idx=PADDING, sparse=sparse)
        nn.init.zeros_(self.table.weight)

    def forward(self, batch: Mapping[str, Tensor], hidden: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return (B, 1) by task, from encoded columns; `hidden` has the rows in which an input is hidden."""
        support = known_support(batch, hidden, self.key, self.entity)
        bias = self.table(torch.where(support > 0, batch[self.key], PADDING))
        number = support.to(bias.dtype)[:, None]
        shrunken = bias * (number / (number + self.prior))
        return dict(zip(self.tasks, shrunken.split(1, dim=1), strict=True))


def id_biases(
    features: Mapping[str, FeatureSection],
    tasks: Mapping[str, TaskConfig],
    fitted: Mapping[str, FittedFeature],
    prior: float,
    sparse_rows: int | None,
) -> ModuleDict:
    """Build the biases by id feature; an id that is no input has none.

    Args:
        features: the sections of all features, by name.
        tasks: the sections of all tasks, by name.
        fitted: what `prepare` found in the features, by name.
        prior: see `IdBias`.
        sparse_rows: see `is_sparse`.
    """
    directed = {task: hidden_by(features, task, spec) for task, spec in tasks.items() if spec.has_direction}
    built = {}
    for entity in ("user", "item"):
        key = key_of(features, entity)
        own = [task for task, hidden in directed.items() if key not in hidden]
        if features[key].is_input and own:
            size = fitted[key].num_embeddings or 0
            built[key] = IdBias(key, entity, own, size, prior, sparse=is_sparse(size, sparse_rows))
    return ModuleDict(built)


def bias_tables(model: nn.Module) -> Iterator[Tensor]:
    """Yield the tables of biases: weight decay does not pull at them, as the numbers of rows shrink them."""
    for module in model.modules():
        if isinstance(module, IdBias):
            yield module.table.weight
