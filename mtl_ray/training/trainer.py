"""Plain PyTorch data-parallel training of one worker: one screen a step.

Every random draw is a function of the seed, the epoch, the step and the rank, so a checkpoint holds no generator state
and a resumed run equals one that was never interrupted.
"""

from collections.abc import Callable, Collection
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from mtl_ray.balancing import build_balancer
from mtl_ray.balancing.affinity import Lookahead
from mtl_ray.balancing.diagnostics import Monitor
from mtl_ray.config import Experiment
from mtl_ray.config.custom import classes_of
from mtl_ray.data.loader import Batch, Shard, on_device, trimmed
from mtl_ray.data.prefetch import prefetch
from mtl_ray.distributed import rank, world_size
from mtl_ray.errors import InputError, some
from mtl_ray.evaluation.evaluate import evaluate_model
from mtl_ray.evaluation.losses import mean_losses
from mtl_ray.features.base import feature_kinds
from mtl_ray.models import MultiTaskModel, build_masking, build_model
from mtl_ray.models.architectures.experts import gate_use
from mtl_ray.models.catalog import read_catalogs
from mtl_ray.models.cold_start.meta_loss import meta_losses
from mtl_ray.models.compile import compile_network
from mtl_ray.schema import Schema, num_steps
from mtl_ray.storage import Folder
from mtl_ray.training.losses import LossComputer, check_finite
from mtl_ray.training.optimizer import build_optimizers
from mtl_ray.training.parallel import data_parallel
from mtl_ray.training.precision import Precision
from mtl_ray.training.progress import Progress, seed_generators
from mtl_ray.training.teacher import Teacher
from mtl_ray.training.timing import StepTimer

PREFETCHED_BATCHES = 2
"""Batches that are ready, on the device, while a step runs."""


