"""The multi-task model: inputs, feature interaction, an architecture, and one head per task."""

from collections.abc import Collection, Mapping
from functools import cached_property

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mtl_ray.config.base import implementation_of, settings_of
from mtl_ray.config.features import FeatureConfig
from mtl_ray.config.interactions import DotConfig
from mtl_ray.config.model import ArchitectureConfig
from mtl_ray.config.tasks import RankingTaskConfig, TaskConfig
from mtl_ray.config.visibility import hidden_by
from mtl_ray.features.base import make_kinds
from mtl_ray.features.surroundings import Surroundings
from mtl_ray.models.architectures.base import SHARED, ModelOutput, Network, NetworkInput, NetworkSpec, Towers
from mtl_ray.models.catalog import build_catalogs
from mtl_ray.models.cold_start.base import ReadIdVector
from mtl_ray.models.dot_path import dot_paths
from mtl_ray.models.embedding import EmbeddedFeatures, FeatureEmbeddings
from mtl_ray.models.id_bias import id_biases
from mtl_ray.models.interactions import build_interaction
from mtl_ray.models.masking import rows_of
from mtl_ray.models.profile import ProfileFeatures
from mtl_ray.models.two_tower import TwoTowers
from mtl_ray.nn.containers import ModuleDict
from mtl_ray.schema import Fitted, label_column
from mtl_ray.tasks.base import UserItemVectors, build_task


