"""Every task weighting takes the same steps on one worker and on several: weights and parameters, in float64."""

from contextlib import ExitStack
from unittest import mock

import pytest
import torch

from mtl_ray.config import override
from mtl_ray.data.dataset import Prepared
from mtl_ray.data.loader import draw_rows
from mtl_ray.schema import ROW, label_column
from mtl_ray.training.trainer import Trainer
from tests.support import TREE, balancings, parameters, shard, small_experiment
from tests.workers import run_workers

STEPS, STEPS_AN_EPOCH = 10, 3
SGD = {"kind": "sgd", "lr": 0.05, "momentum": 0.9}
"""An optimizer that does not magnify rounding: Adam divides by it where a gradient is 0."""
SMALLER = {
    "features": {name: TREE["features"][name] for name in ("user_id", "item_id", "gender", "category", "age")},
    "tasks": {name: TREE["tasks"][name] for name in ("click", "rating", "purchase", "gender")},
}
CASES = balancings() | {
    f"{kind} on parameters": {**settings, "space": "parameters"}
    for kind, settings in balancings().items()
    if kind in ("gradnorm", "pcgrad", "gradient_to_target")
}
CASES |= {f"{kind} with mixtures": CASES[kind] for kind in ("mgda", "graddrop")}
CASES["famo with a sample"] = {"kind": "famo", "sample": 0.5}
CASES["cagrad with a dot product"] = CASES["cagrad"]


def with_gaps(batch, step: int, num_lanes: int, num_parts: int):
    """Rows of the first of `num_parts` workers have no rating; in one step nobody has a click."""
    rating = batch[label_column("rating")].clone()
    rating[batch[ROW] % num_lanes % num_parts == 0] = torch.nan
    click = batch[label_column("click")]
    return batch | {
        label_column("rating"): rating,
        label_column("click"): torch.full_like(click, torch.nan) if step == 4 else click,
    }


def train(rank: int, world_size: int, prepared: Prepared, num_parts: int, name: str):
    changes = {"balancing": CASES[name], "training.affinity_every": 3 if name == "static" else 0}
    # The dot product reaches the embeddings past the representation.
    changes["model.interaction"] = "dot" if "dot" in name or "parameters" in name else "concat"
    changes["model.kind"] = "mmoe" if "mixtures" in name else "shared_bottom"
    experiment = override(small_experiment(training__optimizer=SGD), SMALLER | changes)
    trainer = Trainer(experiment, prepared.schema, torch.device("cpu"))
    probe = draw_rows(shard(prepared, "valid", rank, world_size), 200, experiment.seed)
    weights, metrics, totals, labels = [], [], 0, []
    trainer.balancer.register_forward_hook(lambda *arguments: weights.append(arguments[-1][1]))
    batches = shard(prepared, "train", rank, world_size).training_batches(experiment.seed, 0, 256)
    for number, batch in zip(range(STEPS), batches, strict=False):
        part = with_gaps(batch, number, prepared.schema.num_lanes, num_parts)
        labels.append((~torch.isnan(part[label_column("rating")])).sum().item())
        totals = totals + trainer.step(part, probe)
        if (number + 1) % STEPS_AN_EPOCH == 0:
            sums, counts = totals.chunk(2)
            trainer.balancer.end_epoch(sums / counts)
            trainer.progress.epoch, trainer.progress.step, totals = trainer.progress.epoch + 1, 0, 0
            metrics.append(trainer.monitor.end_epoch() | trainer.balancer.metrics())
    return {
        "weights": torch.stack(weights),
        "parameters": parameters(trainer),
        "metrics": metrics,
        "labels": sum(labels),
    }


@pytest.mark.parametrize("world_size", [2, 3])
@pytest.mark.parametrize("name", CASES)
def test_one_worker_equals_several(prepared: Prepared, world_size: int, name: str):
    expected = train(0, 1, prepared, world_size, name)
    several = run_workers(world_size, train, prepared, world_size, name)
    assert several[0]["labels"] == 0 < several[1]["labels"]
    assert expected["weights"].isfinite().all()
    assert all(value.isfinite().all() for value in expected["parameters"].values())
    for found in several:
        difference = (found["weights"] - expected["weights"]).abs().max()
        assert difference < 1e-10 * max(1, expected["weights"].abs().max()), difference
        for key, value in expected["parameters"].items():
            assert (found["parameters"][key] - value).abs().max() < 1e-10, key
        for epoch, metrics in enumerate(expected["metrics"]):
            assert found["metrics"][epoch] == pytest.approx(metrics, abs=1e-8)


def train_naively(rank: int, world_size: int, prepared: Prepared, num_parts: int, name: str):
    """Each worker counts and balances its own rows, as codes without this care do; gradients are averaged by DDP."""

    def own(tensor):
        return tensor.detach().clone()

    places = ("mtl_ray.balancing.task_losses", "mtl_ray.balancing.affinity")
    with ExitStack() as stack:
        for place in places:
            stack.enter_context(mock.patch(f"{place}.sum_over_ranks", own))
        return train(rank, world_size, prepared, num_parts, name)


@pytest.mark.parametrize("name", ["static", "uncertainty", "pcgrad"])
def test_statistics_of_one_worker_would_differ(prepared: Prepared, name: str):
    expected = train(0, 1, prepared, 2, name)["parameters"]
    first, second = run_workers(2, train_naively, prepared, 2, name)
    assert max(float((first["parameters"][key] - value).abs().max()) for key, value in expected.items()) > 1e-4
    if name != "static":
        assert (first["weights"] - second["weights"]).abs().max() > 1e-6
