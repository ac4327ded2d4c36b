import math
import pickle

import pytest
import torch

from mtl_ray.config import override
from mtl_ray.models import MultiTaskModel, build_model
from mtl_ray.models.architectures.base import NetworkInput
from mtl_ray.models.sizes import num_parameters_by_part
from mtl_ray.schema import NULL, PADDING, UNKNOWN, FittedTask, Schema
from tests.support import small_experiment
from tests.unit.conftest import batch_of


def test_outputs_have_the_width_of_their_task(model: MultiTaskModel):
    widths = {name: tuple(o.shape) for name, o in model(batch_of(4)).logits.items()}
    assert widths == {
        "click": (4, 1),
        "rating": (4, 1),
        "purchase": (4, 1),
        "gender": (4, 1),
        "occupation": (4, 3),
        "tags": (4, 3),
    }


@pytest.mark.parametrize("interaction", ["concat", "dot", {"kind": "dot", "numbers": "gated"}])
def test_every_parameter_gets_a_gradient(schema: Schema, interaction: str):
    experiment = small_experiment(
        training__precision="float32", features__history__values="rating", model__interaction=interaction
    )
    model = build_model(experiment, schema)
    batch = batch_of(64)
    batch["history"][:5] = PADDING
    sum(o.square().sum() for o in model(batch).logits.values()).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize(("power", "expected"), [(False, 0.0), (0.0, 0.0), (0.5, 0.5), (True, 1.0), (1.0, 1.0)])
def test_losses_are_divided_by_a_power_of_that_of_a_constant(schema: Schema, power: bool | float, expected: float):
    rare = FittedTask(mean=0.1, levels=(0.0, 1.0), shares=(0.9, 0.1))
    model = build_model(
        small_experiment(balancing__comparable_losses=power),
        schema.model_copy(update={"tasks": {**schema.tasks, "click": rare}}),
    )
    entropy = -0.9 * math.log(0.9) - 0.1 * math.log(0.1)
    assert model.loss_scales["click"] == pytest.approx(entropy**-expected)


def test_a_row_does_not_depend_on_its_batch(model: MultiTaskModel):
    batch = batch_of(16)
    whole = model.evaluation_logits(batch)
    alone = model.evaluation_logits({n: c[3:4] for n, c in batch.items()})
    for name in whole:
        torch.testing.assert_close(alone[name], whole[name][3:4], atol=1e-6, rtol=0)


def test_padding_does_not_change_a_row(model: MultiTaskModel):
    batch = batch_of(8)
    cut = {**batch, "history": batch["history"][:, :6], "history.values": batch["history.values"][:, :6]}
    for name, output in model(batch).logits.items():
        torch.testing.assert_close(model(cut).logits[name], output, atol=1e-6, rtol=0)


def test_tasks_and_features_may_have_names_of_attributes(schema: Schema):
    tree = {"tasks.forward": "binary", "tasks.values": "binary", "model.kind": "ple", "model.interaction": "dot"}
    features = {"features.type": {"kind": "categorical", "entity": "item", "column": "category"}}
    experiment = override(small_experiment(training__precision="float32"), tree | features)
    fitted = schema.features | {"type": schema.features["category"]}
    tasks = schema.tasks | dict.fromkeys(("forward", "values"), schema.tasks["click"])
    model = build_model(experiment, schema.model_copy(update={"features": fitted, "tasks": tasks}))
    logits = model(batch_of(4) | {"type": batch_of(4)["category"]}).logits
    assert list(logits) == [*experiment.tasks]
    assert list(model.inputs["shared"].tables)[-1] == "type"


def test_an_empty_batch_has_empty_outputs(model: MultiTaskModel):
    assert all(len(o) == 0 for o in model({n: c[:0] for n, c in batch_of(2).items()}).logits.values())


def test_hidden_inputs_read_the_unknown_and_null_rows(model: MultiTaskModel):
    batch = batch_of(6)
    hide = torch.ones(6, dtype=torch.bool)
    hidden = model(batch, dict.fromkeys(("user_id", "gender", "tags", "age", "history"), hide)).logits
    nothing = torch.full_like(batch["tags"], PADDING)
    nothing[:, 0] = NULL
    written = model(
        {
            **batch,
            "user_id": torch.full_like(batch["user_id"], UNKNOWN),
            "gender": torch.full_like(batch["gender"], NULL),
            "tags": nothing,
            "age": torch.full_like(batch["age"], float("nan")),
            "history": torch.full_like(batch["history"], PADDING),
        }
    ).logits
    assert all(torch.equal(hidden[name], written[name]) for name in hidden)


