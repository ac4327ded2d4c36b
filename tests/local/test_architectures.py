"""Every architecture, encoder and task kind takes the same steps on one worker and on two, and resumes exactly."""

from pathlib import Path
from typing import Any

import pytest
import torch

from mtl_ray.config import Experiment, override
from mtl_ray.data.dataset import Prepared
from mtl_ray.data.prepare import prepare
from mtl_ray.models import checkpoint
from mtl_ray.training.state import resume, state_of
from mtl_ray.training.trainer import Trainer
from tests.support import TREE, architectures, cold_starts, parameters, shard, small_experiment
from tests.workers import run_workers

STEPS = 6
TASKS = {
    "click": {"kind": "binary", "loss": "focal"},
    "purchase": {"kind": "binary", "after": "click"},
    "rating": {"kind": "regression", "loss": "huber"},
    "occupation": {"kind": "multiclass", "masked_input": 0.2, "label_smoothing": 0.1},
}
ENCODERS = {
    "cnn": {"kind": "cnn", "channels": [8]},
    "rnn": {"kind": "rnn", "hidden": 8},
    "transformer": {"kind": "transformer"},
    "attention": {"kind": "attention", "hidden": 8},
}

AUDIENCES = [f"audience by {name}" for name in ("pool", *ENCODERS)]
UNSEEN = ("unseen items in histories", "unseen users in audiences")
OWN_DATA = (*ENCODERS, *AUDIENCES, *UNSEEN, "ordinal", "count", "value", "ranking by a number")


def cases() -> dict[str, dict[str, Any]]:
    """Dotted-path changes of the small experiment."""
    result = {kind: {"model": settings, "tasks": TASKS} for kind, settings in architectures().items()}
    plain = {"kind": "shared_bottom", "embedding_dim": 8, "encoder": {"hidden": [8]}}
    for name, encoder in ENCODERS.items():
        history = {**TREE["features"]["history"], "encoder": encoder, "values": "rating"}
        result[name] = {"features.history": history, "model": plain, "tasks": TASKS}
    for name, encoder in {"pool": "pool", **ENCODERS}.items():
        both = {"max_length": 10, "values": "rating", "known": "all"}
        audience = {"kind": "sequence", "entity": "item", "of": "user_id", "encoder": encoder, **both}
        own = {"features.history": {**TREE["features"]["history"], **both}, "features.audience": audience}
        result[f"audience by {name}"] = {**own, "data.split": {"kind": "random"}, "model": plain, "tasks": TASKS}
    for interaction in ("dot", "fm", "dcn_v2", "dlrm_dot"):
        result[interaction] = {"model": {**plain, "interaction": interaction}, "tasks": TASKS}
    ranking = {"rating": "regression", "click": {"kind": "ranking", "temperature": 0.5}}
    for kind in ("shared_bottom", "single_task", "stem"):
        result[f"ranking beside {kind}"] = {"model": architectures()[kind], "tasks": ranking}
    alone = {"click": {"kind": "ranking", "loss": "bpr"}}
    result["ranking alone"] = {"model": plain, "tasks": alone}
    cagrad = {"kind": "cagrad", "space": "parameters"}
    result["ranking balanced"] = {"model": plain, "tasks": ranking, "balancing": cagrad}
    by_number = {"click": "binary", "rating": {"kind": "ranking", "relevant": 4}}
    result["ranking by a number"] = {"model": plain, "tasks": by_number}
    cold = architectures() | {"balanced": plain, "ranking": plain}
    for kind, settings in cold_starts().items():
        names = ("shared_bottom", "stem", "soft_sharing", "balanced", "ranking")
        for name in names[: 4 if kind == "meta_embedding" else 5]:
            both = {f"features.{key}.cold_start": settings for key in ("user_id", "item_id")}
            result[f"{kind} under {name}"] = both | {"model": cold[name], "tasks": TASKS}
        result[f"{kind} under balanced"]["balancing"] = {"kind": "cagrad"}
        if kind != "meta_embedding":
            result[f"{kind} under ranking"]["tasks"] = ranking
    for key, (part, name) in zip(
        ("item_id", "user_id"), (("history", UNSEEN[0]), ("audience", UNSEEN[1])), strict=True
    ):
        lists = {"kind": "sequence", "entity": "user" if part == "history" else "item", "of": key, "values": "rating"}
        content = {f"features.{part}": {**lists, "max_length": 10, "unseen": "content"}}
        content[f"features.{key}.cold_start"] = "content_gate"
        result[name] = {"training.micro_batch": 100, "model": architectures()["stem"], "tasks": TASKS} | content
    result["biases of ids"] = {"model": {**plain, "id_bias": True}, "tasks": TASKS}
    result["unseen values"] = {"model": plain, "tasks": TASKS, "training.masking.values": 0.2}
    for kind in ("lazy_adam", "rowwise_adagrad"):
        large = {"training.sparse_tables": {"kind": kind, "rows": 10, "lr": 0.05}, "training.clip_norm": 0.5}
        result[kind] = large | {"model": {**plain, "id_bias": True}, "tasks": TASKS}
    for kind in ("ordinal", "count", "value"):
        result[kind] = {"model": plain, "tasks": {"click": "binary", "rating": {"kind": kind}}}
    return result


