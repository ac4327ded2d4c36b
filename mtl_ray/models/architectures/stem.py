"""Shared and task-specific embeddings (Su et al. 2024, AAAI): STEM-Net."""

from collections.abc import Sequence

import torch

from mtl_ray.config.model import STEMConfig
from mtl_ray.models.architectures.base import SHARED, Mixture, ModelOutput, Network, NetworkInput, NetworkSpec, Towers
from mtl_ray.models.architectures.experts import Experts, Gate
from mtl_ray.nn.containers import ModuleDict
from mtl_ray.nn.mlp import width_of


class STEMNetwork(Network):
    """Embedding tables and experts of each task, and shared ones.

    A task's gate sees all experts, but the gradient flows only to its own and the shared ones (all forward,
    task-specific backward).
    """

    def __init__(self, spec: NetworkSpec, settings: STEMConfig) -> None:
        super().__init__()
        tasks = list(spec.outputs)
        numbers = {SHARED: settings.shared_experts} | dict.fromkeys(tasks, settings.task_experts)
        self.experts = ModuleDict({n: Experts(e, spec.width, settings.encoder) for n, e in numbers.items()})
        self.num_shared, total = settings.shared_experts, sum(numbers.values())
        self.gates = ModuleDict({task: Gate(2 * spec.width, total) for task in tasks})
        self.towers = Towers(width_of(settings.encoder, spec.width), spec.outputs, settings.tower)

    @staticmethod
    def sets(tasks: Sequence[str]) -> tuple[str, ...]:
        """Return a set of tables for each task and a shared one."""
        return (SHARED, *tasks)

    def forward(self, inputs: NetworkInput) -> ModelOutput:
        """Share the shared experts' outputs (B, E, d)."""
        outputs = {name: torch.stack(experts(inputs.x[name]), 1) for name, experts in self.experts.items()}
        mixtures = {}
        for task, gate in self.gates.items():
            seen = [output if name in (SHARED, task) else output.detach() for name, output in outputs.items()]
            weights, value = gate(torch.cat([inputs.x[SHARED], inputs.x[task]], 1), torch.cat(seen, 1))
            mixtures[task] = Mixture(weights[:, : self.num_shared], value)
        return self.towers.of_mixtures(mixtures, outputs[SHARED])
