"""Plain PyTorch data-parallel training of one worker: one screen a step.

Every random draw is a function of the seed, the epoch, the step and the rank, so a checkpoint holds no generator state
and a resumed run equals one that was never interrupted.
"""

import math
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from mtl_ray.balancing import TaskLosses, build_balancer, make_task_losses
from mtl_ray.balancing.affinity import lookahead_affinity
from mtl_ray.balancing.diagnostics import Monitor
from mtl_ray.config import Experiment
from mtl_ray.counter_rng import Stream, uniform_rows
from mtl_ray.data.loader import Batch, Shard, on_device, to_device
from mtl_ray.data.prefetch import prefetch
from mtl_ray.distributed import rank, sum_over_ranks, world_size
from mtl_ray.evaluation.evaluate import evaluate
from mtl_ray.evaluation.losses import mean_losses
from mtl_ray.models import MultiTaskModel, checkpoint
from mtl_ray.models.architectures.base import ModelOutput
from mtl_ray.models.architectures.experts import gate_use
from mtl_ray.models.cold_start.base import ReadIdVector
from mtl_ray.models.compile import compile_network
from mtl_ray.models.masking import Hidden, draw_hidden, rows_of, trainable
from mtl_ray.models.sparse import sparse_parameters
from mtl_ray.schema import ROW, UNKNOWN, Schema, label_column, num_steps
from mtl_ray.training.optimizer import Optimizers
from mtl_ray.training.timing import StepTimer

DTYPES = {"float32": torch.float32, "float64": torch.float64, "bfloat16": torch.bfloat16, "float16": torch.float16}

PREFETCHED_BATCHES = 2
"""Batches that are ready, on the device, while a step runs."""


@dataclass
class Progress:
    """Where a run is, and what it has reached."""

    epoch: int = 0
    step: int = 0
    """Steps done within the epoch."""
    best: float | None = None
    best_epoch: int = -1
    sums: list[float] = field(default_factory=list)
    """Loss sums of each task, then label counts, since the epoch began."""


