"""Adaptive task-to-task fusion (Li et al. 2023, KDD), the variant AdaTT-sp."""

import torch
from torch import Tensor, nn

from mtl_ray.config.model import AdaTTConfig, MLPConfig
from mtl_ray.models.architectures.base import SHARED, Mixture, ModelOutput, Network, NetworkInput, NetworkSpec, Towers
from mtl_ray.models.architectures.experts import Experts, Gate
from mtl_ray.nn.mlp import width_of


class FusionLevel(nn.Module):
    """Experts and a fusion unit for each task: a gate over all experts plus a linear fusion of its own (residual)."""

    def __init__(self, in_features: int, num_tasks: int, own: int, settings: MLPConfig) -> None:
        super().__init__()
        self.experts = nn.ModuleList(Experts(own, in_features, settings) for _ in range(num_tasks))
        self.gates = nn.ModuleList(Gate(in_features, own * num_tasks) for _ in range(num_tasks))
        self.native = nn.Parameter(torch.full((num_tasks, own), 1.0 / own))

    def forward(self, x: list[Tensor]) -> tuple[list[Mixture], Tensor]:
        """Return (B, out_features) by task, and all experts' outputs (B, E, out_features).

        Args:
            x: (B, in_features) by task.
        """
        outputs = [torch.stack(experts(part), 1) for experts, part in zip(self.experts, x, strict=True)]
        every = torch.cat(outputs, 1)
        own, native = every.split(outputs[0].shape[1], 1), torch.block_diag(*self.native[:, None])
        fused = []
        for gate, part, mine, weights, row in zip(self.gates, x, own, self.native, native, strict=True):
            mixture = gate(part, every)
            value = mixture.value + torch.einsum("bed,e->bd", mine, weights)
            fused.append(Mixture(mixture.weights + row, value))
        return fused, every


class AdaTTNetwork(Network):
    """Levels of f_t = sum_i softmax(W_t x_t)_i e_i + sum_j v_tj e_tj: e are all experts, e_t those of the task."""

    def __init__(self, spec: NetworkSpec, settings: AdaTTConfig) -> None:
        super().__init__()
        width, num_tasks = spec.width, len(spec.outputs)
        self.levels = nn.ModuleList()
        for _ in range(settings.levels):
            level = FusionLevel(width, num_tasks, settings.task_experts, settings.encoder)
            self.levels.append(level)
            width = width_of(settings.encoder, width)
        self.towers = Towers(width, spec.outputs, settings.tower)

    def forward(self, inputs: NetworkInput) -> ModelOutput:
        """Share all experts' outputs of the last level (B, E, d)."""
        tasks = list(self.towers.towers)
        x = [inputs.x[SHARED]] * len(tasks)
        fused, shared = [], None
        for level in self.levels:
            fused, shared = level(x)
            x = [mixture.value for mixture in fused]
        return self.towers.of_mixtures(dict(zip(tasks, fused, strict=True)), shared)
