"""Parts of a user's own, one a union: the tests over a union read them as its member `custom`."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa
import torch
from torch import Tensor, nn

from mtl_ray.balancing import Balancer, TaskLosses
from mtl_ray.balancing.base import WeightedTasks
from mtl_ray.config.balancing_base import Space
from mtl_ray.config.base import Section
from mtl_ray.config.data import SyntheticSourceConfig
from mtl_ray.data.sources import Chunk, Raw, Source
from mtl_ray.data.sources.synthetic import open_source
from mtl_ray.evaluation.own_metric import OwnMetric
from mtl_ray.models.architectures.base import SHARED, ModelOutput, Network, NetworkInput, NetworkSpec, Towers
from mtl_ray.nn.own_encoder import EncoderSpec, FeatureEncoder
from mtl_ray.tasks.own_loss import RowLoss
from mtl_ray.training.callbacks import Callback


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


class Plain(FeatureEncoder):
    """A layer over whatever the feature gives: the mean of a list, or all numbers of a row."""

    def __init__(self, spec: EncoderSpec, settings: Section) -> None:
        super().__init__()
        self.is_list = len(spec.shape) == 2
        self.layer = nn.Linear(spec.shape[-1] if self.is_list else math.prod(spec.shape), spec.width)

    def forward(self, x: Tensor, present: Tensor | None = None, query: Tensor | None = None) -> Tensor:
        """Return (B, width)."""
        if present is not None:
            x = torch.where(present[..., None], x, 0).sum(1) / present.sum(1, keepdim=True).clamp(min=1)
        return torch.tanh(self.layer(x.flatten(1)))


class Pinball(RowLoss):
    """The pinball loss, whose best constant is a quantile."""

    class Config(Section):
        """Its settings."""

        quantile: float = 0.5

    def __call__(self, output: Tensor, target: Tensor) -> Tensor:
        """Weigh errors below and above."""
        error, q = target - output, self.settings.quantile
        return torch.maximum(q * error, (q - 1) * error)


class HitShare(OwnMetric):
    """Share of the rows whose prediction is near the label."""

    class Config(Section):
        """Its settings."""

        within: float = 0.5

    def __call__(self, prediction: Tensor, label: Tensor, users: Tensor) -> float:
        """Count them."""
        return float(((prediction - label).abs() <= self.settings.within).double().mean())


@dataclass(frozen=True)
class Part:
    """A chunk of `Synthetic`."""

    file: str
    inner: Chunk

    def read(self) -> Iterator[tuple[int, pa.Table]]:
        """Yield the rows."""
        yield from self.inner.read()


class Synthetic(Source):
    """The generated log, as a source from outside."""

    class Config(Section):
        """Its settings."""

        num_interactions: int = 6000

    def open(self) -> Raw:
        """Open it."""
        inner = open_source(
            SyntheticSourceConfig(num_users=200, num_items=100, num_interactions=self.settings.num_interactions)
        )
        return replace(inner, chunks=[Part(chunk.file, chunk) for chunk in inner.chunks])


class Warmup(Callback):
    """Rests parts of the model in the first epochs, and may end the training."""

    class Config(Section):
        """Its settings."""

        parts: tuple[str, ...] = ()
        epochs: int = 1
        stop_after: int | None = None

    def frozen(self, epoch: int) -> tuple[str, ...]:
        """Rest the parts in the first epochs."""
        return self.settings.parts if epoch < self.settings.epochs else ()

    def on_epoch(self, epoch: int, metrics: Mapping[str, float], model: nn.Module) -> bool:
        """Stop after some epochs."""
        return epoch == self.settings.stop_after


class FailsOnce(Callback):
    """Fails in the second epoch, before its checkpoint, unless a file says that it has done so."""

    class Config(Section):
        """Its settings."""

        mark: str

    def on_epoch(self, epoch: int, metrics: Mapping[str, float], model: nn.Module) -> None:
        """Fail on all workers."""
        mark = Path(f"{self.settings.mark}-{self.rank}")
        if epoch == 2 and not mark.exists():
            mark.touch()
            raise RuntimeError("fails on purpose")
