"""A harmful auxiliary task, and what each method leaves of the harm: writes docs/results/harmful_task.md.

The target is a rating that few rows have. Clicks and purchases help it; `harmful` has heavy-tailed labels that have to
do with nothing. Reference: the same tasks without it, with equal weights.
"""

from pathlib import Path
from statistics import mean

import ray
import torch

from mtl_ray.balancing.affinity import affinity_of, helpful_tasks
from mtl_ray.data.load import Shard, draw_rows, read_directly
from mtl_ray.data.prepare import Prepared, prepare
from mtl_ray.evaluation import evaluate
from mtl_ray.experiment import Experiment, override
from mtl_ray.loop import Trainer
from tests.support import small_experiment

SEEDS, TARGET, HARMFUL = range(5), "rating", "harmful"
RESULT = Path(__file__).parents[2] / "docs/results/harmful_task.md"
TASKS = {"rating": "regression", "click": "binary", "purchase": "binary", "harmful": "regression"}
SETTINGS = {
    "tasks": TASKS,
    "data.source": {
        **{"kind": "synthetic", "num_users": 2000, "num_items": 500, "num_interactions": 60_000, "harmful": True},
        "label_share": {"click": 1.0, "rating": 0.1, "purchase": 0.5, "harmful": 1.0},
    },
    "data.bucket_rows": 60_000,
    "data.split": {"kind": "random", "valid": 0.1, "test": 0.2},
    "model": {"embedding_dim": 8, "encoder": {"hidden": [32, 16]}, "tower": {"hidden": [8]}},
    "training": {"batch_size": 512, "epochs": 8, "optimizer": {"lr": 3e-3, "embedding_weight_decay": 0.1}},
}
METHODS = {
    "equal, without the harmful task": {},
    "equal": {},
    "gradient_to_target": {"kind": "gradient_to_target", "target": TARGET},
    "gradient_to_target, space: parameters": {"kind": "gradient_to_target", "target": TARGET, "space": "parameters"},
    "bandit": {"kind": "bandit", "targets": [TARGET]},
}


def train(experiment: Experiment, prepared: Prepared) -> tuple[float, dict[str, float]]:
    """RMSE of the target on the test rows, by the best epoch on validation rows, and mean affinities over epochs."""
    trainer = Trainer(experiment, prepared.schema, torch.device("cpu"))
    rows, valid, test = (Shard(prepared.folder, prepared.schema, s, 0, 1, 1 << 40, read_directly) for s in SPLITS)
    trainer.probe = draw_rows(valid, 4096, experiment.seed)
    best, found, affinities = float("inf"), float("inf"), []
    for _ in range(experiment.training.epochs):
        affinities.append({k: v for k, v in trainer.epoch(rows).items() if k.startswith("affinity/")})
        score = evaluate(trainer, valid)[f"valid/{TARGET}/rmse"]
        if score < best:
            best, found = score, evaluate(trainer, test)[f"test/{TARGET}/rmse"]
    return found, {key: mean(a[key] for a in affinities) for key in affinities[0]}


SPLITS = ("train", "valid", "test")


def without(experiment: Experiment, names: set[str]) -> Experiment:
    return override(experiment, {"tasks": {name: kind for name, kind in TASKS.items() if name not in names}})


def run(seed: int, folder: Path) -> dict[str, float]:
    experiment = override(small_experiment(), SETTINGS | {"data.output": str(folder)})
    experiment = override(experiment, {"seed": seed, "data.source.seed": seed, "balancing.kind": "equal"})
    prepared = prepare(experiment)
    results = {}
    for name, settings in METHODS.items():
        chosen = without(experiment, {HARMFUL}) if name.endswith("without the harmful task") else experiment
        chosen = override(chosen, {"balancing": settings} if settings else {})
        chosen = override(chosen, {"training.affinity_every": 20 if name == "equal" else 0})
        results[name], affinities = train(chosen, prepared)
        if affinities:
            helpful = helpful_tasks(affinity_of(affinities), TARGET)
            print(f"seed {seed}: affinity selects {helpful} of {affinity_of(affinities)}")
            selected = without(experiment, set(TASKS) - {TARGET, *helpful})
            results["equal, tasks selected by affinity"], _ = train(selected, prepared)
        print(f"seed {seed}: {name}: {results[name]:.4f}", flush=True)
    return results


def test_methods_recover_what_a_harmful_task_costs(tmp_path: Path):
    torch.set_num_threads(1)
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="warning")
    try:
        results = [run(seed, tmp_path) for seed in SEEDS]
    finally:
        ray.shutdown()
    print(results)
