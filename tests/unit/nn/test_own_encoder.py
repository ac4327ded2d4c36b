"""Encoders of the user's own, for every kind of feature that has an encoder."""

from typing import Any

import pytest
import torch

from mtl_ray.config import parse
from mtl_ray.config.encoders import CNNEncoderConfig, CustomEncoderConfig, MLPEncoderConfig
from mtl_ray.errors import InputError
from mtl_ray.inference.input_spec import random_rows
from mtl_ray.models import build_model
from tests.custom_parts import Plain
from tests.support import TREE
from tests.unit.conftest import schema_of

OWN = {"kind": "custom", "class": "tests.custom_parts:Plain"}
FEATURES: dict[str, dict[str, Any]] = {
    "age": {"kind": "numeric", "entity": "user"},
    "tags": {"kind": "text", "entity": "item", "max_length": 3},
    "history": {"kind": "sequence", "of": "item_id", "max_length": 10},
    "vector": {"kind": "vector", "entity": "item", "size": 6},
    "photo": {"kind": "image", "entity": "item", "shape": [4, 5, 3]},
}


def tree_of(name: str, **encoder: Any) -> dict[str, Any]:
    features = {key: TREE["features"][key] for key in ("user_id", "item_id")}
    tasks = {"click": "binary", "rating": "regression"}
    features[name] = {**FEATURES[name], "encoder": OWN | encoder}
    return {**TREE, "model": {"embedding_dim": 8}, "tasks": tasks, "features": features}


@pytest.mark.parametrize(("name", "shape"), [*zip(FEATURES, [(2,), (3, 8), (10, 8), (6,), (3, 4, 5)], strict=True)])
def test_the_encoder_of_any_feature_may_be_ones_own(name: str, shape: tuple[int, ...]):
    experiment = parse(tree_of(name), "e.yaml")
    schema = schema_of(experiment)
    model = build_model(experiment, schema)
    (encoder,) = (part for part in model.modules() if isinstance(part, Plain))
    assert encoder.layer.in_features == (shape[-1] if len(shape) == 2 else torch.Size(shape).numel())
    outputs = model(random_rows(experiment, schema, 3, 0))
    torch.stack([logits.sum() for logits in outputs.logits.values()]).sum().backward()
    assert encoder.layer.weight.grad is not None
    assert outputs.logits["rating"].shape == (3, 1)


def test_other_encoders_of_vectors_and_images_need_no_kind():
    photo, vector = tree_of("photo"), tree_of("vector")
    photo["features"]["photo"]["encoder"] = {"channels": [4]}
    vector["features"]["vector"]["encoder"] = {"hidden": [7]}
    assert isinstance(parse(photo, "e").features["photo"].encoder, CNNEncoderConfig)  # pyright: ignore
    assert isinstance(parse(vector, "e").features["vector"].encoder, MLPEncoderConfig)  # pyright: ignore
    assert parse(vector, "e").features["vector"].width(16) == 7
    assert isinstance(parse(tree_of("vector"), "e").features["vector"].encoder, CustomEncoderConfig)  # pyright: ignore
    assert parse(tree_of("vector"), "e").features["vector"].width(16) == 16
    vector["features"]["vector"]["encoder"] = {"hiden": [7]}
    with pytest.raises(InputError, match=r"^e: features.vector.encoder.hiden: unknown key; did you mean `hidden`\?"):
        parse(vector, "e")
