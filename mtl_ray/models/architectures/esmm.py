"""Entire space multi-task model (Ma et al. 2018, SIGIR)."""

import torch
from torch import Tensor

from mtl_ray.config.model import ESMMConfig
from mtl_ray.models.architectures.base import SHARED, ModelOutput, Network, NetworkInput, NetworkSpec, Towers, in_order
from mtl_ray.nn.containers import ModuleDict
from mtl_ray.nn.mlp import MLP, width_of


class ESMMNetwork(Network):
    """Probabilities P(t) = P(t | before) P(before) over the entire space; the tasks share only the embeddings."""

    def __init__(self, spec: NetworkSpec, settings: ESMMConfig) -> None:
        super().__init__()
        self.after = spec.after
        self.encoders = ModuleDict({task: MLP(spec.width, settings.encoder) for task in spec.outputs})
        self.towers = Towers(width_of(settings.encoder, spec.width), spec.outputs, settings.tower)

    def forward(self, inputs: NetworkInput) -> ModelOutput:
        """Share the embeddings (B, width)."""
        x = inputs.x[SHARED]
        logits = self.towers({task: encoder(x) for task, encoder in self.encoders.items()})
        for task in in_order(list(logits), self.after):
            if task in self.after:
                logits[task] = log_odds_of_product(logits[task], logits[self.after[task]])
        return ModelOutput(logits, x)


def log_odds_of_product(first: Tensor, second: Tensor) -> Tensor:
    """Return the log-odds of p = sigmoid(a) sigmoid(b), without overflow: (1 - p) / p = e^-a + e^-b + e^-(a + b)."""
    return -torch.logsumexp(torch.stack([-first, -second, -first - second]), 0)
