"""Hard parameter sharing (Caruana 1997): all tasks share an encoder, or its first layers."""

from mtl_ray.config.model import SharedBottomConfig
from mtl_ray.models.architectures.base import SHARED, ModelOutput, Network, NetworkInput, NetworkSpec, Towers
from mtl_ray.nn.containers import ModuleDict
from mtl_ray.nn.mlp import MLP, width_of


class SharedBottomNetwork(Network):
    """The network y_t = tower_t(own_t(encoder(x))), where own_t holds the layers after `shared_layers`.

    If a feature's encoder has layers of each task (a partly shared CNN), x differs by task and nothing above it can be
    shared.
    """

    def __init__(self, spec: NetworkSpec, settings: SharedBottomConfig) -> None:
        super().__init__()
        hidden, k = settings.encoder.hidden, settings.shared_layers
        k = len(hidden) if k is None else k
        self.encoder = MLP(spec.width, settings.encoder, hidden[:k])
        self.own = ModuleDict()
        if hidden[k:]:
            for task in spec.outputs:
                self.own[task] = MLP(self.encoder.out_features, settings.encoder, hidden[k:])
        self.towers = Towers(width_of(settings.encoder, spec.width), spec.outputs, settings.tower)

    def forward(self, inputs: NetworkInput) -> ModelOutput:
        """Share the output of the last shared layer."""
        shared = self.encoder(inputs.x[SHARED]) if SHARED in inputs.x else None
        x = {task: inputs.x[task] if shared is None else shared for task in self.towers.towers}
        if self.own:
            x = {task: self.own[task](part) for task, part in x.items()}
        return ModelOutput(self.towers(x), shared)
