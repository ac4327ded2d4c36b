"""LightGBM a feedback on the inputs of jobs/kuairand_cold.yaml: writes docs/results/kuairand_lightgbm.md.

It reads the encoded columns that the network reads, statistics included, but the two ids and the items of the history;
of that it gets the length and the values. It needs the extra `bench`.
"""

import os
from pathlib import Path
from statistics import mean, stdev

import numpy as np
import pytest
import torch

from mtl_ray.cluster.session import connect
from mtl_ray.config import Experiment, load
from mtl_ray.data.loader import Shard, read_directly
from mtl_ray.data.prepare import find_prepared, prepare
from mtl_ray.data.sources import open_source
from mtl_ray.evaluation.evaluate import segment_metrics
from mtl_ray.schema import ROW, label_column
from mtl_ray.tasks.base import build_task
from tests.support import test_data

pytestmark = pytest.mark.quality
FILE = Path(__file__).parents[2] / "jobs/kuairand_cold.yaml"
RESULT = Path(__file__).parents[2] / "docs/results/kuairand_lightgbm.md"
SEEDS, SEGMENTS = range(5), ("all", "warm", "new_user", "new_item")
TASKS = ("click", "long_view", "like", "profile_enter", "follow", "forward", "hate")
SETTINGS = {"num_leaves": 31, "min_child_samples": 100, "colsample_bytree": 0.5, "reg_lambda": 10.0, "n_jobs": 1}
COMMON = {"n_estimators": 250, "learning_rate": 0.05}
RARE = {"n_estimators": 150, "learning_rate": 0.03, "num_leaves": 15}
"""Of feedbacks on less than a tenth of the rows. Chosen, like the network's settings, on the last training day."""


def matrix(experiment: Experiment, rows: dict[str, torch.Tensor]) -> np.ndarray:
    """(n, columns) inputs of a tree."""
    columns = []
    for name, feature in experiment.features.items():
        if feature.kind == "sequence":
            items, values = rows[name].numpy() > 0, rows[f"{name}.values"].numpy()
            size = items.sum(1)
            last = np.take_along_axis(values, np.maximum(size - 1, 0)[:, None], 1)[:, 0]
            columns += [size, values.sum(1) / (size + 5), last]
        elif feature.kind == "multi_categorical":
            columns.append(rows[name].numpy()[:, 0])
        elif feature.kind != "id":
            columns += list(rows[name].numpy().reshape(len(rows[ROW]), -1).T)
    return np.stack(columns, 1).astype(np.float32)


def half_width(auc: float, positives: int, negatives: int) -> float:
    """Half of the 95% interval of an AUC (Hanley and McNeil 1982)."""
    q1, q2 = auc / (2 - auc), 2 * auc**2 / (1 + auc)
    spread = (positives - 1) * (q1 - auc**2) + (negatives - 1) * (q2 - auc**2)
    return 1.96 * float(np.sqrt((auc * (1 - auc) + spread) / (positives * negatives)))


@pytest.mark.timeout(3600)
def test_lightgbm_on_the_inputs_of_the_network(tmp_path: Path):
    lightgbm = pytest.importorskip("lightgbm")
    output = os.environ.get("MTL_RAY_BENCH_DATASETS", str(tmp_path))
    experiment = load(str(FILE), [f"data.raw={test_data('kuairand-pure-subset')}", f"data.output={output}"])
    prepared = find_prepared(experiment, open_source(experiment))
    if prepared is None:
        connect()
        prepared = prepare(experiment)
    rows = {}
    for split in ("train", "test"):
        shard = Shard(prepared.folder, prepared.schema, split, 0, 1, 1 << 40, read_directly)
        parts = list(shard.evaluation_batches(1 << 30))
        rows[split] = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    train, test = matrix(experiment, rows["train"]), matrix(experiment, rows["test"])
    heads = {name: build_task(experiment.tasks[name], prepared.schema.tasks[name]) for name in TASKS}
    found: dict[str, list[float]] = {}
    for seed in SEEDS:
        predictions = {}
        for name in TASKS:
            label = rows["train"][label_column(name)].numpy()
            settings = SETTINGS | (RARE if label.mean() < 0.1 else COMMON)
            model = lightgbm.LGBMClassifier(**settings, random_state=seed, verbose=-1).fit(train, label)
            predictions[name] = torch.from_numpy(np.asarray(model.predict_proba(test))[:, 1])
        metrics = segment_metrics(heads, rows["test"] | predictions, "test", experiment.evaluation.support_buckets)
        for key, value in metrics.items():
            found.setdefault(key, []).append(value)
    lines = [
        "# LightGBM on KuaiRand's encoded inputs",
        "",
        "AUC on the test rows of `jobs/kuairand_cold.yaml`, one model a feedback, mean and deviation over five seeds;",
        "the interval is that of the rows drawn (95%, Hanley and McNeil 1982).",
        "Made by `pytest tests/benchmarks/test_kuairand_lightgbm.py`.",
        "",
        "| feedback | segment | rows | positives | AUC | sd | interval |",
        "|---|---|---|---|---|---|---|",
    ]
    supports = {"user": rows["test"]["user_support"] > 0, "item": rows["test"]["item_support"] > 0}
    inside = {
        "all": torch.ones(len(test), dtype=torch.bool),
        "warm": supports["user"] & supports["item"],
        "new_user": ~supports["user"] & supports["item"],
        "new_item": supports["user"] & ~supports["item"],
    }
    for name in TASKS:
        for segment in SEGMENTS:
            key = f"test/{name}/auc" + ("" if segment == "all" else f"/{segment}")
            labels = rows["test"][label_column(name)][inside[segment]]
            positives, size = int(labels.sum()), len(labels)
            if key in found and positives > 1:
                values = found[key]
                wide = half_width(mean(values), positives, size - positives)
                cells = f"{positives:,} | {mean(values):.4f} | {stdev(values):.4f} | ± {wide:.4f}"
                lines.append(f"| {name} | {segment} | {size:,} | {cells} |")
    RESULT.write_text("\n".join(lines) + "\n")
    print("\n".join(lines))
    assert mean(found["test/click/auc"]) > 0.72
    assert mean(found["test/like/auc"]) > 0.80
