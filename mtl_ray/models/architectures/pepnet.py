"""Parameter and embedding personalized network (Chang et al. 2023, KDD)."""

import itertools

import torch
from torch import nn

from mtl_ray.config.model import PEPNetConfig
from mtl_ray.models.architectures.base import SHARED, ModelOutput, Network, NetworkInput, NetworkSpec, Towers
from mtl_ray.models.architectures.gate_unit import GateUnit
from mtl_ray.nn.containers import ModuleDict
from mtl_ray.nn.mlp import Layer


class PEPNetNetwork(Network):
    """EPNet: x' = gate(p + sg(x)) * x. PPNet: every layer of every task is scaled by gate_tl(p + sg(x')).

    + is concatenation, sg stops the gradient. Deviation: the paper's domain side information and its ids of user, item
    and author are one prior p here.
    """

    reads_prior = True

    def __init__(self, sizes: NetworkSpec, settings: PEPNetConfig) -> None:
        super().__init__()
        joined, gate = sizes.prior + sizes.width, settings.gate_hidden
        self.embedding_gate = GateUnit(joined, gate, sizes.width)
        widths = [sizes.width, *settings.encoder.hidden]
        self.layers, self.gates = ModuleDict(), ModuleDict()
        for task in sizes.outputs:
            pairs = list(itertools.pairwise(widths))
            self.layers[task] = nn.ModuleList(Layer(i, o, settings.encoder) for i, o in pairs)
            self.gates[task] = nn.ModuleList(GateUnit(joined, gate, o) for _, o in pairs)
        self.towers = Towers(widths[-1], sizes.outputs, settings.tower)

    def forward(self, inputs: NetworkInput) -> ModelOutput:
        """The gated embeddings (B, width) are what the tasks share."""
        x = inputs.x[SHARED]
        x = self.embedding_gate(torch.cat([inputs.prior, x.detach()], 1)) * x
        prior = torch.cat([inputs.prior, x.detach()], 1)
        hidden = {}
        for task, layers in self.layers.items():
            h = x
            for layer, gate in zip(layers, self.gates[task], strict=True):  # pyright: ignore[reportArgumentType]
                h = gate(prior) * layer(h)
            hidden[task] = h
        return ModelOutput(self.towers(hidden), x)
