"""One worker equals several: same global batches, unequal label counts, float64."""

import shutil
from pathlib import Path

import pytest
import torch

from mtl_ray.config import Experiment
from mtl_ray.data.dataset import Prepared, open_prepared
from mtl_ray.data.loader import joined, select
from mtl_ray.schema import ROW, label_column, num_steps
from mtl_ray.training.trainer import Trainer
from tests.support import parameters, shard, small_experiment
from tests.workers import run_workers

STEPS = 10


def train_steps(rank: int, world_size: int, experiment: Experiment, prepared: Prepared):
    trainer = Trainer(experiment, prepared.schema, torch.device("cpu"))
    gradients = []

    def keep_gradients(optimizer, *_):
        gradients.append([p.grad.clone() for group in optimizer.param_groups for p in group["params"]])

    trainer.optimizers.dense.register_step_pre_hook(keep_gradients)
    rows, labels = [], []
    batches = shard(prepared, "train", rank, world_size).training_batches(experiment.seed, 0, 256)
    for batch, _ in zip(batches, range(STEPS), strict=False):
        rows.append(batch[ROW])
        labels.append((~torch.isnan(batch[label_column("rating")])).sum().item())
        trainer.step(batch)
    return {"rows": rows, "labels": labels, "gradients": gradients, "parameters": parameters(trainer)}


@pytest.mark.parametrize("world_size", [2, 3])
def test_several_workers_make_the_steps_of_one(prepared: Prepared, tmp_path: Path, world_size: int):
    experiment = small_experiment()
    one = train_steps(0, 1, experiment, prepared)
    several = run_workers(world_size, train_steps, experiment, prepared)
    for step in range(STEPS):
        shared = torch.cat([result["rows"][step] for result in several])
        assert shared.sort().values.tolist() == one["rows"][step].sort().values.tolist()
    assert any(len(set(counts)) > 1 for counts in zip(*(r["labels"] for r in several), strict=True))
    for result in several:
        for expected, found in zip(one["gradients"], result["gradients"], strict=True):
            for a, b in zip(expected, found, strict=True):
                # DDP averages, the optimizer of each worker sees the gradient of the whole batch
                torch.testing.assert_close(b, a, rtol=0, atol=1e-10)
        for name, value in one["parameters"].items():
            torch.testing.assert_close(result["parameters"][name], value, rtol=0, atol=1e-10)


def naive_gradient(rank: int, world_size: int, experiment: Experiment, prepared: Prepared):
    """Each worker takes the mean of its own rows, and gradients are averaged: what this project refuses to do."""
    trainer = Trainer(experiment, prepared.schema, torch.device("cpu"))
    batch = next(iter(shard(prepared, "train", rank, world_size).training_batches(experiment.seed, 0, 256)))
    batch = {name: c.double() if c.is_floating_point() else c for name, c in batch.items()}
    outputs = trainer.parallel.eval()(batch).logits
    losses = []
    for name, task in trainer.model.tasks.items():
        label = batch[label_column(name)]
        loss, count = task.loss(outputs[name], label, task.labelled(label))
        losses.append(loss / count.clamp(min=1))
    (torch.tensor(list(experiment.weights().values())).double() @ torch.stack(losses)).backward()
    return {name: p.grad for name, p in trainer.model.named_parameters() if p.grad is not None}


def test_means_per_worker_would_differ(prepared: Prepared, tmp_path: Path):
    experiment = small_experiment()
    one = naive_gradient(0, 1, experiment, prepared)
    two = run_workers(2, naive_gradient, experiment, prepared)[0]
    assert max(float((one[n] - two[n]).abs().max()) for n in one) > 1e-6


def evaluate_test(rank: int, world_size: int, experiment: Experiment, prepared: Prepared):
    trainer = Trainer(experiment, prepared.schema, torch.device("cpu"))
    return trainer.evaluate(shard(prepared, "test", rank, world_size))


