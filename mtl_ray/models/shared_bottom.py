"""Hard parameter sharing (Caruana 1997): one encoder for all tasks, one tower a task."""

from torch import Tensor, nn

from mtl_ray.experiment.model import SharedBottom
from mtl_ray.models.layers import MLP, Forward


class SharedBottomNetwork(nn.Module):
    """From the concatenated inputs to each task's outputs."""

    def __init__(self, in_features: int, num_outputs: dict[str, int], settings: SharedBottom) -> None:
        super().__init__()
        self.encoder = MLP(in_features, settings.encoder)
        self.towers = nn.ModuleDict()
        for task, outputs in num_outputs.items():
            tower = MLP(self.encoder.out_features, settings.tower)
            self.towers[task] = nn.Sequential(tower, nn.Linear(tower.out_features, outputs))

    def forward(self, x: Tensor) -> Forward:
        """(B, in_features) to (B, num_outputs) by task; shared is the encoder's output."""
        shared = self.encoder(x)
        return Forward({task: tower(shared) for task, tower in self.towers.items()}, shared)
