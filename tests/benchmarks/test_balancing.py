"""Time of a step with every task weighting over equal weights: writes docs/results/balancing_cost.md.

A backward pass a task is measured beside them, and TorchJD's own backward. The latter refuses a mixture, where the
tasks' gates read the shared inputs past the representation, so it is compared on a shared bottom.

MMoE, 4 tasks, batch 4096, 100,000 embeddings of width 32, one thread. Every method alternates with equal weights, step
by step, so that both see the same machine.
"""

import time
from collections.abc import Callable
from pathlib import Path
from statistics import mean, median

import torch
from torchjd.aggregation import UPGrad
from torchjd.autojac import jac_to_grad, mtl_backward

from mtl_ray.config import Experiment, override
from mtl_ray.data.loader import Batch
from mtl_ray.models.masking import MaskedBatch
from mtl_ray.schema import ROW, FittedFeature, FittedTask, Schema, label_column
from mtl_ray.training.trainer import Trainer
from tests.support import balancings, small_experiment

BATCH, STEPS, WARMUP = 4096, 20, 3
ROWS = {"user_id": 80_000, "item_id": 20_000, "occupation": 30, "category": 100}
TASKS = {"click": "binary", "like": "binary", "purchase": "binary", "rating": "regression"}
MODEL = {"embedding_dim": 32, "encoder": {"hidden": [256, 128]}, "tower": {"hidden": [64]}}
RESULT = Path(__file__).parents[2] / "docs/results/balancing_cost.md"
REQUIRED = {
    "bandit": {"targets": ["rating"], "every": 20, "rows": BATCH},
    "scheduled": {"weights": {"click": {0: 1.0}}},
}


def experiment_with(balancing: dict, model: str = "mmoe") -> Experiment:
    features = {
        name: {"kind": "id" if name.endswith("_id") else "categorical", "entity": entity_of(name)} for name in ROWS
    }
    changes = {"features": features, "tasks": TASKS, "model": {"kind": model, **MODEL}}
    changes |= {"training": {"batch_size": BATCH}}
    settings = balancing | REQUIRED.get(balancing["kind"], {}) | {"diagnostics_every": 0}
    return override(small_experiment(), changes | {"balancing": settings} | {"data.time": None, "data.split": "random"})


def entity_of(feature: str) -> str:
    return "user" if feature in ("user_id", "occupation") else "item"


def trainer_of(experiment: Experiment) -> Trainer:
    schema = Schema(
        features={name: FittedFeature(num_embeddings=size) for name, size in ROWS.items()},
        tasks={name: FittedTask() for name in TASKS},
        num_rows={"train": 100 * BATCH},
        train_offsets=(0, 100 * BATCH),
        num_lanes=1,
        fingerprint="f",
        content_hash="c",
    )
    return Trainer(experiment, schema, torch.device("cpu"))


def random_batch(seed: int) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    batch = {name: torch.randint(0, size, (BATCH,), generator=generator) for name, size in ROWS.items()}
    labels = {name: torch.randint(0, 2, (BATCH,), generator=generator).float() for name in TASKS}
    return batch | {ROW: torch.arange(BATCH)} | {label_column(name): label for name, label in labels.items()}


BATCHES = [random_batch(seed) for seed in range(4)]


def unmasked(trainer: Trainer, batch: Batch) -> MaskedBatch:
    return trainer.losses.masking.nothing(batch)


def our_step(trainer: Trainer) -> Callable[[int], object]:
    return lambda number: trainer.step(BATCHES[number % len(BATCHES)], BATCHES[0])


def torchjd_step(trainer: Trainer) -> Callable[[int], object]:
    """TorchJD's own backward: the Jacobian of the losses on all shared parameters."""
    aggregator = UPGrad()

    def step(number: int) -> None:
        trainer.model.train()
        seen = trainer.losses.of_batch(unmasked(trainer, BATCHES[number % len(BATCHES)]))
        shared = seen.shared_parameters
        mtl_backward(list(seen.losses), features=seen.representation)
        jac_to_grad(shared, aggregator)
        trainer.optimizers.step(trainer.precision.scaler)

    return step