def test_a_masked_input_task_cannot_see_its_label_or_the_id(model: MultiTaskModel):
    batch = batch_of(6)
    other = {**batch, "user_id": batch["user_id"].flip(0), "gender": batch["gender"].flip(0)}
    assert torch.equal(model.evaluation_logits(batch)["gender"], model.evaluation_logits(other)["gender"])
    assert not torch.equal(model.evaluation_logits(batch)["click"], model.evaluation_logits(other)["click"])


def test_an_empty_history_reads_its_trained_vector(model: MultiTaskModel):
    batch = batch_of(4)
    batch["history"][1] = PADDING
    inputs = model.inputs["shared"]
    vectors = inputs(batch, {}).vectors
    assert torch.equal(vectors["history"][1], inputs.empty["history"])
    assert vectors["history.values"][1].abs().sum() == 0
    table = inputs.tables.get_parameter("item_id.weight")
    size, values = 6, batch["history.values"][0, :6]
    rows = table[batch["history"][0, :size].long()]
    torch.testing.assert_close(vectors["history"][0], rows.sum(0) / size**0.5)
    torch.testing.assert_close(vectors["history.values"][0], (values[:, None] * rows).sum(0) / size**0.5)


def test_the_dot_path_adds_the_product_of_both_sides(experiment, schema: Schema):
    model = build_model(experiment, schema).eval()
    batch = batch_of(5)
    vectors, scalars, *_ = model.inputs["shared"](batch, {})
    plain = model.network(NetworkInput({"shared": torch.cat([*vectors.values(), scalars], 1)}, scalars)).logits
    user = sum(vectors[n] for n in ("user_id", "age", "gender", "occupation", "history", "history.values"))
    item = sum(vectors[n] for n in ("item_id", "category", "tags", "price"))
    outputs = model(batch).logits
    for task in ("click", "rating", "purchase"):
        torch.testing.assert_close(outputs[task], plain[task] + (user * item).sum(1, keepdim=True))
    for task in ("gender", "occupation", "tags"):
        assert torch.equal(outputs[task], plain[task])


def test_numbers_that_are_gated_enter_the_product_as_far_as_training_lets_them(experiment, schema: Schema):
    gated = override(experiment, {"model.interaction": {"kind": "dot", "numbers": "gated"}})
    model, batch = build_model(gated, schema).eval(), batch_of(5)
    gates = model.dots["shared"].gates
    assert set(gates) == {"age"}  # prices are cut into buckets
    loud = {n: torch.full_like(batch[n], 100.0) for n in gates}
    vectors, other = (model.inputs["shared"](rows, {}).vectors for rows in (batch, batch | loud))
    for task, product in model.dots["shared"](vectors).items():
        assert torch.equal(product, model.dots["shared"](other)[task])
    with torch.no_grad():
        gates["age"] += 1
    assert not torch.equal(model.dots["shared"](vectors)["click"], model.dots["shared"](other)["click"])


def test_parts_hold_every_parameter_once(model: MultiTaskModel):
    assert sum(num_parameters_by_part(model).values()) == sum(p.numel() for p in model.parameters())


def test_predictions_of_an_empty_batch_are_empty(model: MultiTaskModel):
    assert all(len(p) == 0 for p in model.predict({n: c[:0] for n, c in batch_of(2).items()}).values())


@pytest.mark.parametrize("encoder", ["pool", "attention", "transformer"])
def test_columns_of_a_single_row_hold_for_all_rows(experiment, schema, encoder):
    """A user's columns are read once for all candidates."""
    torch.manual_seed(0)
    settings = override(experiment, {"features.history.encoder": {"kind": encoder}})
    model = build_model(settings, schema).eval()
    batch = batch_of(6)
    users = [n for n, f in settings.features.items() if f.entity == "user"] + ["history.values", "user_support"]
    whole = {n: c[:1].expand_as(c) if n in users else c for n, c in batch.items()}
    single = {n: c[:1] if n in users else c for n, c in batch.items()}
    expected, found = model.evaluation_logits(whole), model.evaluation_logits(single)
    for task in settings.tasks:
        torch.testing.assert_close(found[task], expected[task])
    assert list(model.evaluation_logits(single, ["rating"])) == ["rating"]


def test_a_model_goes_to_other_processes(model):
    copy = pickle.loads(pickle.dumps(model))  # noqa: S301 - dumped here
    assert copy.inputs["shared"].dims == model.inputs["shared"].dims
