"""Every task weighting in the trainer: resume, mixed precision, what is reported."""

from pathlib import Path

import pytest
import torch

from mtl_ray.balancing.affinity import affinity_of
from mtl_ray.config import Experiment, override
from mtl_ray.data.dataset import Prepared
from mtl_ray.data.loader import Batch, draw_rows
from mtl_ray.models import checkpoint
from mtl_ray.training.state import resume, state_of
from mtl_ray.training.trainer import Trainer
from tests.support import balancings, parameters, shard, small_experiment

KINDS = balancings()


def trainer_of(experiment: Experiment, prepared: Prepared) -> Trainer:
    return Trainer(experiment, prepared.schema, torch.device("cpu"))


def probe_of(prepared: Prepared) -> Batch:
    return draw_rows(shard(prepared, "valid"), 200, small_experiment().seed)


@pytest.mark.parametrize("kind", KINDS)
def test_resumed_equals_uninterrupted(prepared: Prepared, tmp_path: Path, kind: str):
    changes = {"balancing": KINDS[kind], "training.checkpoint_steps": 3, "training.batch_size": 1024}
    experiment = override(small_experiment(), changes | {"training.affinity_every": 2 if kind == "equal" else 0})
    rows, probe = shard(prepared, "train"), probe_of(prepared)
    whole = trainer_of(experiment, prepared)
    whole.epoch(rows, probe=probe)

    def keep(step, _):
        if step == 3:
            checkpoint.save(tmp_path / "c", experiment, prepared.schema, whole.evaluated, state_of(whole))

    expected = [whole.epoch(rows, keep, probe), whole.epoch(rows, probe=probe)]
    resumed = trainer_of(experiment, prepared)
    torch.manual_seed(99)  # the state of the generator must not matter
    resume(resumed, tmp_path / "c")
    found = [resumed.epoch(rows, probe=probe), resumed.epoch(rows, probe=probe)]
    for key, value in expected[0].items():
        assert found[0][key] == pytest.approx(value, abs=1e-12), key
    assert found[1] == expected[1]
    for name, value in parameters(whole).items():
        assert torch.equal(parameters(resumed)[name], value), name


@pytest.mark.parametrize(("precision", "model"), [("bfloat16", "mmoe"), ("float16", "shared_bottom")])
def test_mixed_precision_and_clipping_work_with_every_weighting(prepared: Prepared, precision: str, model: str):
    for kind, settings in KINDS.items():
        changes = {"balancing": settings, "training.precision": precision, "training.clip_norm": 0.1}
        changes |= {"model.interaction": "concat", "model.kind": model}
        trainer = trainer_of(override(small_experiment(), changes), prepared)
        before = parameters(trainer)
        seen = []
        trainer.balancer.register_forward_hook(lambda *arguments, kept=seen: kept.append(arguments[-1][1]))
        for _, batch in zip(range(3), shard(prepared, "train").training_batches(3, 0, 256), strict=False):
            trainer.step(batch, probe_of(prepared))
        assert torch.stack(seen).isfinite().all(), kind
        after = parameters(trainer)
        assert all(value.isfinite().all() for value in after.values()), kind
        assert any(not torch.equal(after[name], value) for name, value in before.items()), kind


def test_an_epoch_reports_the_balance_and_the_affinity_of_tasks(prepared: Prepared):
    changes = {"balancing": KINDS["pcgrad"], "training.affinity_every": 5}
    trainer = trainer_of(override(small_experiment(), changes), prepared)
    metrics = trainer.epoch(shard(prepared, "train"))
    tasks = list(trainer.model.tasks)
    for task in tasks:
        assert metrics[f"balance/weight/{task}"] > 0
        assert metrics[f"balance/grad_norm/{task}"] > 0
    assert -1 <= metrics["balance/cosine/click/rating"] <= 1
    assert 0 <= metrics["balance/conflicting_pairs"] <= metrics["balance/conflicting"] <= 1
    affinity = affinity_of(metrics)
    assert list(affinity) == tasks
    assert all(affinity[task][task] > 0 for task in tasks)


def test_diagnostics_can_be_turned_off_and_change_nothing(prepared: Prepared):
    runs = []
    for every in (0, 2):
        changes = {"balancing": {"kind": "static", "diagnostics_every": every}, "training.affinity_every": every}
        trainer = trainer_of(override(small_experiment(), changes), prepared)
        metrics = trainer.epoch(shard(prepared, "train"))
        assert any(key.startswith(("balance/", "affinity/")) for key in metrics) == bool(every)
        runs.append(parameters(trainer))
    assert all(torch.equal(runs[0][name], runs[1][name]) for name in runs[0])


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_of_micro_batches_add_up_to_those_of_the_batch(prepared: Prepared, kind: str):
    still = {"model.encoder.dropout": 0.0, "model.embedding_dropout": 0.0, "model.tower.dropout": 0.0}
    changes = {"balancing": KINDS[kind], "training.precision": "float64", "training.clip_norm": 1.0, **still}
    whole, parts = (
        trainer_of(override(small_experiment(), changes | {"training.micro_batch": size}), prepared)
        for size in (None, 100)
    )
    passes = []
    parts.model.inputs["shared"].register_forward_hook(lambda *arguments: passes.append(len(arguments[-1].scalars)))
    for _, batch in zip(range(3), shard(prepared, "train").training_batches(3, 0, 256), strict=False):
        probe = probe_of(prepared)
        torch.testing.assert_close(whole.step(batch, probe), parts.step(batch, probe), rtol=1e-10, atol=1e-10)
    assert {100, 56} <= set(passes)
    for name, value in parameters(whole).items():
        torch.testing.assert_close(parameters(parts)[name], value, rtol=1e-8, atol=1e-10)