class MultiTaskModel(nn.Module):
    """A model from encoded rows to the outputs of every task.

    Example:
        >>> from mtl_ray.config.features import IdFeatureConfig
        >>> from mtl_ray.config.model import MMoEConfig
        >>> from mtl_ray.config.tasks import BinaryTaskConfig, RegressionTaskConfig
        >>> from mtl_ray.schema import FittedFeature, FittedTask
        >>> features = {"user": IdFeatureConfig(entity="user"), "item": IdFeatureConfig(entity="item")}
        >>> tasks = {"click": BinaryTaskConfig(), "rating": RegressionTaskConfig()}
        >>> fitted = Fitted(
        ...     features={"user": FittedFeature(num_embeddings=7), "item": FittedFeature(num_embeddings=9)},
        ...     tasks={"click": FittedTask(mean=0.1), "rating": FittedTask(mean=3.5, std=1.1)},
        ... )
        >>> model = MultiTaskModel(features, tasks, MMoEConfig(experts=4), fitted)
        >>> outputs = model({"user": torch.tensor([3, 4]), "item": torch.tensor([5, 2])})
        >>> {task: tuple(logits.shape) for task, logits in outputs.logits.items()}
        {'click': (2, 1), 'rating': (2, 1)}
    """

    def __init__(
        self,
        features: Mapping[str, FeatureConfig],
        tasks: Mapping[str, TaskConfig],
        architecture: ArchitectureConfig,
        schema: Fitted,
        *,
        sparse_rows: int | None = None,
        micro_batch: int | None = None,
        batch_size: int = 1024,
        comparable_losses: float = 1.0,
    ) -> None:
        """Build the model with random weights, drawn from torch's generator.

        Args:
            features: the sections of the features, by name; they have the keys of the user and of the item.
            tasks: the sections of the tasks, by name.
            architecture: what the tasks share, and how large each part is.
            schema: what `prepare` found in the training rows.
            sparse_rows: fewest rows of an embedding table that is trained row by row, with sparse gradients; None if
                all are trained densely.
            micro_batch: most rows whose activations are in memory at once, see `TrainingConfig`.
            batch_size: rows of a global batch, on which the loss of a constant depends for a ranking task.
            comparable_losses: power of a constant's loss by which losses are divided, 0 to leave them as they are.

        Raises:
            KeyError: the schema lacks a feature or a task.
        """
        super().__init__()
        self.micro_batch, self.batch_size, self.comparable_losses = micro_batch, batch_size, comparable_losses
        self.tasks = {name: build_task(spec, schema.tasks[name]) for name, spec in tasks.items()}
        self.hidden_by = {name: frozenset(hidden_by(features, name, spec)) for name, spec in tasks.items()}
        ranking = {name: spec for name, spec in tasks.items() if isinstance(spec, RankingTaskConfig)}
        outputs = {name: task.num_outputs for name, task in self.tasks.items() if name not in ranking}
        network: type[Network] = implementation_of(architecture)
        sets = network.sets(list(outputs)) if outputs else ()
        self.set_of = {task: task if task in network.sets([task]) else SHARED for task in ranking}
        """The set of tables that each ranking task reads."""
        kinds = make_kinds(Surroundings(features, tasks, architecture.embedding_dim, sparse_rows))
        dropout, self.catalogs = architecture.embedding_dropout, build_catalogs(kinds, schema.features)
        self.inputs = ModuleDict(
            {
                name: FeatureEmbeddings(
                    kinds, schema.features, context=name in sets, dropout=dropout, catalogs=self.catalogs
                )
                for name in dict.fromkeys((*sets, *self.set_of.values()))
            }
        )
        first = self._first
        tower = architecture.tower
        self.two_towers = ModuleDict({name: TwoTowers(spec, first, tower) for name, spec in ranking.items()})
        settings = architecture.interaction
        numbers = set(first.numbers)
        self.interactions = ModuleDict(
            {name: build_interaction(settings, first.dims, first.num_scalars, numbers) for name in sets}
        )
        self.profile = ProfileFeatures(first, dict(zip(first.keys, ("user", "item"), strict=True)))
        self.network: Network | None = None
        if outputs:
            spec = NetworkSpec(
                width=next(iter(self.interactions.values())).width,  # pyright: ignore[reportArgumentType]
                profile_features=self.profile.width,
                outputs=outputs,
                after={name: task.after for name, task in tasks.items() if task.after},
                encoder=architecture.encoder,
                tower=architecture.tower,
            )
            self.network = network(spec, settings_of(architecture))  # pyright: ignore[reportCallIssue]
            towers = getattr(self.network, "towers", None)
            for name, tower in towers.towers.items() if isinstance(towers, Towers) else ():
                with torch.no_grad():
                    tower[-1].bias += self.tasks[name].initial_bias  # pyright: ignore
        self.dots = ModuleDict()
        if isinstance(settings, DotConfig):
            gated = settings.numbers == "gated"
            self.dots = dot_paths(tasks, sets, first, architecture.embedding_dim, gated=gated)
        self.id_biases = ModuleDict()
        if architecture.id_bias:
            self.id_biases = id_biases(features, tasks, schema.features, architecture.id_bias_prior, sparse_rows)

    def update_statistics(self, batch: Mapping[str, Tensor]) -> None:
        """Update the running statistics of cold-start vectors from a batch of training rows."""
        for inputs in self.inputs.values():
            inputs.update_statistics(batch)  # pyright: ignore[reportCallIssue]

    @cached_property
    def loss_scales(self) -> dict[str, float]:
        """Factor of each task's loss before it is weighted."""
        if not self.comparable_losses:
            return dict.fromkeys(self.tasks, 1.0)
        return {name: task.loss_scale(self.batch_size) ** self.comparable_losses for name, task in self.tasks.items()}

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
        """Return outputs (B, num_outputs) by task, and the representation that the tasks share.

        Args:
            batch: encoded columns, (B,) or (B, length); a column of a single row holds for all rows.
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
            x = self._interact(read)
            profile = next(iter(x.values()))[:, :0]
            if self.network.reads_profile:
                profile = self.profile(batch, hidden, next(iter(read.values())), next(self.parameters()).dtype)
            outputs: ModelOutput = self.network(NetworkInput(x, profile))
        for name, dot in self.dots.items():
            outputs = outputs.plus(dot(read[name].vectors))
        for bias in self.id_biases.values():
            outputs = outputs.plus(bias(batch, hidden))
        if self.network is not None and torch.is_grad_enabled():  # a penalty may go through whole tables
            penalty = self.network.penalty([self.inputs[name] for name in self.interactions])
            if penalty is not None:
                outputs = outputs._replace(penalty=penalty.expand(len(next(iter(read.values())).scalars)))
        return self._with_cold_start_penalties(self._with_ranking(outputs, read, batch), read)

    def _interact(self, read: Mapping[str, EmbeddedFeatures]) -> dict[str, Tensor]:
        """Return (B, width) by set of tables, or by task if a feature's encoder has layers of each task."""
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

    def _with_ranking(
        self, outputs: ModelOutput, read: Mapping[str, EmbeddedFeatures], batch: Mapping[str, Tensor]
    ) -> ModelOutput:
        """Add the ranking tasks, which read the features' vectors beside the network."""
        pairs: dict[str, UserItemVectors] = {}
        for task, towers in self.two_towers.items():
            vectors, _, own, _ = read[self.set_of[task]]
            pairs[task] = towers(vectors | own.get(task, {}), batch)
        scores = {task: (pair.user * pair.item).sum(1, keepdim=True) for task, pair in pairs.items()}
        return outputs._replace(logits=outputs.logits | scores, pairs=pairs)

    def _with_cold_start_penalties(self, outputs: ModelOutput, read: Mapping[str, EmbeddedFeatures]) -> ModelOutput:
        """Add the penalties of cold-start vectors in training.

        They come last, since their sums over workers must precede those of DDP in the backward pass.
        """
        if not torch.is_grad_enabled():
            return outputs
        for name, inputs in self.inputs.items():
            for key, part in inputs.cold_starts.items():  # pyright: ignore[reportAttributeAccessIssue, reportCallIssue]
                size, sides = len(read[name].scalars), read[name].sides[key]
                penalty = part.penalty(sides._replace(rows=sides.rows.expand(size)))
                if penalty is not None:
                    outputs = outputs._replace(penalty=penalty + (0 if outputs.penalty is None else outputs.penalty))
        return outputs

    def sum_losses(
        self,
        outputs: ModelOutput,
        batch: Mapping[str, Tensor],
        learnable: Mapping[str, Tensor],
        dtype: torch.dtype | None = None,
        taught: Mapping[str, Tensor] | None = None,
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Return, by task, the summed loss and the number of its terms over a batch.

        Args:
            outputs: the outputs of the model.
            batch: encoded columns and labels.
            learnable: by task, (B,) bool rows that may count; a task that is left out may learn on all.
            dtype: type of the losses; that of the outputs by default.
            taught: by task, (B, num_outputs) outputs that stand in place of labels.
        """
        sums, counts = [], []
        for name, task in self.tasks.items():
            label, logits = batch[label_column(name)], outputs.logits[name]
            logits = logits if dtype is None else logits.to(dtype)
            teacher = taught and taught.get(name)
            # Where a task is not defined, neither is what a teacher says of it.
            mask = task.labelled(label)
            if teacher is not None and task.spec.where is None:
                mask = torch.ones_like(mask)
            mask = mask & learnable[name] if name in learnable else mask
            if teacher is None:
                loss, count = task.loss(logits, label, mask, outputs.pairs.get(name))
            else:
                loss, count = task.distilled(logits, teacher.to(logits.dtype), mask)
            sums.append(loss)
            counts.append(count.to(loss.dtype))
        return sums, counts

    def evaluation_logits(self, batch: Mapping[str, Tensor], tasks: Collection[str] | None = None) -> dict[str, Tensor]:
        """Return outputs by task for evaluation: a masked-input task sees neither its label nor the entity's id.

        Args:
            batch: encoded columns.
            tasks: names of the tasks; all by default.
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

    @torch.no_grad()
    def predict(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return predictions on the natural scale by task: (B,), or (B, C) probabilities."""
        logits = self.evaluation_logits(batch)
        return {name: task.predict(logits[name]) for name, task in self.tasks.items()}
