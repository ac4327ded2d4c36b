"""The multi-task model: inputs, feature interaction, an architecture, and one head a task."""

from collections.abc import Collection, Mapping

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mtl_ray.config import Experiment
from mtl_ray.config.features import IdFeatureConfig, SequenceFeatureConfig, StatisticFeatureConfig
from mtl_ray.config.tasks import DOT_KINDS, RankingTaskConfig
from mtl_ray.config.visibility import hidden_by
from mtl_ray.models.architectures import network_of
from mtl_ray.models.architectures.base import SHARED, ModelOutput, Network, NetworkInput, NetworkSpec
from mtl_ray.models.architectures.soft_sharing import SoftSharingNetwork
from mtl_ray.models.cold_start.base import MetaLearnedColdStart, ReadIdVector, known_support
from mtl_ray.models.embedding import EmbeddedFeatures, FeatureEmbeddings
from mtl_ray.models.interactions import build_interaction
from mtl_ray.models.masking import rows_of
from mtl_ray.models.two_tower import TwoTowers
from mtl_ray.nn.containers import ModuleDict, ParameterDict
from mtl_ray.schema import Schema
from mtl_ray.tasks.heads import UserItemVectors, build_task


class MultiTaskModel(nn.Module):
    """Encoded rows to the outputs of every task."""

    def __init__(self, experiment: Experiment, schema: Schema) -> None:
        super().__init__()
        self.micro_batch = experiment.training.micro_batch
        self.tasks = {name: build_task(spec, schema.tasks[name]) for name, spec in experiment.tasks.items()}
        self.hidden_by = {name: frozenset(hidden_by(experiment, name)) for name in experiment.tasks}
        self.keys = {experiment.user: "user", experiment.item: "item"}
        ranking = {name: spec for name, spec in experiment.tasks.items() if isinstance(spec, RankingTaskConfig)}
        outputs = {name: task.num_outputs for name, task in self.tasks.items() if name not in ranking}
        kind = network_of(experiment.model)
        sets = kind.sets(list(outputs)) if outputs else ()
        self.set_of = {task: task if task in kind.sets([task]) else SHARED for task in ranking}
        """The set of tables that each ranking task reads."""
        self.inputs = ModuleDict(
            {
                name: FeatureEmbeddings(experiment, schema, context=name in sets)
                for name in dict.fromkeys((*sets, *self.set_of.values()))
            }
        )
        first = self._first
        self.two_towers = ModuleDict({name: TwoTowers(experiment, spec, first) for name, spec in ranking.items()})
        self.profile = [
            n
            for n, f in first.features.items()
            if n in first.dims and not isinstance(f, IdFeatureConfig | SequenceFeatureConfig | StatisticFeatureConfig)
        ]
        settings = experiment.model.interaction
        numbers = set(first.numbers)
        self.interactions = ModuleDict(
            {name: build_interaction(settings, first.dims, first.num_scalars, numbers) for name in sets}
        )
        self.network: Network | None = None
        if outputs:
            sizes = NetworkSpec(
                width=next(iter(self.interactions.values())).width,  # pyright: ignore[reportArgumentType]
                prior=sum(first.dims[n] for n in self.profile if n not in first.tails) + 2 * len(self.keys),
                outputs=outputs,
                after={name: task.after for name, task in experiment.tasks.items() if task.after},
            )
            self.network = kind(sizes, experiment.model)  # pyright: ignore[reportCallIssue]
            for name, tower in self.network.towers.towers.items():  # pyright: ignore
                with torch.no_grad():
                    tower[-1].bias += self.tasks[name].start
        self.dots = ModuleDict()
        if settings.kind == "dot":
            dots = {name: DotPath(experiment, first, name, sets) for name in sets}
            self.dots = ModuleDict({name: dot for name, dot in dots.items() if dot.weights})

    @property
    def meta_learned(self) -> dict[str, dict[str, MetaLearnedColdStart]]:
        """By id and set of tables, what has a loss of its own."""
        parts = [(key, name, p) for name, i in self.inputs.items() for key, p in i.cold_starts.items()]  # pyright: ignore
        found: dict[str, dict[str, MetaLearnedColdStart]] = {}
        for key, name, part in parts:
            if isinstance(part, MetaLearnedColdStart):
                found.setdefault(key, {})[name] = part
        return found

    def observe(self, batch: Mapping[str, Tensor]) -> None:
        """See `FeatureEmbeddings.observe`."""
        for inputs in self.inputs.values():
            inputs.observe(batch)  # pyright: ignore[reportCallIssue]

    @property
    def _first(self) -> FeatureEmbeddings:
        """The inputs of one set of tables; all sets have the same shape."""
        return next(iter(self.inputs.values()))  # pyright: ignore[reportReturnType]

    def forward(
        self,
        batch: Mapping[str, Tensor],
        hidden: Mapping[str, Tensor] | None = None,
        read: Mapping[str, Mapping[str, ReadIdVector]] | None = None,
    ) -> ModelOutput:
        """Outputs (B, num_outputs) by task, and the representation that the tasks share.

        Args:
            batch: encoded columns, (B,) or (B, length); one of a single row holds for all rows.
            hidden: by feature, (B,) bool, rows in which the input is hidden; nothing is by default.
            read: by set of tables, see `FeatureEmbeddings.forward`.
        """
        hidden = hidden or {}
        size = max(column.shape[0] for column in batch.values())
        if not self.micro_batch or size <= self.micro_batch or not (self.training and torch.is_grad_enabled()):
            return self._pass(batch, hidden, read)
        # Without reentry the graph is whole, as the gradients of the tasks want it; its numbers are computed again.
        places = [slice(start, start + self.micro_batch) for start in range(0, size, self.micro_batch)]
        parts = [
            checkpoint(self._pass, rows_of(batch, place), rows_of(hidden, place), use_reentrant=False)
            for place in places
        ]
        return ModelOutput.of_micro_batches(parts)  # pyright: ignore[reportArgumentType]

    def _pass(
        self,
        batch: Mapping[str, Tensor],
        hidden: Mapping[str, Tensor],
        instead: Mapping[str, Mapping[str, ReadIdVector]] | None = None,
    ) -> ModelOutput:
        read = {name: inputs(batch, hidden, instead and instead[name]) for name, inputs in self.inputs.items()}
        outputs = ModelOutput({}, None)
        if self.network is not None:
            x = self._meet(read)
            prior = self._prior(batch, hidden, read) if self.network.reads_prior else next(iter(x.values()))[:, :0]
            outputs: ModelOutput = self.network(NetworkInput(x, prior))
        for name, dot in self.dots.items():
            added = {task: outputs.logits[task] + extra for task, extra in dot(read[name].vectors).items()}
            outputs = outputs._replace(logits=outputs.logits | added)
        if isinstance(self.network, SoftSharingNetwork) and torch.is_grad_enabled():  # it goes through all tables
            tied = self.network.penalty([self.inputs[name] for name in self.interactions])
            outputs = outputs._replace(penalty=tied.expand(len(next(iter(read.values())).scalars)))
        return self._contrasted(self._paired(outputs, read, batch), read, batch)

    def _contrasted(
        self, outputs: ModelOutput, read: Mapping[str, EmbeddedFeatures], batch: Mapping[str, Tensor]
    ) -> ModelOutput:
        """With the losses of the vectors that stand for ids; they depend on the batch, so they are of training alone.

        They come last, as their sums over workers must come before those of DDP in the backward pass.
        """
        if not torch.is_grad_enabled():
            return outputs
        for name, inputs in self.inputs.items():
            for key, part in inputs.cold_starts.items():  # pyright: ignore[reportAttributeAccessIssue, reportCallIssue]
                size = len(read[name].scalars)
                sides = read[name].sides[key]
                penalty = part.penalty(sides._replace(rows=sides.rows.expand(size)))
                if penalty is not None:
                    outputs = outputs._replace(penalty=penalty + (0 if outputs.penalty is None else outputs.penalty))
        return outputs

    def _paired(
        self, outputs: ModelOutput, read: Mapping[str, EmbeddedFeatures], batch: Mapping[str, Tensor]
    ) -> ModelOutput:
        """With the ranking tasks, which read the features' vectors beside the network."""
        pairs: dict[str, UserItemVectors] = {}
        for task, towers in self.two_towers.items():
            vectors, _, own, _ = read[self.set_of[task]]
            pairs[task] = towers(vectors | own.get(task, {}), batch)
        scores = {task: (pair.user * pair.item).sum(1, keepdim=True) for task, pair in pairs.items()}
        return outputs._replace(logits=outputs.logits | scores, pairs=pairs)

    def _meet(self, read: Mapping[str, EmbeddedFeatures]) -> dict[str, Tensor]:
        """(B, width) by set of tables, or by task where a feature's encoder has layers of each task."""
        x = {}
        for name, interaction in self.interactions.items():
            vectors, scalars, own, _ = read[name]
            if own:
                order = self._first.dims
                for task, parts in own.items():
                    if task in self.two_towers:
                        continue
                    together = vectors | parts
                    x[task] = interaction({n: together[n] for n in order}, scalars)
            else:
                x[name] = interaction(vectors, scalars)
        return x

    def _prior(
        self, batch: Mapping[str, Tensor], hidden: Mapping[str, Tensor], read: Mapping[str, EmbeddedFeatures]
    ) -> Tensor:
        """(B, prior_width): attributes (without gradient), and of the user and the item log(1 + support) / 8 and
        whether the support is 0. A hidden or unknown id has no support."""
        vectors, scalars, *_ = next(iter(read.values()))
        parts = [vectors[n].detach() for n in self.profile if n in vectors]
        weight = next(self.parameters())
        for key, entity in self.keys.items():
            support = known_support(batch, hidden, key, entity)
            seen = torch.stack([x.to(weight.dtype) for x in (torch.log1p(support) / 8, support == 0)], 1)
            parts.append(seen.expand(scalars.shape[0], -1))
        return torch.cat(parts, 1)

    @torch.no_grad()
    def evaluation_logits(self, batch: Mapping[str, Tensor], tasks: Collection[str] | None = None) -> dict[str, Tensor]:
        """Outputs by task as they are evaluated: a masked-input task sees neither its label nor the entity's id.

        Of the given tasks alone, of all by default.
        """
        wanted = self.tasks if tasks is None else tasks
        size = max(column.shape[0] for column in batch.values())
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
        parts: dict[str, int] = {}
        for name, inputs in self.inputs.items():
            of = "" if name == SHARED else f" of {name}"
            tables = inputs.tables.items()  # pyright: ignore[reportAttributeAccessIssue, reportCallIssue]
            own = {f"table {feature}{of}": _size(table) for feature, table in tables}
            own |= {f"cold start {key}{of}": _size(part) for key, part in inputs.cold_starts.items()}  # pyright: ignore
            parts |= own
            parts["other inputs"] = parts.get("other inputs", 0) + _size(inputs) - sum(own.values())
        if self.network is not None:
            parts |= {name: _size(part) for name, part in self.network.named_children()}
            parts["network"] = sum(p.numel() for p in self.network.parameters(recurse=False))
        parts |= {name: _size(getattr(self, name)) for name in ("interactions", "dots", "two_towers")}
        return {name: size for name, size in parts.items() if size}


