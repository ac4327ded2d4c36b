"""Parameters of models keep their names, which are the keys of checkpoints, and the values that a seed gives them."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from mtl_ray.config import override
from mtl_ray.models import build_model
from tests.support import architectures, cold_starts, small_experiment
from tests.unit.conftest import schema_of

KNOWN = Path(__file__).parents[2] / "fixtures" / "parameters.json"
"""By variant, a digest of the names and shapes of the model's tensors, and a number made of their values.

`python -m tests.unit.models.test_parameters` writes it anew: only when models are meant to change.
"""
BUILT_IN = {kind: settings for kind, settings in architectures().items() if kind != "custom"}
VARIANTS: dict[str, dict[str, Any]] = {kind: {"model": settings} for kind, settings in BUILT_IN.items()}
VARIANTS |= {f"interaction {kind}": {"model.interaction": kind} for kind in ("fm", "dcn_v2", "dlrm_dot", "dot")}
VARIANTS |= {
    f"cold start {kind}": {"features.user_id.cold_start": settings, "features.item_id.cold_start": settings}
    for kind, settings in cold_starts().items()
}
VARIANTS |= {f"history {kind}": {"features.history.encoder": kind} for kind in ("cnn", "rnn", "transformer")}
VARIANTS |= {
    "biases": {"model.id_bias": True, "model.interaction": "dot", "training.sparse_tables": {"rows": 10}},
    "ranking": {"tasks.click": {"kind": "ranking"}, "model": architectures()["stem"]},
    "compression": {
        "features.item_id.compression": {"kind": "hash", "rows": 4},
        "features.category.compression": {"kind": "quotient_remainder", "rows": 3},
    },
}


def described(variant: str) -> list[Any]:
    experiment = override(small_experiment(features__history__values="rating"), VARIANTS[variant])
    torch.manual_seed(1)
    return of_model(build_model(experiment, schema_of(experiment)))


def of_model(model: nn.Module) -> list[Any]:
    tensors = model.state_dict()
    names = json.dumps([(name, tensor.shape) for name, tensor in tensors.items()])
    values = [(tensor.double() * torch.arange(1, tensor.numel() + 1).view(tensor.shape)) for tensor in tensors.values()]
    number = sum(place * float(value.sum()) for place, value in enumerate(values, 1))
    return [hashlib.sha256(names.encode()).hexdigest()[:16], number]


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_seed_gives_the_same_parameters_under_the_same_names(variant: str):
    names, number = json.loads(KNOWN.read_text())[variant]
    found = described(variant)
    assert found[0] == names
    assert found[1] == pytest.approx(number, rel=1e-5)


if __name__ == "__main__":
    KNOWN.write_text(json.dumps({variant: described(variant) for variant in VARIANTS}, indent=1) + "\n")
