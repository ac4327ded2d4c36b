"""Biases of ids: shrunken by the number of training rows, and nothing else of a model changes."""

import pytest
import torch

from mtl_ray.config import Experiment, override
from mtl_ray.models import MultiTaskModel, build_model, checkpoint
from mtl_ray.models.complexity import complexity_of
from mtl_ray.models.sparse import sparse_parameters
from mtl_ray.schema import PADDING, UNKNOWN, FittedFeature, FittedTask, Schema
from mtl_ray.training.optimizer import build_optimizer
from mtl_ray.training.trainer import Trainer
from tests.support import architectures, small_experiment
from tests.unit.conftest import SIZES, batch_of, schema_of
from tests.unit.models.architectures.test_architectures import labels_of

TASKS = {
    "click": "binary",
    "purchase": {"kind": "binary", "after": "click"},
    "rating": "ordinal",
    "gender": {"kind": "binary", "positive": "F", "masked_input": 0.2},
    "tags": {"kind": "multilabel", "masked_input": 0.2},
}
PRIOR = 4.0
BIASED = {"user_id": ["click", "purchase", "rating"], "item_id": ["click", "purchase", "rating", "gender"]}


def experiment_of(**changes) -> Experiment:
    return small_experiment(
        **{
            "tasks": TASKS,
            "model__id_bias": True,
            "model__id_bias_prior": PRIOR,
            "training__precision": "float32",
            "features__history__values": "rating",
        }
        | changes
    )


def levelled(experiment: Experiment) -> Schema:
    """The schema of the unit tests, with levels for the ordinal task."""
    schema = schema_of(experiment)
    levels = {"rating": FittedTask(classes=("1", "2", "3"))} if "rating" in experiment.tasks else {}
    return schema.model_copy(update={"tasks": schema.tasks | levels})


def model_of(experiment: Experiment, spread: float = 1.0) -> MultiTaskModel:
    """A model whose biases are random, with the given deviation."""
    torch.manual_seed(0)
    model = build_model(experiment, levelled(experiment)).eval()
    for bias in model.id_biases.values():
        torch.nn.init.normal_(bias.table.weight, std=spread)
    return model


def added(experiment: Experiment, batch: dict[str, torch.Tensor], hidden=None) -> dict[str, torch.Tensor]:
    """The terms that the biases add to each output."""
    with_biases, without = (model_of(experiment, spread)(batch, hidden).logits for spread in (1.0, 0.0))
    return {task: with_biases[task] - without[task] for task in with_biases}


@pytest.mark.parametrize("settings", architectures().values(), ids=architectures())
def test_every_architecture_adds_b_n_over_n_plus_k(settings):
    experiment = experiment_of(model={**settings, "id_bias": True, "id_bias_prior": PRIOR})
    model, batch = model_of(experiment), batch_of(50)
    found = added(experiment, batch)
    for task in TASKS:
        expected = torch.zeros(50)
        for key, support in (("user_id", "user_support"), ("item_id", "item_support")):
            if task in BIASED[key]:
                n = torch.where(batch[key] > UNKNOWN, batch[support], 0)
                column = model.id_biases[key].table.weight[batch[key].long(), BIASED[key].index(task)]
                expected += column * n / (n + PRIOR)
        torch.testing.assert_close(found[task], expected[:, None].expand_as(found[task]), atol=1e-5, rtol=1e-4)


def test_a_hidden_or_unseen_id_has_no_bias():
    batch = batch_of(20)
    everywhere = torch.ones(20, dtype=torch.bool)
    hidden = added(experiment_of(), batch, {"user_id": everywhere, "item_id": everywhere})
    unseen = {key: torch.full_like(batch[key], UNKNOWN) for key in ("user_id", "item_id")}
    never = {support: torch.zeros_like(batch[support]) for support in ("user_support", "item_support")}
    for found in (hidden, added(experiment_of(), batch | unseen), added(experiment_of(), batch | never)):
        assert not any(difference.any() for difference in found.values())


def test_it_starts_at_zero_and_changes_no_other_initial_weight():
    experiment = experiment_of()
    torch.manual_seed(0)
    model = build_model(experiment, levelled(experiment))
    torch.manual_seed(0)
    plain = build_model(override(experiment, {"model.id_bias": False}), levelled(experiment))
    assert not any(name.startswith("id_biases") for name in plain.state_dict())
    for name, weight in model.state_dict().items():
        assert not weight.any() if name.startswith("id_biases") else torch.equal(weight, plain.state_dict()[name])
    batch = batch_of(9)
    assert all(torch.equal(model(batch).logits[task], found) for task, found in plain(batch).logits.items())


