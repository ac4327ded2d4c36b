"""What every architecture must keep, over the whole union; and the ones that must coincide."""

import math
import typing
from typing import Any

import pytest
import torch

from mtl_ray.balancing import TaskLosses, model_losses
from mtl_ray.config import Experiment, override, parse
from mtl_ray.config.model import ArchitectureConfig
from mtl_ray.models import MultiTaskModel, build_masking, build_model, checkpoint
from mtl_ray.models.architectures.esmm import log_odds_of_product
from mtl_ray.models.architectures.gate_unit import GateUnit
from mtl_ray.schema import FittedTask, Schema, label_column
from tests.support import TREE, WIDE
from tests.unit.conftest import batch_of, schema_of

KINDS = [member.model_fields["kind"].default for member in typing.get_args(typing.get_args(ArchitectureConfig)[0])]
TASKS: dict[int, dict[str, Any]] = {
    1: {"click": {"kind": "binary"}},
    2: {"click": {"kind": "binary"}, "purchase": {"kind": "binary", "after": "click"}},
    5: {
        "click": {"kind": "binary"},
        "purchase": {"kind": "binary", "after": "click"},
        "rating": {"kind": "regression"},
        "segment_of": {"kind": "multiclass"},
        "labels": {"kind": "multilabel"},
    },
}


def experiment_of(kind: str, tasks: int = 5, **model: Any) -> Experiment:
    settings = {"kind": kind, "embedding_dim": 8, "encoder": {"hidden": [12, 12]}, "tower": {"hidden": [6]}, **model}
    settings |= WIDE if kind == "custom" else {}
    tree = {**TREE, "tasks": TASKS[tasks], "model": settings, "training": {"precision": "float32"}}
    return parse(tree, "test")


def model_of(kind: str, tasks: int = 5, seed: int = 0, **model: Any) -> tuple[MultiTaskModel, Experiment, Schema]:
    experiment = experiment_of(kind, tasks, **model)
    schema = schema_of(experiment)
    torch.manual_seed(seed)
    return build_model(experiment, schema).eval(), experiment, schema


