"""The base of every architecture: what it reads and what it returns."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import torch
from torch import Tensor, nn

from mtl_ray.config.model import MLPConfig
from mtl_ray.nn.containers import ModuleDict
from mtl_ray.nn.mlp import MLP
from mtl_ray.tasks.base import UserItemVectors

SHARED = "shared"
"""Name of the set of embedding tables that all tasks read; a task's own set has the task's name."""


class ModelOutput(NamedTuple):
    """The outputs of a forward pass.

    Example:
        >>> outputs = ModelOutput({"click": torch.zeros(2, 1)}, shared=torch.ones(2, 4))
        >>> outputs.plus({"click": torch.ones(2, 1)}).logits["click"].tolist()
        [[1.0], [1.0]]
    """

    logits: dict[str, Tensor]
    """(B, num_outputs) by task."""
    shared: Tensor | None
    """(B, ...) the representation that all tasks share, on which gradient-based balancers compare the tasks' gradients:
    the last tensor of the architecture on which every task depends; None if there is no such tensor."""
    penalty: Tensor | None = None
    """(B,) terms that the rows add to the loss beside the tasks' losses; None if there are none."""
    pairs: Mapping[str, UserItemVectors] = MappingProxyType({})
    """User and item vectors by ranking task; `logits` has their dot product."""
    mixtures: "Mapping[str, Mixture]" = MappingProxyType({})
    """The only part of `shared` that a task reads, by task, if that is a mixture of E vectors (B, E, d)."""
    parts: "tuple[ModelOutput, ...]" = ()
    """The passes over micro-batches that were joined, if there were several."""

    def plus(self, terms: Mapping[str, Tensor]) -> "ModelOutput":
        """Return it with (B, 1) terms, by task, added to the outputs of their tasks."""
        return self._replace(logits=self.logits | {task: self.logits[task] + term for task, term in terms.items()})

    @classmethod
    def of_micro_batches(cls, parts: "Sequence[ModelOutput]") -> "ModelOutput":
        """Join the passes over consecutive rows."""
        first = parts[0]
        return cls(
            {task: torch.cat([part.logits[task] for part in parts]) for task in first.logits},
            None if first.shared is None else torch.cat([part.shared for part in parts]),  # pyright: ignore
            None if first.penalty is None else torch.cat([part.penalty for part in parts]),  # pyright: ignore
            parts=tuple(parts),
        )


class Mixture(NamedTuple):
    """A gate's mixture of experts' outputs."""

    weights: Tensor
    """(B, E) weights of the experts that tasks share."""
    value: Tensor
    """(B, d) sum_e weights_e x_e over those, plus any other terms."""


def values_of(mixtures: Mapping[str, Mixture]) -> dict[str, Tensor]:
    """Return the mixed vectors (B, d) by task."""
    return {task: mixture.value for task, mixture in mixtures.items()}


class NetworkInput(NamedTuple):
    """The inputs of a network.

    Example:
        >>> NetworkInput({SHARED: torch.ones(2, 8)}, torch.ones(2, 0)).x[SHARED].shape
        torch.Size([2, 8])
    """

    x: dict[str, Tensor]
    """(B, width) by set of embedding tables: `shared`, or the name of a task."""
    profile_features: Tensor
    """(B, width) attributes of the user and the item and how often each was seen in training; (B, 0) for a network that
    does not read them."""


class NetworkSpec(NamedTuple):
    """The sizes from which a network is built.

    Example:
        >>> NetworkSpec(width=8, profile_features=0, outputs={"click": 1, "buy": 1}, after={"buy": "click"}).width
        8
    """

    width: int
    """Width of the input of each set of tables."""
    profile_features: int
    """Width of `NetworkInput.profile_features`."""
    outputs: dict[str, int]
    """Width of each task's output."""
    after: dict[str, str]
    """The task that precedes another in a chain, by the name of the latter."""
    encoder: MLPConfig = MLPConfig(hidden=(128, 64))
    """The layers of `model.encoder`, for a network whose own settings do not say."""
    tower: MLPConfig = MLPConfig(hidden=(32,))
    """Those of `model.tower`."""


class Towers(nn.Module):
    """A tower and an output layer for each task.

    Args:
        in_features: width of what the towers read.
        outputs: width of each task's output.
        settings: layers of each tower; none for the output layer alone.

    Example:
        >>> towers = Towers(8, {"click": 1, "topic": 5}, MLPConfig(hidden=(4,)))
        >>> {task: tuple(outputs.shape) for task, outputs in towers(torch.ones(2, 8)).items()}
        {'click': (2, 1), 'topic': (2, 5)}
    """

    def __init__(self, in_features: int, outputs: Mapping[str, int], settings: MLPConfig) -> None:
        super().__init__()
        self.towers = ModuleDict()
        for task, width in outputs.items():
            tower = MLP(in_features, settings)
            self.towers[task] = nn.Sequential(tower, nn.Linear(tower.out_features, width))

    def forward(self, x: Tensor | Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return (B, num_outputs) by task, from (B, in_features) for all tasks or by task."""
        return {task: tower(x if isinstance(x, Tensor) else x[task]) for task, tower in self.towers.items()}

    def of_mixtures(self, mixtures: Mapping[str, Mixture], shared: Tensor | None) -> ModelOutput:
        """Return the output of a network whose tasks each read a mixture of `shared`, (B, E, in_features)."""
        return ModelOutput(self(values_of(mixtures)), shared, mixtures=mixtures)


class Network(nn.Module, ABC):
    """An architecture: a network from the inputs to each task's outputs.

    It is made of a `NetworkSpec` and its settings. In `towers` it has the output layers, a `Towers`, so that each task
    can start from a suitable output; without them all start from 0.

    Example:
        >>> class Linear(Network):
        ...     def __init__(self, spec, settings=None):
        ...         super().__init__()
        ...         self.towers = Towers(spec.width, spec.outputs, MLPConfig(hidden=()))
        ...
        ...     def forward(self, inputs):
        ...         return ModelOutput(self.towers(inputs.x[SHARED]), inputs.x[SHARED])
        >>> network = Linear(NetworkSpec(width=8, profile_features=0, outputs={"click": 1}, after={}))
        >>> network(NetworkInput({SHARED: torch.ones(2, 8)}, torch.ones(2, 0))).logits["click"].shape
        torch.Size([2, 1])
    """

    reads_profile = False
    """True if it reads `NetworkInput.profile_features`."""
    needs_dense_tables = False
    """True if `penalty` has a gradient on every row of the embedding tables."""

    @staticmethod
    def sets(tasks: Sequence[str]) -> tuple[str, ...]:
        """Return the sets of embedding tables that it reads: one for all tasks by default."""
        return (SHARED,)

    @abstractmethod
    def forward(self, inputs: NetworkInput) -> ModelOutput:
        """See `NetworkInput` and `ModelOutput`."""

    def penalty(self, tables: Sequence[nn.Module]) -> Tensor | None:
        """Return a scalar to add to the loss, from the parameters alone; None without such a term.

        Args:
            tables: the inputs of each set of embedding tables, in the order of `sets`.
        """
        return None


def in_order(tasks: list[str], after: dict[str, str]) -> list[str]:
    """Return the tasks, each behind the one that precedes it."""

    def depth(task: str) -> int:
        return 1 + depth(after[task]) if task in after else 0

    return sorted(tasks, key=depth)
