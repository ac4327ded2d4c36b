"""Adaptive information transfer multi-task model (Xi et al. 2021, KDD)."""

import math

import torch
import torch.nn.functional as F  # noqa: N812 - its customary name
from torch import nn

from mtl_ray.config.model import AITMConfig
from mtl_ray.models.architectures.base import SHARED, ModelOutput, Network, NetworkInput, NetworkSpec, Towers, in_order
from mtl_ray.nn.containers import ModuleDict
from mtl_ray.nn.mlp import MLP


class AITMNetwork(Network):
    """Adaptive transfer z_t = AIT(g(z_before), q_t): attention over the previous task's vector and the task's own.

    AIT(u_1, u_2) = sum_u w_u h3(u), w = softmax(<h1(u), h2(u)> / sqrt(d)). The calibrator adds
    alpha max(p_t - p_before, 0) for each row, averaged over rows.
    """

    def __init__(self, spec: NetworkSpec, settings: AITMConfig) -> None:
        super().__init__()
        self.after, self.calibrator = spec.after, settings.calibrator
        dim = settings.transfer_dim
        self.encoders = ModuleDict()
        for task in spec.outputs:
            encoder = MLP(spec.width, settings.encoder)
            self.encoders[task] = nn.Sequential(encoder, nn.Linear(encoder.out_features, dim), nn.ReLU())
        self.transfer = ModuleDict({task: nn.Sequential(nn.Linear(dim, dim), nn.ReLU()) for task in self.after})
        self.attention = ModuleDict({task: nn.Linear(dim, 3 * dim) for task in self.after})
        self.towers = Towers(dim, spec.outputs, settings.tower)

    def forward(self, inputs: NetworkInput) -> ModelOutput:
        """Share the embeddings (B, width)."""
        x = inputs.x[SHARED]
        z = {task: encoder(x) for task, encoder in self.encoders.items()}
        for task in in_order(list(z), self.after):
            if task in self.after:
                tokens = torch.stack([self.transfer[task](z[self.after[task]]), z[task]], 1)
                query, key, value = self.attention[task](tokens).chunk(3, -1)
                weights = ((query * key).sum(-1) / math.sqrt(query.shape[-1])).softmax(1)
                z[task] = (weights[..., None] * value).sum(1)
        logits = self.towers(z)
        penalty = None
        if self.after and self.calibrator:
            above = [logits[t].sigmoid() - logits[before].sigmoid() for t, before in self.after.items()]
            penalty = self.calibrator * torch.stack([F.relu(a[:, 0]) for a in above]).sum(0)
        return ModelOutput(logits, x, penalty)
