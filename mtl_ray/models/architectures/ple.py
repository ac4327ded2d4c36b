"""Customized gate control and progressive layered extraction (Tang et al. 2020, RecSys)."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from mtl_ray.config.model import CGCConfig, MLPConfig, PLEConfig
from mtl_ray.models.architectures.base import (
    SHARED,
    Mixture,
    ModelOutput,
    Network,
    NetworkInput,
    NetworkSpec,
    Towers,
    values_of,
)
from mtl_ray.models.architectures.experts import Experts, Gate
from mtl_ray.nn.containers import ModuleDict
from mtl_ray.nn.mlp import width_of


class Level(nn.Module):
    """Experts of each task and shared experts; a task's gate mixes its own and the shared ones, the shared gate all."""

    def __init__(
        self, in_features: int, tasks: list[str], shared: int, own: int, settings: MLPConfig, *, last: bool
    ) -> None:
        super().__init__()
        self.shared = Experts(shared, in_features, settings)
        self.own = ModuleDict({task: Experts(own, in_features, settings) for task in tasks})
        self.gates = ModuleDict({task: Gate(in_features, shared + own) for task in tasks})
        self.shared_gate = None if last else Gate(in_features, shared + own * len(tasks))

    def forward(self, x: Mapping[str, Tensor]) -> tuple[dict[str, Mixture], Tensor]:
        """Return mixtures (B, out_features) by task and `shared`, and the shared experts' outputs (B, E, out_features).

        The last level has no mixture `shared`.

        Args:
            x: (B, in_features) by task and `shared`.
        """
        shared = torch.stack(self.shared(x[SHARED]), 1)
        own = {task: [e[:, None] for e in experts(x[task])] for task, experts in self.own.items()}
        mixed = {task: gate(x[task], torch.cat([*own[task], shared], 1)) for task, gate in self.gates.items()}
        if self.shared_gate is not None:
            everything = [output for outputs in own.values() for output in outputs]
            mixed[SHARED] = self.shared_gate(x[SHARED], torch.cat([*everything, shared], 1))
        return mixed, shared


class PLENetwork(Network):
    """Levels of gated extraction; one level is CGC."""

    def __init__(self, spec: NetworkSpec, settings: CGCConfig | PLEConfig) -> None:
        super().__init__()
        tasks, width = list(spec.outputs), spec.width
        self.levels = nn.ModuleList()
        for number in range(settings.levels):
            level = Level(
                width,
                tasks,
                settings.shared_experts,
                settings.task_experts,
                settings.encoder,
                last=number == settings.levels - 1,
            )
            self.levels.append(level)
            width = width_of(settings.encoder, width)
        self.num_shared = settings.shared_experts
        self.towers = Towers(width, spec.outputs, settings.tower)

    def forward(self, inputs: NetworkInput) -> ModelOutput:
        """Share the outputs of the last level's shared experts (B, E, d)."""
        x = dict.fromkeys((*self.towers.towers, SHARED), inputs.x[SHARED])
        mixtures, shared = {}, None
        for level in self.levels:
            mixtures, shared = level(x)
            x = values_of(mixtures)
        mixtures = {task: Mixture(weights[:, -self.num_shared :], value) for task, (weights, value) in mixtures.items()}
        return self.towers.of_mixtures(mixtures, shared)