def parameter_pass_step(trainer: Trainer) -> Callable[[int], object]:
    """One backward pass through the whole model for each task, as LibMTL and most published codes do."""
    weighting = UPGrad().gramian_weighting

    def step(number: int) -> None:
        trainer.model.train()
        seen = trainer.losses.of_batch(unmasked(trainer, BATCHES[number % len(BATCHES)]))
        parameters = list(trainer.model.parameters())
        rows = []
        for loss in seen.losses:
            gradients = torch.autograd.grad(loss, parameters, retain_graph=True, materialize_grads=True)
            rows.append(torch.cat([gradient.flatten() for gradient in gradients]))
        jacobian = torch.stack(rows)
        combined = weighting(jacobian @ jacobian.T) @ jacobian
        for parameter, part in zip(parameters, combined.split([p.numel() for p in parameters]), strict=True):
            parameter.grad = part.view_as(parameter)
        trainer.optimizers.step(trainer.precision.scaler)

    return step


def seconds(step: Callable[[int], object], number: int) -> float:
    start = time.perf_counter()
    step(number)
    return time.perf_counter() - start


def ratio_over_equal(step: Callable[[int], object], average=median, model: str = "mmoe") -> tuple[float, float]:
    """Seconds of a step, and the ratio to those of the step with equal weights just before."""
    equal = our_step(trainer_of(experiment_with({"kind": "equal"}, model)))
    pairs = [(seconds(equal, number), seconds(step, number)) for number in range(WARMUP + STEPS)][WARMUP:]
    return average(own for _, own in pairs), average(own / base for base, own in pairs)


def test_cost_of_balancing(performance):
    torch.set_num_threads(1)
    rows = []
    for kind, settings in balancings().items():
        step = our_step(trainer_of(experiment_with(settings)))
        # A round of the bandit comes every 20 steps; their mean has one.
        rows.append((kind, *ratio_over_equal(step, mean if kind == "bandit" else median)))
    step = our_step(trainer_of(experiment_with({"kind": "famo", "sample": 1 / 16})))
    rows.append(("famo, sample: 0.0625", *ratio_over_equal(step)))
    for kind in ("mgda", "upgrad"):
        step = our_step(trainer_of(experiment_with({"kind": kind, "space": "parameters"})))
        rows.append((f"{kind}, space: parameters", *ratio_over_equal(step)))
    step = parameter_pass_step(trainer_of(experiment_with({"kind": "equal"})))
    rows.append(("a backward pass a task, UPGrad", *ratio_over_equal(step)))
    looking = trainer_of(override(experiment_with({"kind": "equal"}), {"balancing.diagnostics_every": 1}))
    rows.append(("equal, diagnostics in every step", *ratio_over_equal(our_step(looking))))
    bottom = "shared_bottom"
    makers = {"UPGrad": our_step, "TorchJD mtl_backward, UPGrad": torchjd_step}
    makers["a backward pass a task, UPGrad"] = parameter_pass_step
    for name, make in makers.items():
        step = make(trainer_of(experiment_with({"kind": "upgrad" if make is our_step else "equal"}, bottom)))
        rows.append((f"{bottom}: {name}", *ratio_over_equal(step, model=bottom)))
    ratios = {name: ratio for name, _, ratio in rows}
    for name in ("upgrad", "famo", "a backward pass a task, UPGrad"):
        performance(f"step with {name} over equal weights", ratios[name], note="MMoE, see balancing_cost.md")
    title = f"mmoe with 4 experts, 4 tasks, batch {BATCH}, {sum(ROWS.values()):,} x 32 embeddings, 1 thread of a CPU"
    table = [f"| {name} | {1000 * time_of_step:.1f} | {ratio:.2f} |" for name, time_of_step, ratio in rows]
    text = "\n".join([*HEAD, title, "", "| method | ms a step | over equal |", "|---|---|---|", *table, ""])
    RESULT.write_text(text)
    print(text)


HEAD = (
    "# Time of a training step by task weighting",
    "",
    "Medians of 20 steps, each beside one with equal weights; `bandit`: the mean of 20 steps, one with a round.",
    "Made by `pytest tests/benchmarks/test_balancing.py -s`.",
    "",
)
