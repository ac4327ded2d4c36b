"""What every architecture reads and returns."""

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
    """What a forward pass gives."""

    logits: dict[str, Tensor]
    """(B, num_outputs) by task."""
    shared: Tensor | None
    """(B, ...) the representation that all tasks share, of which gradient-based balancers compare the tasks' gradients:
    the last tensor of the architecture on which every task depends; None where tasks have no such tensor."""
    penalty: Tensor | None = None
    """(B,) what each row adds to the loss beside the tasks' losses; None where the architecture has no such term."""
    pairs: Mapping[str, UserItemVectors] = MappingProxyType({})
    """By ranking task, the vectors of the users and the items, whose dot product is in `logits`."""
    mixtures: "Mapping[str, Mixture]" = MappingProxyType({})
    """By task, what alone it reads of `shared`, where that is a mixture of E vectors (B, E, d)."""
    parts: "tuple[ModelOutput, ...]" = ()
    """The passes over micro-batches that were put together, if there were several."""

    @classmethod
    def of_micro_batches(cls, parts: "Sequence[ModelOutput]") -> "ModelOutput":
        """The passes over consecutive rows as one."""
        first = parts[0]
        return cls(
            {task: torch.cat([part.logits[task] for part in parts]) for task in first.logits},
            None if first.shared is None else torch.cat([part.shared for part in parts]),  # pyright: ignore
            None if first.penalty is None else torch.cat([part.penalty for part in parts]),  # pyright: ignore
            parts=tuple(parts),
        )


class Mixture(NamedTuple):
    """What a gate makes of experts' outputs."""

    weights: Tensor
    """(B, E) of the experts that tasks share."""
    value: Tensor
    """(B, d) sum_e weights_e x_e of those, and what else there is."""


def values_of(mixtures: Mapping[str, Mixture]) -> dict[str, Tensor]:
    """The mixed vectors (B, d) by task."""
    return {task: mixture.value for task, mixture in mixtures.items()}


class NetworkInput(NamedTuple):
    """What a network reads."""

    x: dict[str, Tensor]
    """(B, width) by set of embedding tables: `shared`, or the name of a task."""
    profile_features: Tensor
    """(B, width) attributes of the user and the item and how often each was seen in training; (B, 0) for a network that
    does not read them."""


class NetworkSpec(NamedTuple):
    """What a network is built for."""

    width: int
    """Width of the input of each set of tables."""
    profile_features: int
    """Width of `NetworkInput.profile_features`."""
    outputs: dict[str, int]
    """Width of each task's output."""
    after: dict[str, str]
    """By task the task that comes before it in a chain."""


class Towers(nn.Module):
    """A tower and an output layer for each task."""

    def __init__(self, in_features: int, outputs: Mapping[str, int], settings: MLPConfig) -> None:
        super().__init__()
        self.towers = ModuleDict()
        for task, width in outputs.items():
            tower = MLP(in_features, settings)
            self.towers[task] = nn.Sequential(tower, nn.Linear(tower.out_features, width))

    def forward(self, x: Tensor | Mapping[str, Tensor]) -> dict[str, Tensor]:
        """(B, in_features), one for all tasks or one a task, to (B, num_outputs) by task."""
        return {task: tower(x if isinstance(x, Tensor) else x[task]) for task, tower in self.towers.items()}

    def of_mixtures(self, mixtures: Mapping[str, Mixture], shared: Tensor | None) -> ModelOutput:
        """What a network gives whose tasks each read a mixture of the vectors `shared` (B, E, in_features)."""
        return ModelOutput(self(values_of(mixtures)), shared, mixtures=mixtures)


class Network(nn.Module, ABC):
    """An architecture: from the inputs to each task's outputs."""

    reads_profile = False
    """Whether it reads `NetworkInput.profile_features`."""

    @staticmethod
    def sets(tasks: Sequence[str]) -> tuple[str, ...]:
        """The sets of embedding tables it reads: one for all tasks unless it says otherwise."""
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
    """The tasks, each behind the one it comes after."""

    def depth(task: str) -> int:
        return 1 + depth(after[task]) if task in after else 0

    return sorted(tasks, key=depth)