def labels_of(size: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    flags = (torch.rand(size, 2, generator=generator) < 0.4).float()
    return {
        "click.label": flags[:, 0],
        "purchase.label": flags[:, 0] * flags[:, 1],
        "rating.label": torch.randn(size, generator=generator),
        "segment_of.label": torch.randint(0, 3, (size,), generator=generator, dtype=torch.int32),
        "labels.label": torch.randint(0, 2, (size, 3), generator=generator, dtype=torch.int8),
    }


def loss_of(model: MultiTaskModel, batch: dict[str, torch.Tensor], labels: dict[str, torch.Tensor]) -> torch.Tensor:
    logits, _, penalty, pairs, *_ = model(batch)
    total = torch.zeros(()) if penalty is None else penalty.mean()
    for name, task in model.tasks.items():
        label = labels[label_column(name)]
        loss, count = task.loss(logits[name], label, task.labelled(label), pairs.get(name))
        total = total + loss / count.clamp(min=1)
    return total


every_kind = pytest.mark.parametrize("kind", KINDS)
every_size = pytest.mark.parametrize("tasks", [1, 2, 5])


@every_kind
@every_size
def test_outputs_have_the_width_of_their_task(kind: str, tasks: int):
    model, _, _ = model_of(kind, tasks)
    logits, shared, penalty, *_ = model(batch_of(7))
    widths = {"click": 1, "purchase": 1, "rating": 1, "segment_of": 3, "labels": 3}
    assert {name: tuple(o.shape) for name, o in logits.items()} == {n: (7, widths[n]) for n in TASKS[tasks]}
    assert shared is None or len(shared) == 7
    assert penalty is None or penalty.shape == (7,)


@every_kind
@every_size
def test_every_parameter_gets_a_gradient(kind: str, tasks: int):
    model, _, _ = model_of(kind, tasks)
    torch.manual_seed(1)
    with torch.no_grad():
        # Gates that start equal, and networks that start equal, have no gradient to tell.
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    batch = batch_of(64)
    batch["history"][:5] = 0
    loss_of(model, batch, labels_of(64)).backward()
    without = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    if tasks == 1:  # a softmax over one thing, of which there may be one per task alone, is constant
        without = [n for n in without if ".gates." not in n and "shared_gate" not in n]
    assert without == []


@every_kind
def test_every_task_reaches_the_shared_representation(kind: str):
    model, _, _ = model_of(kind)
    logits, shared, *_ = model(batch_of(16))
    if shared is None:
        assert kind in ("single_task", "soft_sharing")
        return
    for name, output in logits.items():
        (gradient,) = torch.autograd.grad(output.square().sum(), shared, retain_graph=True)
        assert gradient.abs().sum() > 0, name


def step_of(model: MultiTaskModel, experiment: Experiment) -> TaskLosses:
    weight = next(model.parameters())
    batch = {n: c.to(weight.dtype) if c.is_floating_point() else c for n, c in batch_of(32).items()}
    return model_losses(model, model(batch), build_masking(experiment).nothing(batch | labels_of(32)))


@every_kind
@pytest.mark.parametrize("micro_batch", [None, 12])
def test_gradients_of_tasks_are_those_on_the_shared_representation(kind: str, micro_batch: int | None):
    model, experiment, _ = model_of(kind)
    model = model.double().train()
    model.micro_batch = micro_batch
    step = step_of(model, experiment)
    if step.shared is None:
        return
    assert [len(task_representations) for task_representations in step.task_representations] == [
        3 if micro_batch else 1
    ] * len(step.losses)
    model.micro_batch = None
    plain = step_of(model, experiment)
    assert plain.shared is not None
    jacobian = torch.stack([plain.gradient(loss, [plain.shared])[0].flatten() for loss in plain.losses])
    torch.testing.assert_close(step.gramian, jacobian @ jacobian.T)
    torch.testing.assert_close(step.on_representation(step.representation_gradients), jacobian.sum(0))
    weights = torch.arange(1.0, len(plain.losses) + 1).double()
    parameters = list(model.parameters())
    expected = torch.autograd.grad(weights @ torch.stack(tuple(plain.losses)), parameters, materialize_grads=True)
    found = torch.autograd.grad(step.weighted_loss(weights), parameters, materialize_grads=True)
    for name, left, right in zip(dict(model.named_parameters()), found, expected, strict=True):
        torch.testing.assert_close(left, right, msg=name)


@every_kind
def test_a_checkpoint_rebuilds_the_model(kind: str, tmp_path):
    model, experiment, schema = model_of(kind)
    checkpoint.save(tmp_path, experiment, schema, model, {})
    again = checkpoint.load(tmp_path, trust=True).model
    batch = batch_of(9)
    for name, output in model.predict(batch).items():
        assert torch.equal(again.predict(batch)[name], output)


@every_kind
def test_a_row_does_not_depend_on_its_batch(kind: str):
    model, _, _ = model_of(kind)
    batch = batch_of(16)
    whole = model.evaluation_logits(batch)
    alone = model.evaluation_logits({n: c[3:4] for n, c in batch.items()})
    for name in whole:
        torch.testing.assert_close(alone[name], whole[name][3:4], atol=1e-6, rtol=0)


@every_kind
def test_a_task_without_labels_and_an_empty_batch_are_harmless(kind: str):
    model, _, _ = model_of(kind)
    labels = labels_of(16)
    labels["rating.label"][:] = math.nan
    loss = loss_of(model, batch_of(16), labels)
    loss.backward()
    assert torch.isfinite(loss)
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)
    assert all(len(o) == 0 for o in model({n: c[:0] for n, c in batch_of(2).items()}).logits.values())


@every_kind
def test_trunks_can_be_deep_and_of_any_shape(kind: str):
    encoder = {"hidden": [10, 10, 10], "residual": True, "layer_norm": True, "activation": "silu", "dropout": 0.1}
    model, _, _ = model_of(kind, encoder=encoder, tower={"hidden": []})
    assert all(torch.isfinite(o).all() for o in model(batch_of(8)).logits.values())


def copied(target: MultiTaskModel, values: dict[str, torch.Tensor]) -> MultiTaskModel:
    state = target.state_dict()
    assert values.keys() <= state.keys()
    target.load_state_dict(state | values)
    return target


def assert_same(one: MultiTaskModel, other: MultiTaskModel) -> None:
    batch = batch_of(12)
    for name, output in one(batch).logits.items():
        torch.testing.assert_close(other(batch).logits[name], output, atol=1e-6, rtol=0)


def test_a_mixture_of_one_expert_is_a_shared_bottom():
    one, _, _ = model_of("shared_bottom")
    mixture, _, _ = model_of("mmoe", seed=1, experts=1)
    state = {n.replace("network.encoder.", "network.experts.experts.0."): v for n, v in one.state_dict().items()}
    assert_same(one, copied(mixture, state))


@pytest.mark.parametrize("kind", ["cgc", "ple"])
def test_extraction_without_task_experts_is_a_mixture(kind: str):
    mixture, _, _ = model_of("mmoe", experts=3)
    extra = {"levels": 1} if kind == "ple" else {}
    other, _, _ = model_of(kind, seed=1, shared_experts=3, task_experts=0, **extra)
    renamed = {
        n.replace("network.experts.", "network.levels.0.shared.").replace(
            "network.gates.", "network.levels.0.gates."
        ): v
        for n, v in mixture.state_dict().items()
    }
    assert_same(mixture, copied(other, renamed))