class Trainer:
    """The model of one worker with all that moves during training."""

    def __init__(self, experiment: Experiment, schema: Schema, device: torch.device) -> None:
        training = experiment.training
        torch.manual_seed(experiment.seed)
        mixed = training.precision in ("bfloat16", "float16")
        self.dtype = torch.float32 if mixed else DTYPES[training.precision]
        self.autocast = torch.autocast(device.type, DTYPES[training.precision]) if mixed else nullcontext()
        self.experiment, self.schema, self.device = experiment, schema, device
        self.model = MultiTaskModel(experiment, schema).to(device, self.dtype)
        self.compiled = training.compile and compile_network(self.model, device)
        self.parallel: nn.Module = self.model
        if world_size() > 1:
            devices = [device] if device.type == "cuda" else None
            # Rows of large tables are exchanged by the optimizers, and buffers are made from what all workers gather.
            ignored = list(sparse_parameters(self.model))
            DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(self.model, ignored)
            self.parallel = DistributedDataParallel(self.model, device_ids=devices, broadcast_buffers=False)
        self.average = None
        if training.average:
            self.average = AveragedModel(self.model, multi_avg_fn=get_ema_multi_avg_fn(training.average))
        self.balancer = build_balancer(experiment).to(device)
        self.monitor = Monitor(list(experiment.tasks))
        self.probe: Batch | None = None
        self.optimizers = Optimizers(self.model, experiment, num_steps(schema, training.batch_size))
        self.scaler = torch.amp.GradScaler(device.type, enabled=training.precision == "float16")
        self.progress = Progress()
        self.meter = StepTimer(self.parallel, device)

    @property
    def evaluated(self) -> MultiTaskModel:
        """The model to evaluate and keep: the averaged one where averaging is on."""
        return self.model if self.average is None else self.average.module  # pyright: ignore[reportReturnType]

    def step(self, batch: Batch) -> Tensor:
        """One optimizer step on this worker's part of a global batch, of a model in training mode.

        Returns:
            (2T,) the summed loss of each task and its number of labelled rows, over all workers.
        """
        progress = self.progress
        batch = to_device(batch, self.device, self.dtype)
        hidden = draw_hidden(self.experiment, batch[ROW], self.experiment.seed, progress.epoch)
        with self._uncompiled():
            self._look_ahead(batch, hidden)
        self.model.observe(batch)
        self._seed(rank())
        every = self.experiment.balancing.diagnostics_every
        is_watched = bool(every) and progress.step % every == 0
        with self._uncompiled(is_watched):
            forward = self._forward(self.parallel, batch, hidden)
        masks = self._masks(hidden, len(batch[ROW]))
        step, totals = self._losses(forward, batch, masks)
        self._seed()
        loss, weights = self.balancer(step)
        loss = loss if step.penalty is None else loss + step.penalty
        for number, key in enumerate(self.model.meta_learned):
            self._seed(rank(), number)
            with self._uncompiled():
                loss = loss + self._meta_loss(key, batch, hidden, weights.to(self.dtype))
        if is_watched:
            self.monitor.observe_step(step, weights)
            self.monitor.observe_gates(gate_use(self.model))
        before = self._sampled(forward, batch, masks) if self.balancer.sample else None
        # DDP averages gradients over workers; each one's loss is its share of the whole, so they must add up.
        self.scaler.scale(loss * world_size()).backward()
        self.optimizers.step(self.scaler)
        if before is not None:
            rows, losses = before
            self._seed(rank())
            with torch.no_grad():
                self.balancer.after(losses, self.losses(self.model, rows_of(batch, rows), rows_of(hidden, rows))[0])
        if self.average is not None:
            self.average.update_parameters(self.model)
        progress.step += 1
        return totals

    def _uncompiled(self, when: bool = True) -> AbstractContextManager[Any]:
        """Within it the network is as it was before `training.compile`: the tensors inside have gradients."""
        return torch.compiler.set_stance("force_eager") if self.compiled and when else nullcontext()

    def losses(self, model: nn.Module, batch: Batch, hidden: Hidden) -> tuple[TaskLosses, Tensor]:
        """What a balancer sees of a global batch, and its (2T,) loss sums and label counts over all workers."""
        return self._losses(self._forward(model, batch, hidden), batch, self._masks(hidden, len(batch[ROW])))

    def _forward(self, model: nn.Module, batch: Batch, hidden: Hidden) -> ModelOutput:
        with self.autocast:
            return model(batch, hidden)

    def _masks(self, hidden: Hidden, size: int) -> dict[str, Tensor]:
        """By task, (size,) rows of which it may learn."""
        return {name: trainable(self.experiment, name, hidden, size, self.device) for name in self.model.tasks}

    @torch.no_grad()
    def _sampled(self, forward: ModelOutput, batch: Batch, masks: Mapping[str, Tensor]) -> tuple[Tensor, TaskLosses]:
        """(B,) the rows on which the balancer sees what the step does, and the losses on them before it."""
        rows = (
            uniform_rows(batch[ROW], self.experiment.seed, self.progress.epoch, Stream.BALANCER_ROWS)
            < self.balancer.sample
        )
        return rows, self._losses(forward, batch, {name: mask & rows for name, mask in masks.items()})[0]

    def _sums(
        self, forward: ModelOutput, batch: Batch, masks: Mapping[str, Tensor]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """By task, the summed loss and the number of its terms over this worker's rows."""
        sums, counts = [], []
        for name, task in self.model.tasks.items():
            label = batch[label_column(name)]
            mask = task.labelled(label) & masks[name] if masks else task.labelled(label)
            loss, count = task.loss(forward.logits[name].to(self.dtype), label, mask, forward.pairs.get(name))
            sums.append(loss)
            counts.append(count.to(loss.dtype))
        return sums, counts

    def _losses(self, forward: ModelOutput, batch: Batch, masks: Mapping[str, Tensor]) -> tuple[TaskLosses, Tensor]:
        sums, counts = self._sums(forward, batch, masks)
        size = sums[0].new_tensor(float(len(batch[ROW])))
        totals = sum_over_ranks(torch.stack([*sums, *counts, size]))
        totals, num_rows = totals[:-1], totals[-1].clamp(min=1)
        scale, tasks = self.scaler.get_scale(), list(self.model.tasks)
        return make_task_losses(tasks, sums, totals, num_rows, forward, self.progress.epoch, scale), totals

    def _meta_loss(self, key: str, batch: Batch, hidden: Hidden, weights: Tensor) -> Tensor:
        """The loss of an id's `Taught` vectors, with the balancer's (T,) weights."""
        parts = self.model.meta_learned[key]
        own = {parameter for part in parts.values() for parameter in part.parameters()}
        fixed = {name: p.detach() for name, p in self.model.named_parameters() if p not in own}
        size, known = len(batch[ROW]), batch[key] > UNKNOWN
        hidden = hidden | {key: torch.ones_like(known)}
        masks = self._masks(hidden, size)

        def losses(read: Mapping[str, ReadIdVector], rows: Tensor) -> tuple[Tensor, Tensor]:
            with self.autocast:
                instead = {name: {key: reading} for name, reading in read.items()}
                forward = functional_call(self.model, fixed, (batch, hidden, instead))
            sums, counts = self._sums(forward, batch, {name: mask & rows & known for name, mask in masks.items()})
            total = torch.stack(sums)
            return weights @ total, weights @ (total / sum_over_ranks(torch.stack(counts)).clamp(min=1))

        first = known & (uniform_rows(batch[ROW], self.experiment.seed, self.progress.epoch, Stream.HALVES) < 0.5)
        return next(iter(parts.values())).meta_loss(parts, losses, batch[key], first, self.scaler.get_scale())

    def _probe_losses(self) -> TaskLosses:
        """The losses of the validation rows on which a balancer is rewarded."""
        assert self.probe is not None, "Trainer.probe"
        batch = to_device(self.probe, self.device, self.dtype)
        with self.autocast:
            logits = self.model.evaluation_logits(batch)
        return self._losses(ModelOutput(logits, None), batch, {})[0]

    def _look_ahead(self, batch: Batch, hidden: Hidden) -> None:
        """Try a step on each task alone, where the affinity of tasks or the balancer's reward is due."""
        every = (self.experiment.training.affinity_every, self.balancer.probe_every)
        of_tasks, of_balancer = (bool(steps) and self.progress.step % steps == 0 for steps in every)
        if not of_tasks and not of_balancer:
            return

        def train() -> TaskLosses:
            return self.losses(self.model, batch, hidden)[0]

        self.model.eval()  # without dropout
        if of_tasks:
            self.monitor.observe_affinity(lookahead_affinity(train, train, self.optimizers.dense))
        if of_balancer:
            self.balancer.reward(lookahead_affinity(train, self._probe_losses, self.optimizers.dense))
        self.model.train()

    def _seed(self, *where: int) -> None:
        """Seed the generators from the seed, the epoch, the step and, for draws of one worker, its rank."""
        place = (self.experiment.seed, self.progress.epoch, self.progress.step, *where)
        seed = hash(place) & 0x7FFF_FFFF_FFFF_FFFF
        # `torch.manual_seed` seeds all kinds of devices, a millisecond with none of them.
        torch.default_generator.manual_seed(seed)
        if self.device.type != "cpu":
            torch.get_device_module(self.device).manual_seed(seed)

    def epoch(self, shard: Shard, on_step: Callable[[int, Tensor], None] = lambda *_: None) -> dict[str, float]:
        """The rest of the current epoch; returns its mean training losses and what was seen of the balance of tasks."""
        training, progress = self.experiment.training, self.progress
        num_tasks = len(self.model.tasks)
        self.parallel.train()
        totals = torch.zeros(2 * num_tasks, dtype=torch.float64, device=self.device)
        if progress.sums:
            totals += torch.tensor(progress.sums, dtype=torch.float64, device=self.device)
        batches = shard.training_batches(self.experiment.seed, progress.epoch, training.batch_size, progress.step)
        for batch in self.meter.waiting(prefetch(on_device(batches, self.device, self.dtype), PREFETCHED_BATCHES)):
            totals += self.step(batch)
            progress.sums = []
            if training.checkpoint_steps and progress.step % training.checkpoint_steps == 0:
                self._check_finite(totals)
                progress.sums = totals.tolist()
            on_step(progress.step, totals)
        self._check_finite(totals)
        progress.epoch, progress.step, progress.sums = progress.epoch + 1, 0, []
        self.balancer.end_epoch(totals[:num_tasks] / totals[num_tasks:])  # 0 / 0 is NaN: no label in the epoch
        return mean_losses(self.experiment, totals, "train") | self.monitor.end_epoch()

    def evaluate(self, shard: Shard) -> dict[str, float]:
        """Evaluate the rows of a split, see `mtl_ray.evaluation.evaluate.evaluate`."""
        return evaluate(self.experiment, self.evaluated, shard, self.device, self.dtype)

    def _check_finite(self, totals: Tensor) -> None:
        """Raises FloatingPointError, on all workers alike, before a checkpoint that nothing could mend."""
        losses = zip(self.model.tasks, totals.tolist(), strict=False)
        faults = [f"tasks.{name}: the training loss" for name, total in losses if not math.isfinite(total)]
        if not faults and not all(bool(parameter.isfinite().all()) for parameter in self.model.parameters()):
            faults = ["a weight after a step"]
        if faults:
            raise FloatingPointError(
                f"{faults[0]} of epoch {self.progress.epoch + 1} is not finite; "
                "lower training.optimizer.lr or set training.clip_norm"
            )

    def state(self) -> dict[str, Any]:
        """All but the evaluated weights: what a resumed run needs."""
        return {
            "model": self.model.state_dict() if self.average is not None else None,
            "num_averaged": None if self.average is None else self.average.n_averaged,
            **self.optimizers.state(),
            "scaler": self.scaler.state_dict(),
            "balancer": self.balancer.state_dict(),
            "monitor": self.monitor.state(),
            "progress": vars(self.progress),
        }

    def resume(self, folder: Path) -> None:
        """Continue from a checkpoint folder as if never interrupted."""
        state = checkpoint.load_trainer(folder)
        self.evaluated.load_state_dict(checkpoint.load(folder).model.state_dict())
        if self.average is not None:
            self.model.load_state_dict(state["model"])
            self.average.n_averaged.copy_(state["num_averaged"])
        self.optimizers.load(state)
        self.scaler.load_state_dict(state["scaler"])
        self.balancer.load_state_dict(state["balancer"])
        self.monitor.resume(state["monitor"])
        self.progress = Progress(**state["progress"])