def experiment_of(changes: dict[str, Any]) -> Experiment:
    sgd = {"kind": "sgd", "lr": 0.05, "momentum": 0.9}
    return override(small_experiment(training__optimizer=sgd), changes)


def train(rank: int, world_size: int, prepared: Prepared, name: str) -> dict[str, torch.Tensor]:
    experiment = experiment_of(cases()[name])
    trainer = Trainer(experiment, prepared.schema, torch.device("cpu"))
    trainer.read_catalogs(prepared.folder)
    batches = shard(prepared, "train", rank, world_size).training_batches(experiment.seed, 0, 256)
    for _, batch in zip(range(STEPS), batches, strict=False):
        trainer.step(batch)
    return parameters(trainer)


def assert_two_workers_equal_one(prepared: Prepared, name: str) -> None:
    expected = train(0, 1, prepared, name)
    for found in run_workers(2, train, prepared, name):
        for key, value in expected.items():
            assert value.isfinite().all(), key
            assert (found[key] - value).abs().max() < 1e-10, key


@pytest.mark.parametrize("name", [name for name in cases() if name not in OWN_DATA])
def test_two_workers_make_the_steps_of_one(prepared: Prepared, name: str):
    assert_two_workers_equal_one(prepared, name)


@pytest.mark.parametrize("name", OWN_DATA)
def test_encoders_and_task_kinds_too(tmp_path: Path, name: str):
    source = {"kind": "synthetic", "num_users": 100, "num_items": 50, "num_interactions": 2500}
    changes = cases()[name] | {"data.output": str(tmp_path / "data"), "data.source": source}
    assert_two_workers_equal_one(prepare(experiment_of(changes), echo=lambda _: None), name)


RESUMED = (
    *architectures(),
    *(f"{kind} under stem" for kind in cold_starts()),
    "biases of ids",
    "unseen values",
    "lazy_adam",
)


@pytest.mark.parametrize("name", RESUMED)
def test_training_goes_on_from_a_checkpoint_as_if_never_interrupted(prepared: Prepared, tmp_path: Path, name: str):
    experiment = experiment_of(cases()[name])
    whole = Trainer(experiment, prepared.schema, torch.device("cpu"))
    batches = list(shard(prepared, "train").training_batches(experiment.seed, 0, 256))[:6]
    for batch in batches:
        whole.step(batch)
    first = Trainer(experiment, prepared.schema, torch.device("cpu"))
    for batch in batches[:3]:
        first.step(batch)
    checkpoint.save(tmp_path, experiment, prepared.schema, first.evaluated, state_of(first))
    second = Trainer(experiment, prepared.schema, torch.device("cpu"))
    resume(second, tmp_path)
    for batch in batches[3:]:
        second.step(batch)
    expected = parameters(whole)
    assert all(torch.equal(value, expected[key]) for key, value in parameters(second).items())