def test_stitches_at_identity_are_separate_networks():
    separate, _, _ = model_of("single_task")
    stitched, _, _ = model_of("cross_stitch", seed=1, self_weight=1.0)
    state = {}
    for name, value in separate.state_dict().items():
        if name.startswith("network.encoders."):
            _, _, task, _, layer, rest = name.split(".", 5)
            name = f"network.layers.{layer}.{list(TASKS[5]).index(task)}.{rest}"  # noqa: PLW2901
        state[name] = value
    assert_same(separate, copied(stitched, state))


def test_soft_sharing_without_penalty_is_separate_networks():
    separate, _, _ = model_of("single_task")
    soft, _, _ = model_of("soft_sharing", seed=1, strength=0.0)
    copied(soft, separate.state_dict())
    assert_same(separate, soft)
    assert soft(batch_of(3)).penalty.abs().sum() == 0


def test_the_penalty_is_the_squared_distance_over_pairs():
    soft, _, _ = model_of("soft_sharing", tasks=5, strength=0.5)
    parts = [(soft.inputs[t], soft.network.encoders[t]) for t in TASKS[5]]
    vectors = [torch.cat([p.flatten() for m in part for p in m.parameters()]) for part in parts]
    expected = sum((a - b).square().sum() for i, a in enumerate(vectors) for b in vectors[:i])
    torch.testing.assert_close(soft(batch_of(3)).penalty[0], 0.5 * expected)


def test_layers_after_the_shared_ones_belong_to_a_task():
    model, _, _ = model_of("shared_bottom", shared_layers=1)
    assert len(model.network.encoder.layers) == 1
    assert set(model.network.own) == set(TASKS[5])
    assert model(batch_of(4)).shared.shape == (4, 12)


def test_a_task_is_never_more_probable_than_the_one_before_it():
    model, _, _ = model_of("esmm", tasks=5)
    predicted = model.predict(batch_of(50))
    assert (predicted["purchase"] < predicted["click"]).all()
    a, b = torch.tensor([-60.0, 0.3, 40.0, 90.0]), torch.tensor([2.0, -1.0, 50.0, 90.0])
    expected = torch.special.logit(a.double().sigmoid() * b.double().sigmoid())
    torch.testing.assert_close(log_odds_of_product(a, b)[:2].double(), expected[:2], rtol=1e-5, atol=1e-5)
    assert torch.isfinite(log_odds_of_product(a, b)).all()


def test_a_conversion_more_probable_than_its_click_is_penalised():
    model, _, _ = model_of("aitm", tasks=2, calibrator=0.5)
    logits, _, penalty, *_ = model(batch_of(20))
    excess = (logits["purchase"].sigmoid() - logits["click"].sigmoid()).clamp(min=0)[:, 0]
    torch.testing.assert_close(penalty, 0.5 * excess)


def test_gates_follow_the_profile_and_the_support():
    gate = GateUnit(4, 8, 3)
    assert ((gate(torch.randn(50, 4)) > 0) & (gate(torch.randn(50, 4)) < 2)).all()
    model, _, _ = model_of("poso")
    batch = batch_of(6)
    seen = model(batch).logits["rating"]
    assert not torch.allclose(model({**batch, "user_support": batch["user_support"] + 10}).logits["rating"], seen)
    hide = torch.ones(6, dtype=torch.bool)
    hidden = model(batch, {"user_id": hide}).logits["rating"]
    other = model({**batch, "user_support": batch["user_support"] + 10}, {"user_id": hide}).logits["rating"]
    assert torch.equal(hidden, other)


def test_other_tasks_experts_are_read_but_not_taught():
    model, _, _ = model_of("stem", tasks=5)
    model(batch_of(16)).logits["rating"].square().sum().backward()
    taught = {n.split(".")[2] for n, p in model.named_parameters() if n.startswith("network.experts.") and
              p.grad is not None and p.grad.abs().sum() > 0}  # fmt: skip
    assert taught == {"shared", "rating"}
    tables = {n.split(".")[1] for n, p in model.named_parameters() if n.startswith("inputs.") and
              p.grad is not None and p.grad.abs().sum() > 0}  # fmt: skip
    assert tables == {"shared", "rating"}


@pytest.mark.parametrize("kind", ["single_task", "stem", "shared_bottom", "mmoe"])
@pytest.mark.parametrize("interaction", ["dot", "fm", "dcn_v2", "dlrm_dot"])
def test_interactions_go_with_architectures(kind: str, interaction: str):
    model, _, _ = model_of(kind, interaction=interaction)
    loss_of(model, batch_of(32), labels_of(32)).backward()
    assert all(p.grad is not None for p in model.parameters())


def test_overrides_change_the_architecture():
    experiment = override(experiment_of("mmoe", experts=2), {"model.kind": "ple"})
    assert experiment.model.kind == "ple"
    assert FittedTask().classes == ()
