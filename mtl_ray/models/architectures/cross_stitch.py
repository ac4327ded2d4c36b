"""Cross-stitch networks (Misra et al. 2016, CVPR)."""

import itertools
from collections.abc import Sequence

import torch
from torch import nn

from mtl_ray.config.model import CrossStitchConfig
from mtl_ray.models.architectures.base import ModelOutput, Network, NetworkInput, NetworkSpec, Towers
from mtl_ray.nn.mlp import Layer


class CrossStitchNetwork(Network):
    """Units x_t <- sum_s alpha_ts * x_s after every layer, with an alpha for each unit and pair of tasks."""

    def __init__(self, spec: NetworkSpec, settings: CrossStitchConfig) -> None:
        super().__init__()
        num_tasks = len(spec.outputs)
        widths = [spec.width, *settings.encoder.hidden]
        self.layers = nn.ModuleList()
        self.stitches = nn.ParameterList()
        own = settings.self_weight if num_tasks > 1 else 1.0
        start = torch.full((num_tasks, num_tasks), (1 - own) / max(1, num_tasks - 1)).fill_diagonal_(own)
        for i, o in itertools.pairwise(widths):
            self.layers.append(nn.ModuleList(Layer(i, o, settings.encoder) for _ in range(num_tasks)))
            self.stitches.append(nn.Parameter(start[:, :, None].repeat(1, 1, o)))
        self.towers = Towers(widths[-1], spec.outputs, settings.tower)

    @staticmethod
    def sets(tasks: Sequence[str]) -> tuple[str, ...]:
        """Return a set of tables for each task."""
        return tuple(tasks)

    def forward(self, inputs: NetworkInput) -> ModelOutput:
        """Share the activations of the last layer before stitching: (B, T, d)."""
        tasks = list(self.towers.towers)
        x = [inputs.x[task] for task in tasks]
        shared = None
        for layers, alpha in zip(self.layers, self.stitches, strict=True):
            shared = torch.stack([layer(part) for layer, part in zip(layers, x, strict=True)], 1)  # pyright: ignore
            x = list(torch.einsum("bsd,tsd->tbd", shared, alpha))
        return ModelOutput(self.towers(dict(zip(tasks, x, strict=True))), shared)
