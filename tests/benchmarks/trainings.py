"""What the benchmarks of training measure: a data set, a hand-written loop, and Ray Train over the same rows."""

import json
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol
from unittest.mock import patch

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import ray
import ray.train
import torch
import torch.distributed as dist

from mtl_ray.cluster.session import connect
from mtl_ray.config import Experiment
from mtl_ray.data.dataset import Prepared, open_prepared
from mtl_ray.data.loader import Shard, read_directly
from mtl_ray.data.prepare import prepare
from mtl_ray.distributed import rank, world_size
from mtl_ray.models import build_model
from mtl_ray.models.sparse import sparse_parameters
from mtl_ray.runs.ray_trainer import RayTrainer
from mtl_ray.schema import label_column, num_steps
from mtl_ray.training.sparse_embeddings import RowwiseAdagrad
from mtl_ray.training.trainer import Trainer
from mtl_ray.training.worker import train_worker, workers_of
from tests.support import small_experiment

ROWS, BATCH = 200_000, 4096
STEPS = 7
"""Of a turn; an epoch has seven."""

Rows = dict[str, torch.Tensor]


def experiment_of(folder: Path, **changes: Any) -> Experiment:
    """Nine features of a user, an item and the user's history, and six tasks; of one worker with one thread."""
    return small_experiment(
        **{
            "data__source__num_interactions": ROWS,
            "data__source__num_users": 20_000,
            "data__source__num_items": 5_000,
            "data__output": str(folder / "datasets"),
            "data__split": {"kind": "random", "valid": 0.0, "test": 0.01},
            "data__bucket_rows": 50_000,
            "data__lanes": 4,
            "model__embedding_dim": 32,
            "model__encoder": {"hidden": [256, 128]},
            "model__tower": {"hidden": [64]},
            "training__output": str(folder / "runs"),
            "training__precision": "float32",
            "training__batch_size": BATCH,
            "training__epochs": 3,
            "training__threads_per_worker": 1,
            **changes,
        }
    )


def prepared_rows(experiment: Experiment) -> Prepared:
    connect()
    return prepare(experiment, echo=lambda _: None)


def widened(prepared: Prepared, size: int, folder: Path) -> Prepared:
    """The same rows with users and items drawn anew among so many that tables of them have `size` rows."""
    source = Path(prepared.folder.location)
    shutil.copytree(source, folder)
    for path in sorted((folder / "train").glob("*.parquet")):
        table, draw = pq.read_table(path), np.random.default_rng(int(path.stem.replace("-", "")))
        for name in sorted({"user_id", "item_id", "history"} & set(table.column_names)):
            column = table.column(name).combine_chunks()
            lists = pa.types.is_fixed_size_list(column.type)
            ids = column.flatten().to_numpy() if lists else column.to_numpy()
            drawn = pa.array(
                np.where(ids == 0, 0, draw.integers(3, size, len(ids))),
                column.type.value_type if lists else column.type,
            )
            column = pa.FixedSizeListArray.from_arrays(drawn, column.type.list_size) if lists else drawn
            table = table.set_column(table.column_names.index(name), table.schema.field(name), column)
        pq.write_table(table, path)
    schema = json.loads((folder / "schema.json").read_text())
    for name in ("user_id", "item_id"):
        schema["features"][name]["num_embeddings"] = size
    (folder / "schema.json").write_text(json.dumps(schema))
    return open_prepared(str(folder))


def all_rows(prepared: Prepared) -> Rows:
    """The training rows as tensors in memory."""
    shard = Shard(prepared.folder, prepared.schema, "train", 0, 1, 1 << 40, read_directly)
    parts = [rows for _, rows in shard.partitions(range(len(prepared.schema.train_offsets) - 1))]
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


class PlainLoop:
    """A hand-written loop: the model, shuffled tensors and torch's optimizers."""

    def __init__(self, experiment: Experiment, prepared: Prepared, data: Rows) -> None:
        torch.manual_seed(0)
        self.data, self.weights = data, experiment.weights()
        self.threads = experiment.training.threads_per_worker or torch.get_num_threads()
        self.model = build_model(experiment, prepared.schema)
        tables = list(sparse_parameters(self.model).values())
        others = [p for p in self.model.parameters() if all(p is not table for table in tables)]
        self.optimizers: list[torch.optim.Optimizer] = [
            torch.optim.AdamW(others, lr=1e-3, weight_decay=0.0, fused=True)
        ]
        if tables:
            self.optimizers.append(sparse_optimizer(experiment, tables))

    def turns(self) -> Iterator[float]:
        """An epoch: the seconds of each `STEPS` of its steps, which run when they are asked for."""
        threads, start = torch.get_num_threads(), time.perf_counter()
        batches = torch.randperm(len(self.data["row"])).split(BATCH)
        for first in range(0, len(batches), STEPS):
            torch.set_num_threads(self.threads)
            for index in batches[first : first + STEPS]:
                self._step(index)
            torch.set_num_threads(threads)
            yield time.perf_counter() - start
            start = time.perf_counter()

    def _step(self, index: torch.Tensor) -> None:
        batch = {name: column[index] for name, column in self.data.items()}
        outputs = self.model(batch).logits
        losses = []
        for name, task in self.model.tasks.items():
            label = batch[label_column(name)]
            total, count = task.loss(outputs[name], label, task.labelled(label))
            losses.append(self.weights[name] * total / count.clamp(min=1))
        torch.stack(losses).sum().backward()
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad()


