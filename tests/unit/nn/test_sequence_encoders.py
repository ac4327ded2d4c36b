"""Encoders of one feature: their shapes, what padding and emptiness do, and what is shared."""

from typing import Any

import pytest
import torch

from mtl_ray.config import Experiment, parse
from mtl_ray.config.encoders import AttentionEncoderConfig, CNNEncoderConfig, RNNEncoderConfig, TransformerEncoderConfig
from mtl_ray.models import MultiTaskModel, build_model
from mtl_ray.nn.sequence_encoders import build_sequence_encoder
from mtl_ray.schema import PADDING
from tests.support import TREE
from tests.unit.conftest import batch_of, schema_of

SEQUENCE = {
    "cnn": {"kind": "cnn", "channels": [6, 7], "kernel": 3},
    "gru": {"kind": "rnn", "hidden": 5},
    "lstm": {"kind": "rnn", "cell": "lstm"},
    "causal": {"kind": "transformer", "layers": 2},
    "bidirectional": {"kind": "transformer", "causal": False},
    "attention": {"kind": "attention"},
}
every_encoder = pytest.mark.parametrize("encoder", SEQUENCE.values(), ids=SEQUENCE.keys())


def experiment_of(features: dict[str, Any], **model: Any) -> Experiment:
    settings = {"embedding_dim": 8, "encoder": {"hidden": [16]}, **model}
    tasks = {"click": "binary", "rating": "regression"}
    tree = {**TREE, "features": TREE["features"] | features, "tasks": tasks, "model": settings, "training": {}}
    return parse(tree, "test")


def model_of(features: dict[str, Any], **model: Any) -> MultiTaskModel:
    experiment = experiment_of(features, **model)
    torch.manual_seed(0)
    return build_model(experiment, schema_of(experiment)).eval()


def with_history(encoder: dict[str, Any], values: str | None = "rating") -> MultiTaskModel:
    return model_of({"history": {**TREE["features"]["history"], "encoder": encoder, "values": values}})


@every_encoder
def test_padding_does_not_change_a_row(encoder: dict[str, Any]):
    model, batch = with_history(encoder), batch_of(8)
    cut = {**batch, "history": batch["history"][:, :6], "history.values": batch["history.values"][:, :6]}
    for name, output in model(batch).logits.items():
        torch.testing.assert_close(model(cut).logits[name], output, atol=1e-6, rtol=0)


@every_encoder
def test_every_parameter_learns_and_an_empty_history_reads_its_vector(encoder: dict[str, Any]):
    model, batch = with_history(encoder), batch_of(64)
    batch["history"][:9] = PADDING
    batch["history"][10, 1:] = PADDING
    vectors = model.inputs["shared"](batch, {}).vectors["history"]
    assert torch.equal(vectors[3], model.inputs["shared"].empty["history"])
    sum(o.square().sum() for o in model(batch).logits.values()).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        # the softmax over positions does not see a shift of the keys
        if "in_proj_bias" not in name:
            assert parameter.grad.abs().sum() > 0, name


@every_encoder
def test_a_hidden_history_is_an_empty_one(encoder: dict[str, Any]):
    model, batch = with_history(encoder), batch_of(5)
    hidden = model(batch, {"history": torch.ones(5, dtype=torch.bool)}).logits
    empty = model({**batch, "history": torch.full_like(batch["history"], PADDING)}).logits
    assert all(torch.equal(hidden[name], empty[name]) for name in hidden)


@every_encoder
def test_all_rows_of_an_empty_batch_take_part(encoder: dict[str, Any]):
    model = with_history(encoder)
    nothing = {n: c[:0] for n, c in batch_of(2).items()}
    sum(o.sum() for o in model(nothing).logits.values()).backward()
    assert all(p.grad is not None for p in model.parameters())


@pytest.mark.parametrize(
    "encoder", [SEQUENCE["gru"], SEQUENCE["causal"], SEQUENCE["cnn"]], ids=["gru", "causal", "cnn"]
)
def test_the_order_of_a_history_matters_to(encoder: dict[str, Any]):
    model, batch = with_history(encoder, values=None), batch_of(5)
    turned = batch["history"].clone()
    turned[:, :6] = turned[:, :6].flip(1)
    assert not torch.allclose(model(batch).logits["click"], model({**batch, "history": turned}).logits["click"])


