"""Training rows per second of an MMoE through Ray Train, over the same model in the trainers of other libraries."""

import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray
import torch
from torch.utils.flop_counter import FlopCounterMode

from mtl_ray.config import Experiment, override
from mtl_ray.data.dataset import Prepared
from mtl_ray.models import build_model
from tests.benchmarks.trainings import BATCH, RayTraining, all_rows, experiment_of, in_turns, prepared_rows, widened
from tests.support import TREE

REPETITIONS = 3
FEATURES = ("user_id", "item_id", "gender", "occupation", "category", "price")
TASKS = ("click", "rating")
EXPERTS, EXPERT, TOWER = 4, (128, 64), (32,)
DIM = 16

TABLES = {"small tables": None, "tables of 100,000 rows": 100_000, "tables of 1,000,000 rows": 1_000_000}
"""Rows of the tables of users and items. With small ones most of a step are matrix products, the same everywhere."""


def mmoe(folder: Path) -> Experiment:
    """Six features with an embedding each, two tasks, no inputs that are hidden."""
    return experiment_of(
        folder,
        features={name: TREE["features"][name] for name in FEATURES},
        tasks={"click": "binary", "rating": "regression"},
        model={
            "kind": "mmoe",
            "experts": EXPERTS,
            "embedding_dim": DIM,
            "encoder": {"hidden": list(EXPERT)},
            "tower": {"hidden": list(TOWER)},
        },
    )


def sizes_of(prepared: Prepared) -> dict[str, int]:
    found = {name: prepared.schema.features[name].num_embeddings for name in FEATURES}
    assert all(found.values())
    return found  # pyright: ignore[reportReturnType]


def torch_rechub(sizes: dict[str, int]) -> Any:
    features = pytest.importorskip("torch_rechub.basic.features")
    from torch_rechub.models.multi_task import MMOE

    inputs = [features.SparseFeature(name, vocab_size=size, embed_dim=DIM) for name, size in sizes.items()]
    towers = [{"dims": list(TOWER)} for _ in TASKS]
    return MMOE(inputs, ["classification", "regression"], EXPERTS, {"dims": list(EXPERT)}, towers)


def train_torch_rechub(model: Any, x: dict[str, np.ndarray], y: np.ndarray) -> None:
    from torch_rechub.trainers import MTLTrainer
    from torch_rechub.utils.data import DataGenerator

    few = {name: column[:2] for name, column in x.items()}
    loader, *_ = DataGenerator(x, y).generate_dataloader(few, y[:2], few, y[:2], batch_size=BATCH)
    kinds = ["classification", "regression"]
    trainer = MTLTrainer(model, kinds, optimizer_params={"lr": 1e-3, "weight_decay": 0.0}, n_epoch=1)
    trainer.train_one_epoch(loader)


def deepctr_torch(sizes: dict[str, int]) -> Any:
    inputs = pytest.importorskip("deepctr_torch.inputs")
    from deepctr_torch.models.multitask.mmoe import MMOE

    model = MMOE(
        [inputs.SparseFeat(name, vocabulary_size=size, embedding_dim=DIM) for name, size in sizes.items()],
        num_experts=EXPERTS,
        expert_dnn_hidden_units=EXPERT,
        gate_dnn_hidden_units=(),
        tower_dnn_hidden_units=TOWER,
        l2_reg_embedding=0.0,
        l2_reg_linear=0.0,
        task_types=["binary", "regression"],
        task_names=list(TASKS),
    )
    model.compile("adam", loss=["binary_crossentropy", "mse"], metrics=[])
    return model


def train_deepctr_torch(model: Any, x: dict[str, np.ndarray], y: np.ndarray) -> None:
    model.fit(x, y, batch_size=BATCH, epochs=1, verbose=0)


def size_and_work(model: torch.nn.Module, *inputs: Any) -> tuple[int, float]:
    """Parameters, and multiply-adds of the forward pass of two rows."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.eval()(*inputs)
    return sum(p.numel() for p in model.parameters() if p.requires_grad), counter.get_total_flops() / 2


LIBRARIES = {
    "torch-rechub": (torch_rechub, train_torch_rechub),
    "DeepCTR-Torch": (deepctr_torch, train_deepctr_torch),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("others")


@pytest.fixture(scope="module")
def prepared(folder):
    yield prepared_rows(mmoe(folder))
    ray.shutdown()


@pytest.mark.filterwarnings("ignore")  # of the other libraries
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", TABLES)
def test_ray_train_over_other_trainers(name: str, prepared, folder: Path, performance):
    """Rows/s of an MMoE through Ray Train, 1 worker and thread, over an epoch of the trainers of torch-rechub and
    DeepCTR-Torch on the same rows: equal tables, 4 experts of 128 and 64 units, a softmax gate without hidden layer and
    a tower of 32 units a task, so equal multiply-adds; parameters differ by batch normalisation and biases alone. They
    take turns, an epoch each."""
    size = TABLES[name]
    data = prepared if size is None else widened(prepared, size, folder / f"rows-{size}")
    experiment, sizes = mmoe(folder), sizes_of(data)
    rows = all_rows(data)
    x = {name: rows[name].numpy() for name in FEATURES}
    y = np.stack([rows[f"{task}.label"].nan_to_num(0).numpy() for task in TASKS], 1).astype(np.float32)
    two = {name: column[:2] for name, column in rows.items()}
    own = size_and_work(build_model(experiment, data.schema), two)
    ids = {name: column[:2] for name, column in rows.items() if name in FEATURES}
    torch.set_num_threads(1)
    ratios: dict[str, list[float]] = {library: [] for library in LIBRARIES}
    rates: dict[str, list[float]] = {library: [] for library in LIBRARIES}
    training = RayTraining(override(experiment, {"training.epochs": 1 + REPETITIONS}), data, folder / "storage")
    in_turns(training)  # reads files and begins with cold memory
    for _ in range(REPETITIONS):
        (seconds,) = in_turns(training)
        ours = len(y) / seconds
        for library, (build, train) in LIBRARIES.items():
            model = build(sizes)
            wanted = torch.stack(list(ids.values()), 1).float() if library == "DeepCTR-Torch" else ids
            parameters, work = size_and_work(model, wanted)
            # torch-rechub mixes experts by products that are not counted.
            assert work == pytest.approx(own[1], rel=0.01)
            assert parameters == pytest.approx(own[0], rel=0.01)
            model.train()
            start = time.perf_counter()
            train(model, dict(x), y)
            rates[library].append(len(y) / (time.perf_counter() - start))
            ratios[library].append(ours / rates[library][-1])
    training.end()
    for library in LIBRARIES:
        note = f"1 thread, batch {BATCH:,}; {library} {statistics.median(rates[library]):,.0f} rows/s"
        performance(f"MMoE through Ray Train over {library}: {name}", ratios[library], bar=1.6, note=note)
