"""Parts of a user's own, one a union: the tests over a union read them as its member `custom`."""

import torch
from torch import Tensor, nn

from mtl_ray.balancing import Balancer, TaskLosses
from mtl_ray.balancing.base import WeightedTasks
from mtl_ray.config.balancing_base import Space
from mtl_ray.config.base import Section
from mtl_ray.models.architectures.base import SHARED, ModelOutput, Network, NetworkInput, NetworkSpec, Towers


class Wide(Network):
    """One wide layer that all tasks share."""

    class Config(Section):
        """Its settings."""

        width: int = 16

    def __init__(self, spec: NetworkSpec, settings: Config) -> None:
        super().__init__()
        self.layer = nn.Linear(spec.width, settings.width)
        self.towers = Towers(settings.width, spec.outputs, spec.tower)

    def forward(self, inputs: NetworkInput) -> ModelOutput:
        """Share the output of the layer."""
        shared = torch.relu(self.layer(inputs.x[SHARED]))
        return ModelOutput(self.towers(shared), shared)


class Cautious(Balancer):
    """Weights against the norms of the tasks' gradients on the shared representation."""

    gradient_space: Space | None = "representation"

    class Config(Section):
        """Its settings."""

        power: float = 0.5

    def __init__(self, settings: Config, tasks: WeightedTasks) -> None:
        super().__init__()
        self.power, self.relative = settings.power, tasks.relative

    def weights(self, step: TaskLosses) -> Tensor:
        """Divide the declared weights by a power of the norms."""
        norms = step.gramian.diagonal().clamp(min=1e-12).sqrt()
        return self.relative.to(norms.device) / norms**self.power
