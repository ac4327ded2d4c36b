"""Step time and optimizer state with tables of ten million rows over those of ten thousand, side by side."""

import statistics
import time

import pytest
import torch

from mtl_ray.config import Experiment, parse
from mtl_ray.schema import Schema
from mtl_ray.training.trainer import Trainer
from tests.unit.conftest import schema_of

BATCH, DIM = 4096, 32
WARMUP, BLOCK = 3, 8
STEPS = WARMUP + 3 * BLOCK


def experiment_of(kind: str) -> Experiment:
    return parse(
        {
            "name": "large",
            "data": {"source": {"kind": "synthetic"}, "split": {"kind": "random"}},
            "features": {
                "user_id": {"kind": "id", "entity": "user"},
                "item_id": {"kind": "id", "entity": "item"},
                "occupation": {"kind": "categorical", "entity": "user"},
                "category": {"kind": "categorical", "entity": "item"},
            },
            "tasks": {"click": "binary", "rating": "regression"},
            "model": {"embedding_dim": DIM, "encoder": {"hidden": [256, 128]}, "tower": {"hidden": [64]}},
            "training": {"batch_size": BATCH, "sparse_tables": {"rows": 100, "kind": kind}},
        },
        "benchmark",
    )


def sized(schema: Schema, rows: int) -> Schema:
    features = {n: f.model_copy(update={"num_embeddings": rows}) for n, f in schema.features.items()}
    return schema.model_copy(update={"features": features})


def batch_of(rows: int, seed: int) -> dict[str, torch.Tensor]:
    torch.manual_seed(seed)
    ids = {name: torch.randint(3, rows, (BATCH,)) for name in ("user_id", "item_id", "occupation", "category")}
    support = {name: torch.ones(BATCH, dtype=torch.int32) for name in ("user_support", "item_support")}
    labels = {"click.label": torch.randint(0, 2, (BATCH,)).float(), "rating.label": torch.randn(BATCH)}
    return ids | support | labels | {"row": torch.arange(BATCH)}


def states_of(trainer: Trainer) -> list[torch.Tensor]:
    """What its optimizers keep."""
    states = [state for optimizer in trainer.optimizers.all for state in optimizer.state.values()]
    return [x for state in states for x in state.values() if torch.is_tensor(x)]


def write_states(trainer: Trainer) -> None:
    """Write all of it, and change nothing."""
    for x in states_of(trainer):
        x.add_(0)


@pytest.mark.parametrize("kind", ["lazy_adam", "rowwise_adagrad"])
def test_ten_million_rows_over_ten_thousand(kind: str, performance):
    """Step time of four tables of ten million rows of 32 numbers, trained row by row, over that of ten thousand; the
    same model and batch size, steps in turn; medians of blocks of eight steps. Each page of the optimizer's state has
    been written before, as it has been after an epoch: the system makes a page when it is."""
    torch.set_num_threads(1)
    experiment, times, memory = experiment_of(kind), {}, {}
    sizes = (10_000, 10_000_000)
    trainers = {n: Trainer(experiment, sized(schema_of(experiment), n), torch.device("cpu")) for n in sizes}
    batches = {n: [batch_of(n, seed) for seed in range(STEPS)] for n in sizes}
    for n in sizes:
        times[n] = []
    for step in range(STEPS):
        if step == WARMUP:
            write_states(trainers[sizes[1]])
        for n in sizes:
            start = time.perf_counter()
            trainers[n].step(batches[n][step])
            times[n].append(time.perf_counter() - start)
    memory = {n: sum(x.nbytes for x in states_of(trainer)) for n, trainer in trainers.items()}
    blocks = [slice(first, first + BLOCK) for first in range(WARMUP, STEPS, BLOCK)]
    small, large = ([statistics.median(times[n][block]) * 1000 for block in blocks] for n in sizes)
    note = (
        f"1 thread, batch {BATCH:,}: {statistics.median(large):.1f} ms over {statistics.median(small):.1f} ms; "
        f"optimizer state {memory[sizes[1]] / 2**20:,.0f} MiB over {memory[sizes[0]] / 2**20:,.1f} MiB"
    )
    ratios = [b / a for a, b in zip(small, large, strict=True)]
    performance(f"tables of 10,000,000 rows over 10,000: {kind}", ratios, bar=1.5, at_least=False, note=note)