def test_metrics_do_not_depend_on_the_number_of_workers(prepared: Prepared, tmp_path: Path):
    experiment = small_experiment()
    one = evaluate_test(0, 1, experiment, prepared)
    for result in run_workers(2, evaluate_test, experiment, prepared):
        assert result.keys() == one.keys()
        for key, value in one.items():
            assert result[key] == pytest.approx(value, abs=1e-12), key
    assert one["test/click/count"] == prepared.schema.num_rows["test"]


def copy_of(prepared: Prepared, folder: Path) -> Prepared:
    shutil.copytree(prepared.folder.path, folder)
    return open_prepared(str(folder))


def test_a_worker_without_rows_of_a_split_takes_part_in_its_evaluation(prepared: Prepared, tmp_path: Path):
    few = copy_of(prepared, tmp_path / "few")
    for path in (tmp_path / "few/test").glob("*.parquet"):
        if not path.stem.endswith("-000"):
            path.unlink()
    assert not any(shard(few, "test", rank, 3)._files for rank in (1, 2))
    one = evaluate_test(0, 1, small_experiment(), few)
    (tmp_path / "results").mkdir()
    for result in run_workers(3, evaluate_test, small_experiment(), few):
        assert result == pytest.approx(one, abs=1e-12, nan_ok=True)


def test_a_data_set_that_lacks_rows_is_refused(prepared: Prepared, tmp_path: Path):
    broken = copy_of(prepared, tmp_path / "broken")
    next(iter((tmp_path / "broken/train").glob("*-001.parquet"))).unlink()
    with pytest.raises(
        ValueError, match=r"broken: expected \d+ rows of bucket \d+ for worker 0; \d+ of them are missing"
    ):
        list(shard(broken, "train").training_batches(0, 0, 256))


def test_every_row_is_seen_once_an_epoch_in_an_order_that_changes(prepared: Prepared):
    orders = []
    for epoch in (0, 1):
        rows = torch.cat([b[ROW] for b in shard(prepared, "train").training_batches(3, epoch, 256)])
        assert rows.sort().values.tolist() == list(range(prepared.schema.num_rows["train"]))
        orders.append(rows.tolist())
    assert orders[0] != orders[1]


def test_streaming_gives_the_batches_of_the_cache(prepared: Prepared):
    cached, streamed = shard(prepared, "train"), shard(prepared, "train", memory=0)
    for epoch in (0, 1):
        pairs = zip(cached.training_batches(3, epoch, 256), streamed.training_batches(3, epoch, 256), strict=True)
        for a, b in pairs:
            assert all(torch.equal(a[name].nan_to_num(), b[name].nan_to_num()) for name in a)


@pytest.mark.parametrize("first_step", [1, 7, 13])
def test_an_epoch_can_start_at_any_step(prepared: Prepared, first_step: int):
    whole = list(shard(prepared, "train").training_batches(3, 0, 256))
    rest = list(shard(prepared, "train").training_batches(3, 0, 256, first_step))
    assert len(whole) == num_steps(prepared.schema, 256)
    assert [b[ROW].tolist() for b in rest] == [b[ROW].tolist() for b in whole[first_step:]]


@pytest.mark.parametrize("world_size", [2, 5, 16])
def test_all_workers_take_the_same_number_of_steps(prepared: Prepared, world_size: int):
    batches = [
        list(shard(prepared, "train", rank, world_size).training_batches(3, 0, 100)) for rank in range(world_size)
    ]
    assert {len(b) for b in batches} == {num_steps(prepared.schema, 100)}
    for parts in zip(*batches, strict=True):
        assert sum(len(part[ROW]) for part in parts) in (100, prepared.schema.num_rows["train"] % 100)


def test_an_empty_part_of_a_batch_is_harmless(prepared: Prepared):
    trainer = Trainer(small_experiment(), prepared.schema, torch.device("cpu"))
    batch = next(iter(shard(prepared, "train").training_batches(3, 0, 256)))
    nothing = select(batch, torch.zeros(0, dtype=torch.int64))
    totals = trainer.step(nothing)
    assert totals.tolist() == [0.0] * len(totals)
    assert all(torch.isfinite(p).all() for p in trainer.model.parameters())
    assert len(joined(batch, nothing)[ROW]) == len(batch[ROW])
