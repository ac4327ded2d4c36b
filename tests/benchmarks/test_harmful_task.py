"""A harmful auxiliary task, and what each method leaves of the harm: writes docs/results/harmful_task.md.

The target is a rating that 30 % of the rows have. Clicks and purchases share its tastes; `harmful` is an affinity of
users and items of its own, which takes its part of the narrow embeddings. Reference: the same tasks without it, with
equal weights.
"""

from pathlib import Path
from statistics import mean, stdev

import pytest
import ray
import torch

from mtl_ray.balancing.affinity import affinity_of, helpful_tasks
from mtl_ray.cluster.session import connect
from mtl_ray.config import Experiment, override
from mtl_ray.data.dataset import Prepared
from mtl_ray.data.loader import Shard, draw_rows, read_directly
from mtl_ray.data.prepare import prepare
from mtl_ray.training.trainer import Trainer
from tests.support import small_experiment

pytestmark = pytest.mark.quality
SPLITS = ("train", "valid", "test")
SEEDS, TARGET, HARMFUL = range(5), "rating", "harmful"
RESULT = Path(__file__).parents[2] / "docs/results/harmful_task.md"
TASKS = {"rating": "regression", "click": "binary", "purchase": "binary", "harmful": "regression"}
SETTINGS = {
    "tasks": TASKS,
    "data.source": {
        **{"kind": "synthetic", "num_users": 1000, "num_items": 300, "num_interactions": 200_000, "harmful": True},
        "label_share": {"click": 1.0, "rating": 0.3, "purchase": 1.0, "harmful": 1.0},
    },
    "data.bucket_rows": 200_000,
    "data.split": {"kind": "random", "valid": 0.1, "test": 0.2},
    "model": {
        **{"embedding_dim": 4, "interaction": "dot"},
        "encoder": {"hidden": [32, 8], "activation": "gelu"},
        "tower": {"hidden": [8], "activation": "gelu"},
    },
    "training": {"batch_size": 2048, "epochs": 10, "optimizer": {"lr": 5e-3, "embedding_weight_decay": 0.1}},
}
CLEAN, SELECTED = "equal, without the harmful task", "equal, tasks selected by affinity"
METHODS = {
    CLEAN: {},
    "equal": {},
    "gradient_to_target": {"kind": "gradient_to_target", "target": TARGET},
    "gradient_to_target, space: parameters": {"kind": "gradient_to_target", "target": TARGET, "space": "parameters"},
    "bandit": {"kind": "bandit", "targets": [TARGET]},
}


def train(experiment: Experiment, prepared: Prepared) -> tuple[float, dict[str, float]]:
    """RMSE of the target on the test rows, by the best epoch on validation rows, and mean affinities over epochs."""
    trainer = Trainer(experiment, prepared.schema, torch.device("cpu"))
    rows, valid, test = (Shard(prepared.folder, prepared.schema, s, 0, 1, 1 << 40, read_directly) for s in SPLITS)
    probe = draw_rows(valid, 4096, experiment.seed)
    best, found, affinities = float("inf"), float("inf"), []
    for _ in range(experiment.training.epochs):
        affinities.append({k: v for k, v in trainer.epoch(rows, probe=probe).items() if k.startswith("affinity/")})
        score = trainer.evaluate(valid)[f"valid/{TARGET}/rmse"]
        if score < best:
            best, found = score, trainer.evaluate(test)[f"test/{TARGET}/rmse"]
    return found, {key: mean(a[key] for a in affinities) for key in affinities[0]}


def without(experiment: Experiment, names: set[str]) -> Experiment:
    return override(experiment, {"tasks": {name: kind for name, kind in TASKS.items() if name not in names}})


def run(seed: int, folder: Path) -> dict[str, float]:
    experiment = override(small_experiment(), SETTINGS | {"data.output": str(folder)})
    experiment = override(experiment, {"seed": seed, "data.source.seed": seed, "balancing.kind": "equal"})
    prepared = prepare(experiment)
    results = {}
    for name, settings in METHODS.items():
        chosen = without(experiment, {HARMFUL}) if name == CLEAN else experiment
        chosen = override(chosen, {"balancing": settings} if settings else {})
        chosen = override(chosen, {"training.affinity_every": 10 if name == "equal" else 0})
        results[name], affinities = train(chosen, prepared)
        if affinities:
            helpful = helpful_tasks(affinity_of(affinities), TARGET)
            print(f"\nseed {seed}: affinity to the target selects {', '.join(helpful) or 'no task'}")
            selected = without(experiment, set(TASKS) - {TARGET, *helpful})
            results["equal, tasks selected by affinity"], _ = train(selected, prepared)
        print(f"seed {seed}: {name}: {results[name]:.4f}", flush=True)
    return results


def test_methods_recover_what_a_harmful_task_costs(tmp_path: Path):
    torch.set_num_threads(1)
    connect(num_cpus=2, log_to_driver=False)
    try:
        results = [run(seed, tmp_path) for seed in SEEDS]
    finally:
        ray.shutdown()
    names = sorted(results[0], key=lambda name: (name != CLEAN, name != "equal"))
    harm = [result["equal"] - result[CLEAN] for result in results]
    recovered = {name: mean((r["equal"] - r[name]) for r in results) / mean(harm) for name in names}
    lines = [
        f"| {n} | {mean(r[n] for r in results):.4f} | {stdev(r[n] for r in results):.4f} | {100 * recovered[n]:.0f} % |"
        for n in names
    ]
    text = HEAD + "\n".join(lines) + "\n"
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    RESULT.write_text(text)
    print(text)
    assert mean(harm) > 0
    for name in names:
        assert name == "equal" or recovered[name] > 0.5, name


HEAD = """# A harmful auxiliary task

Generated log (1000 users, 300 items, 200,000 interactions), target `rating`, auxiliary tasks `click`, `purchase` and
`harmful`, whose labels have to do with nothing else. RMSE of the rating on test rows, by the best of ten epochs on
validation rows; five seeds of data and training. Recovered: the share of the harm that a method takes back, over the
means; the harm is the difference between equal weights with and without the harmful task.

Made by `pytest tests/benchmarks/test_harmful_task.py -s`.

| method | RMSE, mean | deviation over seeds | recovered |
|---|---|---|---|
"""
