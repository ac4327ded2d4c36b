"""The two-tower form of a ranking task."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from mtl_ray.config.model import MLPConfig
from mtl_ray.config.tasks import RankingTaskConfig
from mtl_ray.models.embedding import FeatureEmbeddings
from mtl_ray.nn.containers import ModuleDict
from mtl_ray.nn.mlp import MLP
from mtl_ray.schema import ITEM_SUPPORT
from mtl_ray.tasks.base import UserItemVectors


class TwoTowers(nn.Module):
    """A tower over the user's vectors and one over the item's (Covington et al. 2016; Yi et al. 2019).

    Features of the context are on neither side: a user has one vector for all items, and an item one for all users. The
    layers are those of the other tasks' towers.
    """

    def __init__(self, spec: RankingTaskConfig, inputs: FeatureEmbeddings, layers: MLPConfig) -> None:
        super().__init__()
        _, self.key = inputs.keys
        self.sides = {side: inputs.of_entity(side) for side in ("user", "item")}
        self.towers = ModuleDict()
        for side, names in self.sides.items():
            tower = MLP(sum(inputs.dims[n] for n in names), layers)
            self.towers[side] = nn.Sequential(tower, nn.Linear(tower.out_features, spec.dim))

    def forward(self, vectors: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> UserItemVectors:
        """Return the towers' outputs (B, dim), from the features' vectors (B, ...), with the item of each row."""
        user, item = (
            self.towers[side](torch.cat([vectors[n] for n in names], 1)) for side, names in self.sides.items()
        )
        size = item.shape[0]
        return UserItemVectors(user, item, batch[self.key].expand(size), batch[ITEM_SUPPORT].expand(size))
