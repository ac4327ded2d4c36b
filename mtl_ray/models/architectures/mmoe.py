"""Multi-gate mixture of experts (Ma et al. 2018, KDD)."""

import torch

from mtl_ray.config.model import MMoEConfig
from mtl_ray.models.architectures.base import SHARED, ModelOutput, Network, NetworkInput, NetworkSpec, Towers
from mtl_ray.models.architectures.experts import Experts, Gate
from mtl_ray.nn.containers import ModuleDict
from mtl_ray.nn.mlp import width_of


class MMoENetwork(Network):
    """Shared experts f_i and a gate for each task: y_t = tower_t(sum_i softmax(W_t x)_i f_i(x))."""

    def __init__(self, spec: NetworkSpec, settings: MMoEConfig) -> None:
        super().__init__()
        self.experts = Experts(settings.experts, spec.width, settings.encoder)
        self.gates = ModuleDict({task: Gate(spec.width, settings.experts) for task in spec.outputs})
        self.towers = Towers(width_of(settings.encoder, spec.width), spec.outputs, settings.tower)

    def forward(self, inputs: NetworkInput) -> ModelOutput:
        """Share the experts' outputs (B, E, d)."""
        x = inputs.x[SHARED]
        experts = torch.stack(self.experts(x), 1)
        mixtures = {task: gate(x, experts) for task, gate in self.gates.items()}
        return self.towers.of_mixtures(mixtures, experts)
