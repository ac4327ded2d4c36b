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

    + is concatenation, sg stops the gradient. Deviation: p are the profile features, in place of the paper's domain
    side information and its ids of user, item and author.
    """

    reads_profile = True

    def __init__(self, spec: NetworkSpec, settings: PEPNetConfig) -> None:
        super().__init__()
        joined, gate = spec.profile_features + spec.width, settings.gate_hidden
        self.embedding_gate = GateUnit(joined, gate, spec.width)
        widths = [spec.width, *settings.encoder.hidden]
        self.layers, self.gates = ModuleDict(), ModuleDict()
        for task in spec.outputs:
            pairs = list(itertools.pairwise(widths))
            self.layers[task] = nn.ModuleList(Layer(i, o, settings.encoder) for i, o in pairs)
            self.gates[task] = nn.ModuleList(GateUnit(joined, gate, o) for _, o in pairs)
        self.towers = Towers(widths[-1], spec.outputs, settings.tower)

    def forward(self, inputs: NetworkInput) -> ModelOutput:
        """Share the gated embeddings (B, width)."""
        x = inputs.x[SHARED]
        x = self.embedding_gate(torch.cat([inputs.profile_features, x.detach()], 1)) * x
        gate_input = torch.cat([inputs.profile_features, x.detach()], 1)
        hidden = {}
        for task, layers in self.layers.items():
            h = x
            for layer, gate in zip(layers, self.gates[task], strict=True):  # pyright: ignore[reportArgumentType]
                h = gate(gate_input) * layer(h)
            hidden[task] = h
        return ModelOutput(self.towers(hidden), x)
