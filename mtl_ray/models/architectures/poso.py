"""Personalized cold start modules (Dai et al. 2021)."""

import itertools

from torch import nn

from mtl_ray.config.model import POSOConfig
from mtl_ray.models.architectures.base import SHARED, ModelOutput, Network, NetworkInput, NetworkSpec, Towers
from mtl_ray.models.architectures.gate_unit import GateUnit
from mtl_ray.nn.mlp import Layer


class POSONetwork(Network):
    """POSO(MLP): h = C g(p) * sigma(W x) for every layer of a shared encoder, C = 2, g a gate with sigmoid output.

    p are the profile features. For an entity never seen in training, the gates can close the units that read its id and
    history.
    """

    reads_profile = True

    def __init__(self, spec: NetworkSpec, settings: POSOConfig) -> None:
        super().__init__()
        widths = [spec.width, *settings.encoder.hidden]
        pairs = list(itertools.pairwise(widths))
        self.layers = nn.ModuleList(Layer(i, o, settings.encoder) for i, o in pairs)
        self.gates = nn.ModuleList(GateUnit(spec.profile_features, settings.gate_hidden, o) for _, o in pairs)
        self.towers = Towers(widths[-1], spec.outputs, settings.tower)

    def forward(self, inputs: NetworkInput) -> ModelOutput:
        """Share the encoder's output."""
        x = inputs.x[SHARED]
        for layer, gate in zip(self.layers, self.gates, strict=True):
            x = gate(inputs.profile_features) * layer(x)
        return ModelOutput(self.towers(x), x)
