"""The cost of every architecture and encoder."""

from typing import Any

import pytest

from mtl_ray.config import Experiment, override, parse
from mtl_ray.models.complexity import Complexity, complexity_of
from tests.support import TREE, architectures, small_experiment
from tests.unit.conftest import SIZES, schema_of

ENCODERS: dict[str, dict[str, Any]] = {
    "cnn": {"kind": "cnn", "channels": [8]},
    "gru": {"kind": "rnn", "hidden": 8},
    "lstm": {"kind": "rnn", "hidden": 8, "cell": "lstm"},
    "transformer": {"kind": "transformer"},
    "attention": {"kind": "attention", "hidden": 8},
}


def cost(experiment: Experiment) -> Complexity:
    return complexity_of(experiment, schema_of(experiment))


def assert_positive(found: Complexity) -> None:
    assert found.multiply_adds > 0
    assert found.activation_bytes > 0
    assert set(found.to_dict()) == {"model/parameters", "model/multiply_adds_per_row", "model/memory_bytes"}
    assert found.memory_bytes > found.weight_bytes > 0


@pytest.mark.parametrize("settings", architectures().values(), ids=architectures())
def test_every_architecture_has_a_cost(settings: dict[str, Any]):
    assert_positive(cost(override(small_experiment(), {"model": settings})))


@pytest.mark.parametrize("encoder", ENCODERS.values(), ids=ENCODERS)
def test_an_encoder_costs_more_than_pooling(encoder: dict[str, Any]):
    history = {**TREE["features"]["history"], "values": "rating"}
    plain = cost(override(small_experiment(), {"features.history": history}))
    encoded = cost(override(small_experiment(), {"features.history": {**history, "encoder": encoder}}))
    assert_positive(encoded)
    assert encoded.multiply_adds > plain.multiply_adds
    assert encoded.activation_bytes > plain.activation_bytes


def test_images_and_vectors_have_a_cost():
    features = {
        **{name: TREE["features"][name] for name in ("user_id", "item_id")},
        "cover": {"kind": "image", "entity": "item", "shape": [8, 8, 3], "encoder": {"kind": "cnn", "channels": [4]}},
        "taste": {"kind": "vector", "entity": "user", "size": 8, "encoder": {"kind": "mlp", "hidden": [8]}},
    }
    tree = {**TREE, "features": features, "tasks": {"click": "binary"}, "model": {"embedding_dim": 8}}
    experiment = parse(tree, "test")
    schema = schema_of(experiment)
    found = complexity_of(experiment, schema)
    assert_positive(found)
    assert found.multiply_adds > 8 * 8 * 4 * 27 + 8 * 8  # the convolution and the layer over the vector


@pytest.mark.parametrize("loss", ["bpr", "sampled_softmax"])
def test_ranking_keeps_the_scores_of_all_pairs(loss: str):
    changes = {"tasks": {"click": {"kind": "ranking", "loss": loss}}, "model.interaction": "concat"}
    found = cost(override(small_experiment(training__batch_size=100), changes))
    assert_positive(found)
    assert found.activation_bytes > 100 * 100 * 8


def test_experts_cost():
    model = {**architectures()["mmoe"], "experts": 2}
    few = cost(override(small_experiment(), {"model": model}))
    many = cost(override(small_experiment(), {"model": {**model, "experts": 4}}))
    assert many.multiply_adds > few.multiply_adds
    assert many.memory_bytes > few.memory_bytes


def test_a_plain_network_is_counted_by_hand():
    tree = {
        **TREE,
        "features": {name: TREE["features"][name] for name in ("user_id", "item_id")},
        "tasks": {"click": "binary", "rating": "regression"},
        "model": {"embedding_dim": 8, "encoder": {"hidden": [32]}, "tower": {"hidden": [4]}},
        "training": {"batch_size": 100, "num_workers": 3, "precision": "float32", "optimizer": {"kind": "adamw"}},
    }
    found = cost(parse(tree, "test"))
    products = 16 * 32 + 2 * (32 * 4 + 4)
    assert found.multiply_adds == products
    parameters = (SIZES["user_id"] + SIZES["item_id"]) * 8 + products + 32 + 2 * (4 + 1)
    assert sum(found.parameters.values()) == parameters
    assert found.weight_bytes == 4 * 4 * parameters
    # of the 34 rows of a worker at least the inputs and outputs of the layers are kept
    assert found.activation_bytes >= 34 * 4 * (16 + 32 + 2 * 4)


def test_activations_grow_with_the_rows_of_a_worker():
    one, two = (cost(small_experiment(training__num_workers=n)) for n in (1, 2))
    assert 1.8 < one.activation_bytes / two.activation_bytes <= 2
    assert one.multiply_adds == two.multiply_adds


@pytest.mark.parametrize(("kind", "state"), [("lazy_adam", 2 * 8 * (20 + 15)), ("rowwise_adagrad", 20 + 15)])
def test_tables_that_are_trained_row_by_row_cost_the_rows_of_a_batch(kind: str, state: int):
    tree = {
        **TREE,
        "features": {name: TREE["features"][name] for name in ("user_id", "item_id", "history")},
        "tasks": {"click": "binary"},
        "model": {"embedding_dim": 8, "encoder": {"hidden": [32]}, "tower": {"hidden": [4]}},
        "training": {"batch_size": 2, "precision": "float32", "sparse_tables": {"rows": 10, "kind": kind}},
    }
    found = cost(parse(tree, "test"))
    dense = sum(found.parameters.values()) - 8 * (20 + 15)
    assert found.summed_bytes == 4 * dense
    assert found.row_bytes == (2 + 15) * (8 * 4 + 8)  # two users, and of 2 + 2 x 10 items no more than there are
    assert found.optimizer_bytes == 4 * (2 * dense + state)
    assert found.parameter_bytes == 4 * sum(found.parameters.values())
    assert found.memory_bytes == found.weight_bytes + found.activation_bytes
