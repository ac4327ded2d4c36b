"""Training rows per second of the Ray Train path over a plain PyTorch loop on the same model, side by side."""

import statistics
import time

import mlflow
import ray
import torch

from mtl_ray.data.load import Shard, read_directly
from mtl_ray.data.prepare import prepare
from mtl_ray.models import MultiTaskModel
from mtl_ray.optimizer import build_optimizer
from mtl_ray.schema import label_column
from mtl_ray.session import connect
from mtl_ray.train import train
from tests.support import small_experiment

ROWS, BATCH, EPOCHS, THREADS = 400_000, 4096, 5, 1


def plain_loop(experiment, prepared) -> float:
    """Median rows per second of the epochs after the first of a hand-written loop: shuffled tensors, one optimizer."""
    torch.set_num_threads(THREADS)
    torch.manual_seed(0)
    shard = Shard(prepared.folder, prepared.schema, "train", 0, 1, 1 << 40, read_directly)
    parts = [rows for _, rows in shard.buckets(range(len(prepared.schema.train_offsets) - 1))]
    data = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    model = MultiTaskModel(experiment, prepared.schema)
    optimizer = build_optimizer(model, experiment.training.optimizer)
    weights = experiment.weights()
    rates = []
    for _ in range(EPOCHS):
        start = time.perf_counter()
        order = torch.randperm(len(data["row"]))
        for first in range(0, len(order), BATCH):
            index = order[first : first + BATCH]
            batch = {name: column[index] for name, column in data.items()}
            outputs = model(batch).logits
            losses = []
            for name, task in model.tasks.items():
                label = batch[label_column(name)]
                total, count = task.loss(outputs[name], label, task.labelled(label))
                losses.append(weights[name] * total / count.clamp(min=1))
            torch.stack(losses).sum().backward()
            optimizer.step()
            optimizer.zero_grad()
        rates.append(len(order) / (time.perf_counter() - start))
    return statistics.median(rates[1:])


def test_ray_train_over_a_plain_loop(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    experiment = small_experiment(
        **{
            "data__source__num_interactions": ROWS,
            "data__source__num_users": 20_000,
            "data__source__num_items": 5_000,
            "data__output": str(tmp_path / "datasets"),
            "data__split": {"kind": "random", "valid": 0.0, "test": 0.01},
            "data__bucket_rows": 250_000,
            "model__embedding_dim": 32,
            "model__encoder": {"hidden": [256, 128]},
            "model__tower": {"hidden": [64]},
            "training__output": str(tmp_path / "runs"),
            "training__precision": "float32",
            "training__batch_size": BATCH,
            "training__epochs": EPOCHS,
            "training__threads_per_worker": THREADS,
            "tracking__uri": f"sqlite:///{tmp_path}/mlflow.db",
        }
    )
    connect()
    try:
        prepared = prepare(experiment)
        plain = plain_loop(experiment, prepared)
        trained = train(experiment, report=lambda _: None)
        client = mlflow.MlflowClient(tracking_uri=experiment.tracking.uri)
        history = client.get_metric_history(trained.run_id, "rows_per_second")
        ours = statistics.median(m.value for m in history[1:])
        again = plain_loop(experiment, prepared)
    finally:
        ray.shutdown()
    base = (plain + again) / 2
    print(f"\ntraining, 1 worker, 1 thread, batch {BATCH}: plain loop {plain:,.0f} and {again:,.0f} rows/s, ", end="")
    print(f"Ray Train {ours:,.0f} rows/s, ratio {ours / base:.3f}")
    assert ours / base > 0.9
