"""The multi-task model: inputs, feature interaction, an architecture, and one head a task."""

from collections.abc import Collection, Mapping

import torch
from torch import Tensor, nn

from mtl_ray.experiment import Experiment
from mtl_ray.experiment.model import SharedBottom
from mtl_ray.models.inputs import Inputs
from mtl_ray.models.layers import Forward
from mtl_ray.models.masks import hidden_by
from mtl_ray.models.shared_bottom import SharedBottomNetwork
from mtl_ray.schema import Schema
from mtl_ray.tasks import build_task


class MultiTaskModel(nn.Module):
    """Encoded rows to the outputs of every task."""

    def __init__(self, experiment: Experiment, schema: Schema) -> None:
        super().__init__()
        self.tasks = {name: build_task(spec, schema.tasks[name]) for name, spec in experiment.tasks.items()}
        self.hidden_by = {name: frozenset(hidden_by(experiment, name)) for name in experiment.tasks}
        self.inputs = Inputs(experiment, schema)
        width = sum(self.inputs.dims.values()) + self.inputs.num_scalars
        num_outputs = {name: task.num_outputs for name, task in self.tasks.items()}
        match experiment.model:
            case SharedBottom() as settings:
                self.network = SharedBottomNetwork(width, num_outputs, settings)
        self.dot = DotPath(experiment, self.inputs) if experiment.model.interaction == "dot" else None

    def forward(self, batch: Mapping[str, Tensor], hidden: Mapping[str, Tensor] | None = None) -> Forward:
        """Outputs (B, num_outputs) by task, and the representation that the tasks share.

        Args:
            batch: encoded columns, (B,) or (B, length); one of a single row holds for all rows.
            hidden: by feature, (B,) bool, rows in which the input is hidden; nothing is by default.
        """
        vectors, scalars = self.inputs(batch, hidden or {})
        num_rows = max(len(vector) for vector in vectors.values())
        vectors = {name: vector.expand(num_rows, -1) for name, vector in vectors.items()}
        scalars = scalars.expand(num_rows, -1)
        outputs: Forward = self.network(torch.cat([*vectors.values(), scalars], 1))
        if self.dot is None:
            return outputs
        added = {task: outputs.logits[task] + extra for task, extra in self.dot(vectors).items()}
        return outputs._replace(logits=outputs.logits | added)

    @torch.no_grad()
    def evaluation_logits(self, batch: Mapping[str, Tensor], tasks: Collection[str] | None = None) -> dict[str, Tensor]:
        """Outputs by task as they are evaluated: a masked-input task sees neither its label nor the entity's id.

        Of the given tasks alone, of all by default.
        """
        wanted = self.tasks if tasks is None else tasks
        size = max(len(column) for column in batch.values())
        weight = next(self.parameters())
        device = weight.device
        batch = {n: c.to(device, weight.dtype if c.is_floating_point() else None) for n, c in batch.items()}
        outputs: dict[str, Tensor] = {}
        for names in dict.fromkeys(self.hidden_by[task] for task in wanted):
            logits = self(batch, {name: torch.ones(size, dtype=torch.bool, device=device) for name in names}).logits
            outputs |= {task: logits[task] for task, hidden in self.hidden_by.items() if hidden == names}
        return {task: outputs[task] for task in wanted}

    def predict(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Predictions on the natural scale by task: (B,), or (B, C) probabilities."""
        logits = self.evaluation_logits(batch)
        return {name: task.predict(logits[name]) for name, task in self.tasks.items()}

    def num_parameters_by_part(self) -> dict[str, int]:
        """Trainable numbers of each embedding table and of the other parts."""
        parts = {f"table {name}": table.weight.numel() for name, table in self.inputs.tables.items()}  # pyright: ignore
        others = {name: _size(part) for name, part in self.network.named_children()}
        others["inputs"] = _size(self.inputs) - sum(parts.values())
        if self.dot is not None:
            others["dot"] = _size(self.dot)
        return parts | {name: size for name, size in others.items() if size}


class DotPath(nn.Module):
    """Adds a weighted dot product of the sum of the user's vectors and the sum of the item's to a task's output.

    Matrix factorisation as a term of the model (Koren et al. 2009), over all features of both sides as in
    factorisation machines (Rendle 2010): y_t += sum_k a_tk u_k v_k + c_t, with a_t = 1 at the start. Tasks with one
    output that see all inputs get it.
    """

    def __init__(self, experiment: Experiment, inputs: Inputs) -> None:
        super().__init__()
        entities = {name: experiment.features[name.removesuffix(".values")].entity for name in inputs.dims}
        self.sides = {side: [n for n, e in entities.items() if e == side] for side in ("user", "item")}
        width = experiment.model.embedding_dim
        tasks = [n for n, t in experiment.tasks.items() if t.kind in ("regression", "binary") and not t.masked_input]
        self.weights = nn.ParameterDict({task: nn.Parameter(torch.ones(width)) for task in tasks})
        self.biases = nn.ParameterDict({task: nn.Parameter(torch.zeros(1)) for task in tasks})

    def forward(self, vectors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """(B, 1) by task, from the features' vectors."""
        user, item = (torch.stack([vectors[name] for name in names]).sum(0) for names in self.sides.values())
        product = user * item
        return {task: (product @ weight + self.biases[task])[:, None] for task, weight in self.weights.items()}


def _size(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