class DotPath(nn.Module):
    """Adds a weighted dot product of the sum of the user's vectors and the sum of the item's to a task's output.

    Matrix factorisation as a term of the model (Koren et al. 2009), over all features of both sides as in
    factorisation machines (Rendle 2010): y_t += sum_k a_tk u_k v_k + c_t, with a_t = 1 at the start. Tasks with one
    output that see all inputs get it, from their own set of tables where they have one.
    """

    def __init__(self, experiment: Experiment, inputs: FeatureEmbeddings, of: str, sets: tuple[str, ...]) -> None:
        super().__init__()
        self.sides = {side: inputs.of_entity(side) for side in ("user", "item")}
        width = experiment.model.embedding_dim
        tasks = [n for n, t in experiment.tasks.items() if t.kind in DOT_KINDS and not t.masked_input]
        tasks = [task for task in tasks if of == (task if task in sets else SHARED)]
        self.weights = ParameterDict({task: nn.Parameter(torch.ones(width)) for task in tasks})
        self.biases = ParameterDict({task: nn.Parameter(torch.zeros(1)) for task in tasks})

    def forward(self, vectors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """(B, 1) by task, from the features' vectors."""
        user, item = (torch.stack([vectors[name] for name in names]).sum(0) for names in self.sides.values())
        product = user * item
        return {task: (product @ weight + self.biases[task])[:, None] for task, weight in self.weights.items()}


def _size(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
