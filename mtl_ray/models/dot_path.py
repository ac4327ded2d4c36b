"""A dot product of user and item that goes straight to the outputs."""

from collections.abc import Collection, Mapping

import torch
from torch import Tensor, nn

from mtl_ray.config.tasks import TaskConfig
from mtl_ray.models.architectures.base import SHARED
from mtl_ray.models.embedding import FeatureEmbeddings
from mtl_ray.nn.containers import ModuleDict, ParameterDict


class DotPath(nn.Module):
    """A weighted dot product of the sum of the user's vectors and the sum of the item's, added to a task's output.

    Matrix factorisation as a term of the model (Koren et al. 2009), over all features of both sides as in
    factorisation machines (Rendle 2010): y_t += sum_k a_tk u_k v_k + c_t, with a_t = 1 at the start.
    """

    def __init__(self, tasks: Collection[str], inputs: FeatureEmbeddings, width: int, *, gated: bool) -> None:
        """Build it for tasks by name; all vectors of `inputs` have that width, and those of numbers may be gated."""
        super().__init__()
        self.sides = {side: inputs.of_entity(side) for side in ("user", "item")}
        self.weights = ParameterDict({task: nn.Parameter(torch.ones(width)) for task in tasks})
        self.biases = ParameterDict({task: nn.Parameter(torch.zeros(1)) for task in tasks})
        numbers = [name for side in self.sides.values() for name in side if gated and name in inputs.numbers]
        # The layer of a number makes vectors of about 1. A few of them would drown all tasks at the start.
        self.gates = ParameterDict({name: nn.Parameter(torch.zeros(1)) for name in numbers})

    def forward(self, vectors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return (B, 1) by task, from the features' vectors."""
        gated = {name: gate * vectors[name] for name, gate in self.gates.items()}
        vectors = {**vectors, **gated}
        user, item = (torch.stack([vectors[name] for name in names]).sum(0) for names in self.sides.values())
        product = user * item
        return {task: (product @ weight + self.biases[task])[:, None] for task, weight in self.weights.items()}


def dot_paths(
    tasks: Mapping[str, TaskConfig], sets: Collection[str], inputs: FeatureEmbeddings, width: int, *, gated: bool
) -> ModuleDict:
    """Build the dot products by set of tables, for tasks with one output that see all inputs.

    Args:
        tasks: the sections of all tasks, by name.
        sets: names of the sets; a task reads its own where it has one.
        inputs: the inputs of one of the sets.
        width: width of the vectors.
        gated: whether vectors of numbers are.
    """
    summed = [task for task, spec in tasks.items() if spec.has_one_output and not spec.masked_input]
    readers = {name: [task for task in summed if name == (task if task in sets else SHARED)] for name in sets}
    return ModuleDict({name: DotPath(own, inputs, width, gated=gated) for name, own in readers.items() if own})