class Trainer:
    """The model of one worker and everything that changes during training."""

    def __init__(self, experiment: Experiment, schema: Schema, device: torch.device) -> None:
        training = experiment.training
        torch.manual_seed(experiment.seed)
        self.experiment, self.schema, self.device = experiment, schema, device
        self.precision = Precision(training.precision, device)
        self.model = build_model(experiment, schema).to(device, self.precision.dtype)
        self.compiled = training.compile and compile_network(self.model, device)
        self.parallel = data_parallel(self.model, device)
        self.average = None
        if training.average:
            self.average = AveragedModel(self.model, multi_avg_fn=get_ema_multi_avg_fn(training.average))
        teacher = None
        if training.distill is not None:
            own = classes_of(experiment)
            teacher = Teacher(training.distill, schema, device, self.precision.dtype, own)
        self.losses = LossComputer(self.model, build_masking(experiment), self.precision, device, teacher)
        self.meta_losses = meta_losses(self.model)
        self.balancer, self.monitor = build_balancer(experiment).to(device), Monitor(list(experiment.tasks))
        self.optimizers = build_optimizers(self.model, experiment, num_steps(schema, training.batch_size))
        self.lookahead = Lookahead(
            self.model, self.optimizers.dense, self.balancer, self.monitor, training.affinity_every
        )
        self.lists = [kind.padded_columns for kind in feature_kinds(experiment).values() if kind.padded_columns]
        self.progress, self.meter = Progress(), StepTimer(self.parallel, device)
        self.frozen: frozenset[str] = frozenset()
        """Parameters that do not learn."""

    @property
    def evaluated(self) -> MultiTaskModel:
        """The model to evaluate and keep: the averaged one if averaging is on."""
        return self.model if self.average is None else self.average.module  # pyright: ignore[reportReturnType]

    def read_catalogs(self, folder: Folder) -> None:
        """Read what the models look up of the ids in lists from the folder of the data set."""
        for model in {self.model, self.evaluated}:
            read_catalogs(model.catalogs, folder)

    def freeze(self, parts: Collection[str]) -> None:
        """Let parts of the model not learn, and all others. Workers must agree, see `Callback.frozen`.

        Raises:
            InputError: the model has no such part.
        """
        names = [name for name, _ in self.model.named_parameters()]
        of_part = {part: {n for n in names if n == part or n.startswith(f"{part}.")} for part in parts}
        if unknown := [part for part, found in of_part.items() if not found]:
            raise InputError(f"training.callbacks: the model has no part `{unknown[0]}` to freeze: {some(names)}")
        frozen = frozenset().union(*of_part.values())
        if frozen == self.frozen:
            return
        self.frozen = frozen
        for name, parameter in self.model.named_parameters():
            parameter.requires_grad_(name not in frozen)
        self.meter.ddp, self.parallel = None, self.model  # DDP waits for the gradients that it was made for
        self.parallel = data_parallel(self.model, self.device)
        self.meter = StepTimer(self.parallel, self.device)

    def step(self, rows: Batch, probe: Batch | None = None) -> Tensor:
        """Take one optimizer step on this worker's part of a global batch, with the model in training mode.

        Args:
            rows: encoded columns and labels.
            probe: validation rows, for a balancer that is rewarded on them.

        Returns:
            (2T,) the summed loss of each task and its number of labelled rows, over all workers.
        """
        progress, precision, balancing = self.progress, self.precision, self.experiment.balancing
        batch = self.losses.masked(rows, progress.epoch)
        with self._uncompiled():
            self.lookahead(
                progress.step,
                train=lambda: self.losses.of_batch(batch),
                validation=lambda: self.losses.of_validation(probe, progress.epoch),
            )
        self.model.update_statistics(batch.columns)
        self._seed(rank())
        is_watched = bool(balancing.diagnostics_every) and progress.step % balancing.diagnostics_every == 0
        with self._uncompiled(is_watched):
            outputs = self.losses.forward(self.parallel, batch)
        losses = self.losses.of_outputs(outputs, batch)
        assert losses.totals is not None
        self._seed()
        loss, weights = self.balancer(losses)
        scaled = (weights * self.losses.scales).to(precision.dtype)
        for number, meta_loss in enumerate(self.meta_losses):
            self._seed(rank(), number)
            with self._uncompiled():
                loss = loss + meta_loss(batch, scaled, precision.autocast, precision.scale)
        if is_watched:
            self.monitor.observe_step(losses, weights)
            self.monitor.observe_gates(gate_use(self.model))
        share = self.balancer.sample
        sampled = self.losses.of_sample(outputs, batch, share) if share else None
        # DDP averages gradients over workers; each one's loss is its share of the whole, so they must add up.
        precision.scaler.scale(loss * world_size()).backward()
        self.optimizers.step(precision.scaler)
        if sampled is not None:
            sample, before = sampled
            self._seed(rank())
            with torch.no_grad():
                self.balancer.after(before, self.losses.of_batch(sample))
        if self.average is not None:
            self.average.update_parameters(self.model)
        progress.step += 1
        return losses.totals

    def epoch(
        self,
        shard: Shard,
        on_step: Callable[[int, Tensor], None] = lambda *_: None,
        probe: Batch | None = None,
    ) -> dict[str, float]:
        """Train the rest of the current epoch.

        Args:
            shard: this worker's training rows.
            on_step: is called after each step with its number and the (2T,) loss sums and label counts so far.
            probe: see `step`.

        Returns:
            Mean training losses, and what the monitor has seen of the balance of tasks.
        """
        training, progress = self.experiment.training, self.progress
        num_tasks = len(self.model.tasks)
        self.parallel.train()
        totals = torch.zeros(2 * num_tasks, dtype=torch.float64, device=self.device)
        if progress.sums:
            totals += torch.tensor(progress.sums, dtype=torch.float64, device=self.device)
        batches = shard.training_batches(self.experiment.seed, progress.epoch, training.batch_size, progress.step)
        batches = (trimmed(batch, self.lists) for batch in batches)
        batches = prefetch(on_device(batches, self.device, self.precision.dtype), PREFETCHED_BATCHES)
        for batch in self.meter.waiting(batches):
            totals += self.step(batch, probe)
            progress.sums = []
            if training.checkpoint_steps and progress.step % training.checkpoint_steps == 0:
                check_finite(self.model, totals, progress.epoch)
                progress.sums = totals.tolist()
            on_step(progress.step, totals)
        check_finite(self.model, totals, progress.epoch)
        progress.epoch, progress.step, progress.sums = progress.epoch + 1, 0, []
        self.balancer.end_epoch(totals[:num_tasks] / totals[num_tasks:])  # 0 / 0 is NaN: no label in the epoch
        means = mean_losses(self.experiment.weights(), self.model.loss_scales, totals, "train")
        return means | self.monitor.end_epoch() | self.balancer.metrics()

    def evaluate(self, shard: Shard) -> dict[str, float]:
        """Evaluate the rows of a split, see `evaluate_model`."""
        experiment = self.experiment
        return evaluate_model(self.evaluated, shard, experiment.evaluation, weights=experiment.weights())

    def _uncompiled(self, when: bool = True) -> AbstractContextManager[Any]:
        """Run the network within the block as it was before `training.compile`: tensors inside have gradients."""
        return torch.compiler.set_stance("force_eager") if self.compiled and when else nullcontext()

    def _seed(self, *where: int) -> None:
        """Seed the generators for this step; draws of one worker also take its rank."""
        seed_generators(self.device, self.experiment.seed, self.progress.epoch, self.progress.step, *where)