def sparse_optimizer(experiment: Experiment, tables: list[torch.nn.Parameter]) -> torch.optim.Optimizer:
    """What a hand-written loop takes for tables with sparse gradients."""
    settings = experiment.training.sparse_tables
    if settings is not None and settings.kind == "rowwise_adagrad":
        return RowwiseAdagrad(tables, lr=1e-3)
    return torch.optim.SparseAdam(tables, lr=1e-3)


class Turns(Protocol):
    """A training whose steps run when they are asked for."""

    def turns(self) -> Iterator[float]:
        """An epoch: the seconds of each `STEPS` of its steps."""
        ...


def in_turns(*trainings: Turns) -> list[float]:
    """Seconds of an epoch of each, of which every one makes `STEPS` steps, then the next: all see the same machine.

    The speed of a virtual machine changes more from one epoch to the next than they differ.
    """
    return [sum(parts) for parts in zip(*zip(*(each.turns() for each in trainings), strict=True), strict=True)]


class RayTraining:
    """A training through Ray Train whose workers wait until they are called, each `STEPS` steps."""

    def __init__(self, experiment: Experiment, prepared: Prepared, folder: Path) -> None:
        self.turn, steps = 0, num_steps(prepared.schema, experiment.training.batch_size)
        self.turns_per_epoch = -(-steps // STEPS)
        self.communication: list[float] = []
        """Share of each epoch's time in which the first worker waited for others."""
        self.place = folder / f"turns-{time.monotonic_ns()}"
        self.place.mkdir(parents=True)
        self.run = threading.Thread(target=self._train, args=(experiment, prepared))
        self.error: Exception | None = None
        self.run.start()

    def _train(self, experiment: Experiment, prepared: Prepared) -> None:
        """Ray Train as `train` sets it up, without MLflow; its checkpoints are gone in the end."""
        folder, name = self.place.parent, f"run-{self.place.name}"
        tree = experiment.model_dump(mode="json", exclude_unset=True)
        plain = {"experiment": tree, "dataset": prepared.folder.location, "bars": False, "trace": None}
        plain |= {"title": "", "beside": 1}
        try:
            RayTrainer(
                _train_in_turns,
                train_loop_config={**plain, "turns": str(self.place)},
                scaling_config=workers_of(experiment.training),
                run_config=ray.train.RunConfig(
                    name=name,
                    storage_path=str(folder),
                    checkpoint_config=ray.train.CheckpointConfig(num_to_keep=1),
                    logging_config=ray.train.LoggingConfig(log_level="WARNING"),
                ),
            ).fit()
            shutil.rmtree(folder / name)
        except Exception as error:
            self.error = error

    def turns(self) -> Iterator[float]:
        """An epoch, see `Turns`."""
        for _ in range(self.turns_per_epoch):
            go, done = self.place / f"{self.turn}.go", self.place / f"{self.turn}.done"
            self.turn += 1
            go.touch()
            while not done.exists():
                if not self.run.is_alive():
                    raise RuntimeError("the training ended before its time") from self.error
                time.sleep(POLL)
            seconds, *communication = json.loads(done.read_text())
            self.communication += communication
            yield seconds

    def end(self) -> None:
        """Wait for the end, after as many epochs as the experiment has."""
        self.run.join()
        if self.error is not None:
            raise self.error


POLL = 0.01
"""Seconds between two looks at whose turn it is."""


class _Clock:
    """Of a worker: measures its turns, and lets the first one of them tell."""

    def __init__(self, place: Path) -> None:
        self.place, self.turn, self.start, self.seconds = place, 0, 0.0, 0.0

    def begin(self) -> None:
        """Wait for the next turn."""
        while rank() == 0 and not (self.place / f"{self.turn}.go").exists():
            time.sleep(POLL)
        if world_size() > 1:
            dist.barrier()
        self.start = time.perf_counter()

    def end(self) -> float:
        """The turn's seconds."""
        return time.perf_counter() - self.start

    def tell(self, seconds: float, *communication: float) -> None:
        """Hand on to the next training."""
        if rank() == 0:
            aside = self.place / f"{self.turn}.partial"
            aside.write_text(json.dumps([seconds, *communication]))
            aside.rename(self.place / f"{self.turn}.done")
        self.turn += 1


def _train_in_turns(config: dict[str, Any]) -> Exception | None:
    """`train_worker` in turns. The last turn of an epoch is told once all that follows it is done: what a worker
    reports and writes is no part of the epoch, nor of another training's."""
    clock, plain_epoch, plain_step = _Clock(Path(config.pop("turns"))), Trainer.epoch, Trainer.step
    last: list[tuple[float, ...]] = []

    def tell_last() -> None:
        while last:
            clock.tell(*last.pop())

    def step(trainer: Trainer, *args: Any) -> torch.Tensor:
        if trainer.progress.step and trainer.progress.step % STEPS == 0:
            seconds = clock.end()
            clock.tell(seconds)
            clock.seconds += seconds
            clock.begin()
        return plain_step(trainer, *args)

    def epoch(trainer: Trainer, *args: Any) -> dict[str, float]:
        tell_last()
        clock.seconds = 0.0
        clock.begin()
        metrics = plain_epoch(trainer, *args)
        seconds = clock.end()
        own = trainer.meter.own()
        waited = own["system/communication"] * own["system/step_seconds"] * trainer.meter.steps
        last.append((seconds, waited / (clock.seconds + seconds)))
        return metrics

    with patch.object(Trainer, "epoch", epoch), patch.object(Trainer, "step", step):
        try:
            return train_worker(config)
        finally:
            tell_last()
