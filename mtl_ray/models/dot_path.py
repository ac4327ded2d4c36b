"""A dot product of user and item that goes straight to the outputs."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from mtl_ray.config import Experiment
from mtl_ray.models.architectures.base import SHARED
from mtl_ray.models.embedding import FeatureEmbeddings
from mtl_ray.nn.containers import ParameterDict


class DotPath(nn.Module):
    """A weighted dot product of the sum of the user's vectors and the sum of the item's, added to a task's output.

    Matrix factorisation as a term of the model (Koren et al. 2009), over all features of both sides as in
    factorisation machines (Rendle 2010): y_t += sum_k a_tk u_k v_k + c_t, with a_t = 1 at the start. It is added to
    tasks with one output that see all inputs, from their own set of tables where they have one.
    """

    def __init__(self, experiment: Experiment, inputs: FeatureEmbeddings, name: str, sets: tuple[str, ...]) -> None:
        """Build it for the tasks that read the set of tables `name` among `sets`."""
        super().__init__()
        self.sides = {side: inputs.of_entity(side) for side in ("user", "item")}
        width = experiment.model.embedding_dim
        tasks = [task for task, spec in experiment.tasks.items() if spec.has_one_output and not spec.masked_input]
        tasks = [task for task in tasks if name == (task if task in sets else SHARED)]
        self.weights = ParameterDict({task: nn.Parameter(torch.ones(width)) for task in tasks})
        self.biases = ParameterDict({task: nn.Parameter(torch.zeros(1)) for task in tasks})

    def forward(self, vectors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return (B, 1) by task, from the features' vectors."""
        user, item = (torch.stack([vectors[name] for name in names]).sum(0) for names in self.sides.values())
        product = user * item
        return {task: (product @ weight + self.biases[task])[:, None] for task, weight in self.weights.items()}
