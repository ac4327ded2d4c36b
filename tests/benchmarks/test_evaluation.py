"""Evaluation with all metrics and segments over a bare forward pass."""

import statistics
import time
from collections.abc import Callable

import ray
import torch

from mtl_ray.cluster.session import connect
from mtl_ray.data.prepare import prepare
from mtl_ray.training.trainer import Trainer
from tests.support import shard, small_experiment

REPETITIONS = 7
SETTINGS = {
    "data__source__num_interactions": 600_000,
    "data__source__num_users": 20_000,
    "data__source__num_items": 5_000,
    "data__split": {"kind": "random", "valid": 0.0, "test": 0.5},
    "model__embedding_dim": 32,
    "model__encoder": {"hidden": [256, 128]},
    "model__tower": {"hidden": [64]},
    "training__precision": "float32",
    **{f"tasks__{name}": None for name in ("gender", "occupation", "tags")},
}


def seconds(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def test_evaluation_over_a_bare_forward_pass(tmp_path, performance):
    """Metrics of three tasks in all segments, AUC within users among them, over the model's outputs for the same
    batches in memory: one process, one thread, in turn."""
    experiment = small_experiment(**SETTINGS, data__output=str(tmp_path))
    connect()
    try:
        prepared = prepare(experiment)
    finally:
        ray.shutdown()
    torch.set_num_threads(1)
    trainer, rows = Trainer(experiment, prepared.schema, torch.device("cpu")), shard(prepared, "test")
    metrics = trainer.evaluate(rows)  # reads the rows

    def forward() -> None:
        trainer.model.eval()
        with torch.no_grad():
            for batch in rows.evaluation_batches(experiment.evaluation.batch_size):
                trainer.model.evaluation_logits(batch)

    forward()
    pairs = [(seconds(lambda: trainer.evaluate(rows)), seconds(forward)) for _ in range(REPETITIONS)]
    whole, bare = (statistics.median(times) for times in zip(*pairs, strict=True))
    note = f"{prepared.schema.num_rows['test']:,} rows, {len(metrics)} numbers; {whole:.2f} s over {bare:.2f} s"
    ratios = [whole / bare for whole, bare in pairs]
    performance("evaluation over a bare forward pass", ratios, bar=1.3, at_least=False, note=note)
