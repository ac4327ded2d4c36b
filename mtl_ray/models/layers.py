"""Building blocks shared by the architectures."""

import itertools
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import torch
from torch import Tensor, nn

from mtl_ray.config.model import MLPConfig
from mtl_ray.tasks.base import UserItemVectors

ACTIVATIONS = {"relu": nn.ReLU, "gelu": nn.GELU, "silu": nn.SiLU, "tanh": nn.Tanh}

SHARED = "shared"
"""Name of the set of embedding tables that all tasks read; a task's own set has the task's name."""


TAKEN = frozenset(dir(nn.ModuleDict())) | frozenset(dir(nn.ParameterDict()))


def attribute_of(name: str) -> str:
    """What a module calls a part of the given name: that name, unless it is taken, as `forward` and `type` are."""
    return f"{name}:" if name in TAKEN else name


class ModuleDict(nn.ModuleDict):
    """Modules by the name of a task or a feature, which may be any name."""

    def __getitem__(self, key: str) -> nn.Module:
        return super().__getitem__(attribute_of(key))

    def __setitem__(self, key: str, module: nn.Module) -> None:
        super().__setitem__(attribute_of(key), module)

    def __contains__(self, key: str) -> bool:
        return super().__contains__(attribute_of(key))

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())

    def keys(self) -> list[str]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The names as they were given."""
        return [name.removesuffix(":") for name in self._modules]

    def items(self) -> list[tuple[str, nn.Module]]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Names as they were given, and modules."""
        return list(zip(self.keys(), self._modules.values(), strict=True))  # pyright: ignore[reportReturnType]


class ParameterDict(nn.ParameterDict):
    """Parameters by the name of a task or a feature, which may be any name."""

    def _key_to_attr(self, key: str) -> str:
        return attribute_of(key)


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


class Layer(nn.Module):
    """Linear, LayerNorm (optional), activation and dropout, around a residual connection (optional)."""

    def __init__(self, in_features: int, out_features: int, settings: MLPConfig) -> None:
        super().__init__()
        norm = [nn.LayerNorm(out_features)] if settings.layer_norm else []
        dropout = [nn.Dropout(settings.dropout)] if settings.dropout else []
        self.block = nn.Sequential(
            nn.Linear(in_features, out_features), *norm, ACTIVATIONS[settings.activation](), *dropout
        )
        self.residual = settings.residual and in_features == out_features

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_features) to (B, out_features)."""
        return self.of_product(x, self.linear(x))

    @property
    def linear(self) -> nn.Linear:
        """What it begins with."""
        return self.block[0]  # pyright: ignore[reportReturnType]

    def of_product(self, x: Tensor, product: Tensor) -> Tensor:
        """The output from the input and `linear` of it."""
        for part in itertools.islice(self.block, 1, None):
            product = part(product)
        return x + product if self.residual else product


def width_of(settings: MLPConfig, in_features: int) -> int:
    """Width of the output of an `MLP`."""
    return settings.hidden[-1] if settings.hidden else in_features


class MLP(nn.Module):
    """A layer per hidden width; no layer is the identity."""

    def __init__(self, in_features: int, settings: MLPConfig, hidden: Sequence[int] | None = None) -> None:
        super().__init__()
        widths = [in_features, *(settings.hidden if hidden is None else hidden)]
        pairs = itertools.pairwise(widths)
        self.layers = nn.Sequential(*(Layer(i, o, settings) for i, o in pairs))
        self.out_features = widths[-1]

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_features) to (B, out_features)."""
        return self.layers(x)


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


class Experts(nn.Module):
    """Networks of one shape over one input: their first layers are one product, the others one after the other.

    On a CPU that is faster than each expert by itself, and than batched products; `make bench` measures it.
    """

    def __init__(self, number: int, in_features: int, settings: MLPConfig) -> None:
        super().__init__()
        self.experts = nn.ModuleList(MLP(in_features, settings) for _ in range(number))
        self.out_features = width_of(settings, in_features)

    def __len__(self) -> int:
        return len(self.experts)

    def forward(self, x: Tensor) -> list[Tensor]:
        """(B, in_features) to (B, out_features) by expert."""
        layers: list[list[Layer]] = [list(expert.layers) for expert in self.experts]  # pyright: ignore
        if not layers or not layers[0]:
            return [x] * len(self)
        linears = [first.linear for first, *_ in layers]
        weight, bias = torch.cat([each.weight for each in linears]), torch.cat([each.bias for each in linears])
        products = nn.functional.linear(x, weight, bias).chunk(len(self), 1)
        outputs = []
        for (first, *others), product in zip(layers, products, strict=True):
            output = first.of_product(x, product)
            for layer in others:
                output = layer(output)
            outputs.append(output)
        return outputs


class Gate(nn.Module):
    """Softmax weights over experts from the input (Jordan and Jacobs 1994; as in MMoE)."""

    def __init__(self, in_features: int, number: int) -> None:
        super().__init__()
        self.weights = nn.Linear(in_features, number, bias=False)
        self.used: Tensor | None = None
        """(E,) summed weights of the last forward pass in training, without gradient."""

    def forward(self, x: Tensor, experts: Tensor) -> Mixture:
        """(B, in_features) and (B, E, d) to their mixture."""
        weights = self.weights(x).softmax(1)
        if self.training:
            self.used = weights.detach().sum(0)
        return Mixture(weights, mixed(weights, experts))


def mixed(weights: Tensor, vectors: Tensor) -> Tensor:
    """sum_e w_e x_e, of (B, E) and (B, E, d); with its gradients that is faster on a CPU than many small products."""
    (first, *others), (value, *values) = weights[:, :, None].unbind(1), vectors.unbind(1)
    total = first * value
    for weight, other in zip(others, values, strict=True):
        total = torch.addcmul(total, weight, other)
    return total


def gate_use(model: nn.Module) -> dict[str, Tensor]:
    """By gate the (E,) summed weights of this worker's rows in the last forward pass."""
    gates = {name: part for name, part in model.named_modules() if isinstance(part, Gate)}
    return {name.removeprefix("network."): gate.used for name, gate in gates.items() if gate.used is not None}


class GateUnit(nn.Module):
    """2 sigmoid(W2 relu(W1 p)): a factor for each hidden unit, 1 on average (the gate NU of PEPNet)."""

    def __init__(self, in_features: int, hidden: int, out_features: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(in_features, hidden), nn.ReLU(), nn.Linear(hidden, out_features))

    def forward(self, prior: Tensor) -> Tensor:
        """(B, in_features) to factors (B, out_features) between 0 and 2."""
        return 2 * self.layers(prior).sigmoid()


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