def test_gradients_reach_the_biases_of_known_ids():
    model, batch = model_of(experiment_of()), batch_of(50)
    sum(output.square().sum() for output in model(batch).logits.values()).backward()
    for key, bias in model.id_biases.items():
        support = batch["user_support" if key == "user_id" else "item_support"]
        known = set(batch[key][(batch[key] > UNKNOWN) & (support > 0)].tolist())
        assert set(bias.table.weight.grad.any(1).nonzero()[:, 0].tolist()) == known


def test_ids_that_are_no_input_and_other_tasks_have_none():
    experiment = experiment_of(features__user_id__embed=False)
    assert list(model_of(experiment).id_biases) == ["item_id"]
    assert not len(model_of(experiment_of(tasks={"tags": TASKS["tags"]}, model__interaction="concat")).id_biases)


def test_a_compressed_id_has_a_bias_of_its_own():
    experiment = experiment_of(features__user_id__compression={"kind": "hash", "rows": 5})
    assert model_of(experiment).id_biases["user_id"].table.num_embeddings == SIZES["user_id"]


def test_no_weight_decay_pulls_at_biases():
    optimizer = {"kind": "sgd", "lr": 0.1, "weight_decay": 0.5, "embedding_weight_decay": 0.5}
    for rows in (10, 1000):  # trained row by row, or densely
        experiment = experiment_of(
            tasks={"click": "binary"}, training__optimizer=optimizer, training__sparse_tables={"rows": rows}
        )
        trainer = Trainer(experiment, levelled(experiment), torch.device("cpu"))
        bias = trainer.model.id_biases["user_id"]
        assert ("id_biases.user_id.table.weight" in sparse_parameters(trainer.model)) == (rows == 10)
        torch.nn.init.ones_(bias.table.weight)
        batch = batch_of(8) | labels_of(8) | {"row": torch.arange(8)}
        batch["user_id"][:] = 5
        trainer.step(batch)
        still = [row for row in range(SIZES["user_id"]) if row not in (PADDING, 5)]
        assert (bias.table.weight[still] == 1).all()
        assert bias.table.weight[5] != 1


def test_a_model_without_biases_has_the_groups_of_before():
    settings = experiment_of().training.optimizer
    plain, biased = (model_of(experiment_of(model__id_bias=flag)) for flag in (False, True))
    assert len(build_optimizer(plain, settings, 1).param_groups) == 2
    groups = build_optimizer(biased, settings, 1).param_groups
    assert groups[2]["weight_decay"] == 0
    assert len(groups[2]["params"]) == 2
    assert sum(len(group["params"]) for group in groups) == len(list(biased.parameters()))


def test_large_tables_of_biases_cost_the_rows_of_a_batch():
    experiment = experiment_of(tasks={"click": "binary"})
    schema = levelled(experiment)
    large = schema.features | {"user_id": FittedFeature(num_embeddings=1_000_000)}
    schema = Schema.model_validate(schema.model_dump() | {"features": large})
    plain, biased = (complexity_of(override(experiment, {"model.id_bias": flag}), schema) for flag in (False, True))
    assert biased.parameters["id_biases"] == 1_000_000 + SIZES["item_id"]
    assert biased.summed_bytes - plain.summed_bytes == 4 * SIZES["item_id"]
    assert biased.row_bytes - plain.row_bytes == 256 * (4 + 8)


def test_a_checkpoint_keeps_the_biases(tmp_path):
    experiment = experiment_of()
    model, batch = model_of(experiment), batch_of(30)
    checkpoint.save(tmp_path, experiment, levelled(experiment), model, {})
    found = checkpoint.load(tmp_path).model.predict(batch)
    assert all(torch.equal(found[task], expected) for task, expected in model.predict(batch).items())


def test_parts_of_a_batch_have_the_gradients_of_the_whole():
    gradients = []
    for rows in (None, 7):
        model, batch = model_of(experiment_of(training__micro_batch=rows)).train(), batch_of(30)
        sum(output.square().sum() for output in model(batch).logits.values()).backward()
        gradients.append({name: p.grad for name, p in model.named_parameters() if name.startswith("id_biases")})
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, atol=1e-5, rtol=1e-5)
