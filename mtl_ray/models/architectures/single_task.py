"""A separate network for each task: the baseline that every way of sharing has to beat."""

from collections.abc import Sequence

from mtl_ray.config.model import SingleTaskConfig, SoftSharingConfig
from mtl_ray.models.architectures.base import ModelOutput, Network, NetworkInput, NetworkSpec, Towers
from mtl_ray.nn.containers import ModuleDict
from mtl_ray.nn.mlp import MLP, width_of


class SingleTaskNetwork(Network):
    """The networks y_t = tower_t(encoder_t(x_t)), with embedding tables for each task."""

    def __init__(self, spec: NetworkSpec, settings: SingleTaskConfig | SoftSharingConfig) -> None:
        super().__init__()
        self.encoders = ModuleDict({task: MLP(spec.width, settings.encoder) for task in spec.outputs})
        self.towers = Towers(width_of(settings.encoder, spec.width), spec.outputs, settings.tower)

    @staticmethod
    def sets(tasks: Sequence[str]) -> tuple[str, ...]:
        """Return a set of tables for each task."""
        return tuple(tasks)

    def forward(self, inputs: NetworkInput) -> ModelOutput:
        """Share nothing."""
        return ModelOutput(
            self.towers({task: encoder(inputs.x[task]) for task, encoder in self.encoders.items()}), None
        )