def test_target_attention_is_the_weighted_sum_of_its_definition():
    torch.manual_seed(0)
    encoder = build_sequence_encoder(AttentionEncoderConfig(hidden=4), 3, 5)
    assert encoder is not None
    x, query = torch.randn(2, 5, 3), torch.randn(2, 3)
    present = torch.tensor([[True, True, False, False, False], [True] * 5])
    found = encoder(x, present, query)
    for row in range(2):
        expected = torch.zeros(3)
        for key in x[row][present[row]]:
            q = query[row]
            expected = expected + encoder.weight(torch.cat([key, q, key - q, key * q])) * key
        torch.testing.assert_close(found[row], expected)


def test_settings_size_the_encoders():
    cnn = build_sequence_encoder(CNNEncoderConfig(channels=(4, 5), kernel=5), 3, 7)
    assert [tuple(layer.weight.shape) for layer in cnn.layers] == [(4, 3, 5), (5, 4, 5)]
    assert build_sequence_encoder(RNNEncoderConfig(hidden=9), 3, 7).cell.hidden_size == 9
    assert len(build_sequence_encoder(TransformerEncoderConfig(layers=3, heads=1), 3, 7).layers.layers) == 3


def test_a_text_goes_through_convolutions():
    title = {"kind": "text", "entity": "item", "max_length": 3, "encoder": {"kind": "cnn", "channels": [4]}}
    model = model_of({"tags": title})
    batch = batch_of(6)
    longer = {**batch, "tags": torch.cat([batch["tags"], torch.full((6, 2), PADDING, dtype=torch.int32)], 1)}
    torch.testing.assert_close(model(longer).logits["click"], model(batch).logits["click"], atol=1e-6, rtol=0)


IMAGE = {"kind": "image", "entity": "user", "shape": [8, 8, 3], "encoder": {"kind": "cnn", "channels": [4, 6]}}


def test_an_image_and_a_vector_reach_every_task():
    model = model_of({"photo": IMAGE, "face": {"kind": "vector", "entity": "user", "size": 5}})
    batch = batch_of(6) | {"photo": torch.rand(6, 192), "face": torch.randn(6, 5)}
    batch["photo"][0] = float("nan")
    batch["face"][1] = float("nan")
    batch["history"][2] = PADDING
    vectors = model.inputs["shared"](batch, {}).vectors
    assert torch.equal(vectors["photo"][0], model.inputs["shared"].empty["photo"])
    assert torch.equal(vectors["face"][1], model.inputs["shared"].empty["face"])
    assert torch.equal(vectors["face"][2], batch["face"][2])
    sum(o.square().sum() for o in model(batch).logits.values()).backward()
    for name, parameter in model.inputs["shared"].named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_the_first_convolution_alone_can_be_shared():
    encoder = {"kind": "cnn", "channels": [4, 6], "shared_layers": 1}
    model = model_of({"photo": {**IMAGE, "encoder": encoder}}, encoder={"hidden": []}, tower={"hidden": [8]})
    inputs = model.inputs["shared"]
    assert len(inputs.encoders["photo"].layers) == 1
    assert {task: len(tail.layers) for task, tail in inputs.tails["photo"].items()} == {"click": 1, "rating": 1}
    batch = batch_of(6) | {"photo": torch.rand(6, 192)}
    model(batch).logits["click"].square().sum().backward()
    assert inputs.encoders["photo"].layers[0].weight.grad.abs().sum() > 0
    assert inputs.tails["photo"]["click"].layers[0].weight.grad.abs().sum() > 0
    assert inputs.tails["photo"]["rating"].layers[0].weight.grad is None
    assert model(batch).shared is None


def test_a_key_alone_is_no_input():
    model = model_of({"user_id": {"kind": "id", "entity": "user", "embed": False}})
    assert "user_id" not in model.inputs["shared"].tables
    other = batch_of(4) | {"user_id": batch_of(4)["user_id"].flip(0)}
    assert torch.equal(model(batch_of(4)).logits["click"], model(other).logits["click"])
