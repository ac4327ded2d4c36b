"""Numbers of the user and of the item that go straight to the outputs, shrunken where there are few training rows."""

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from mtl_ray.config import Experiment
from mtl_ray.config.visibility import hidden_by
from mtl_ray.models.cold_start.base import known_support
from mtl_ray.nn.containers import ModuleDict
from mtl_ray.schema import PADDING, Schema


class IdBias(nn.Module):
    """A bias of each id for each task: y_t += b_t n / (n + k), with b = 0 at the start.

    n is the number of the id's training rows, 0 for a hidden or unknown id. These are the baselines of users and items
    of matrix factorisation (Koren et al. 2009), weighted by their credibility (Bühlmann 1967). In training n counts the
    row itself: the bias of an id with a single row would otherwise learn nothing.

    k is a setting: trained by the loss on the same rows it runs to 0, since that fits them best. A task with
    `masked_input` has no bias of the id that it does not see.
    """

    def __init__(self, experiment: Experiment, schema: Schema, key: str) -> None:
        """Build it for the id feature `key`."""
        super().__init__()
        self.key, self.entity, self.prior = key, experiment.features[key].entity, experiment.model.id_bias_prior
        tasks = [task for task, spec in experiment.tasks.items() if spec.has_direction]
        self.tasks = [task for task in tasks if key not in hidden_by(experiment, task)]
        size = schema.features[key].num_embeddings or 0
        sparse = experiment.training.is_sparse(size)
        self.table = nn.Embedding(size, len(self.tasks), padding_idx=PADDING, sparse=sparse)
        nn.init.zeros_(self.table.weight)

    def forward(self, batch: Mapping[str, Tensor], hidden: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return (B, 1) by task, from encoded columns; `hidden` has the rows in which an input is hidden."""
        support = known_support(batch, hidden, self.key, self.entity)
        bias = self.table(torch.where(support > 0, batch[self.key], PADDING))
        number = support.to(bias.dtype)[:, None]
        shrunken = bias * (number / (number + self.prior))
        return dict(zip(self.tasks, shrunken.split(1, dim=1), strict=True))


def id_biases(experiment: Experiment, schema: Schema) -> ModuleDict:
    """Build the biases that `model.id_bias` asks for, by id feature; an id that is no input has none."""
    keys = [key for key in (experiment.user, experiment.item) if experiment.features[key].is_input]
    built = {key: IdBias(experiment, schema, key) for key in keys if experiment.model.id_bias}
    return ModuleDict({key: bias for key, bias in built.items() if bias.tasks})


def bias_tables(model: nn.Module) -> Iterator[Tensor]:
    """Yield the tables of biases: weight decay does not pull at them, as the numbers of rows shrink them."""
    for module in model.modules():
        if isinstance(module, IdBias):
            yield module.table.weight
