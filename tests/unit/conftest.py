"""A small model on random encoded rows: what the tests of models, masks and checkpoints share."""

import pyarrow as pa
import pytest
import torch

from mtl_ray.config import Experiment
from mtl_ray.models import MultiTaskModel, build_model
from mtl_ray.schema import FIRST, NULL, PADDING, FittedFeature, FittedTask, Schema
from tests.support import small_experiment

SIZES = {"user_id": 20, "item_id": 15, "gender": 5, "occupation": 9, "category": 8, "tags": 12, "price": 11}


@pytest.fixture
def experiment():
    return small_experiment(training__precision="float32", features__history__values="rating")


def schema_of(experiment: Experiment) -> Schema:
    features = {name: FittedFeature() for name in experiment.features}
    features |= {n: FittedFeature(num_embeddings=size) for n, size in SIZES.items()}
    features |= {"age": FittedFeature(mean=40, std=10), "history": FittedFeature(num_embeddings=15, mean=3, std=1)}
    return Schema(
        features=features,
        tasks={n: FittedTask(classes=("a", "b", "c"), mean=0.5) for n in experiment.tasks},
        num_rows={"train": 10, "valid": 0, "test": 0},
        train_offsets=(0, 10),
        num_lanes=1,
        fingerprint="f",
        content_hash="c",
    )


def vocabulary_table() -> pa.Table:
    """The vocabulary of `schema_of`: as many values as its tables have rows."""
    words = [name for name, size in SIZES.items() if name != "price" for _ in range(size - FIRST)]
    return pa.table({"feature": words, "value": [str(i) for i in range(len(words))], "count": [1] * len(words)})


@pytest.fixture
def schema(experiment) -> Schema:
    return schema_of(experiment)


def batch_of(size: int, seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)

    def rows(high: int, *shape: int) -> torch.Tensor:
        return torch.randint(NULL, high, shape, generator=generator, dtype=torch.int32)

    batch = {name: rows(high, size) for name, high in SIZES.items() if name != "tags"}
    history = rows(15, size, 10)
    history[:, 6:] = PADDING
    return {
        **batch,
        "tags": rows(12, size, 3),
        "user_support": torch.randint(0, 30, (size,), generator=generator, dtype=torch.int32),
        "item_support": torch.randint(0, 30, (size,), generator=generator, dtype=torch.int32),
        "age": torch.randn(size, generator=generator),
        "history": history,
        "history.values": torch.randn(size, 10, generator=generator),
    }


@pytest.fixture
def model(experiment, schema) -> MultiTaskModel:
    torch.manual_seed(0)
    return build_model(experiment, schema).eval()
