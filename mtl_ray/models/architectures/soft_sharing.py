"""Soft parameter sharing (Duong et al. 2015, ACL): one network a task, tied by a penalty."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mtl_ray.config.model import SoftSharingConfig
from mtl_ray.models.architectures.base import NetworkSpec
from mtl_ray.models.architectures.single_task import SingleTaskNetwork


class SoftSharingNetwork(SingleTaskNetwork):
    """`SingleTaskNetwork` with the penalty lambda sum_{s<t} ||theta_s - theta_t||^2 (Duong et al. 2015).

    It ties the tasks' encoders and their embedding tables.
    """

    def __init__(self, spec: NetworkSpec, settings: SoftSharingConfig) -> None:
        super().__init__(spec, settings)
        self.strength = settings.strength

    def penalty(self, tables: Sequence[nn.Module]) -> Tensor:  # noqa: D102
        return self.strength * (pairwise_distance(list(self.encoders.values())) + pairwise_distance(tables))


def pairwise_distance(modules: Sequence[nn.Module]) -> Tensor:
    """Return the sum, over pairs of modules of one shape, of the squared distance of their parameters: a scalar.

    It is computed as sum_{s<t} ||a_s - a_t||^2 = T sum_t ||a_t - mean||^2.
    """
    total = torch.zeros(())
    for group in zip(*(m.parameters() for m in modules), strict=True):
        stacked = torch.stack(group)
        total = total.to(stacked) + len(group) * (stacked - stacked.mean(0)).square().sum()
    return total
