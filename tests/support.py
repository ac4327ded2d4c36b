"""What several tests share: a small experiment on generated data, its prepared data set."""

import os
import random
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, get_args

import pytest
import torch

from mtl_ray.config import Experiment, parse
from mtl_ray.config.balancing import BalancingConfig
from mtl_ray.config.cold_start import ColdStartConfig
from mtl_ray.config.model import ArchitectureConfig
from mtl_ray.config.tuning import ChoiceConfig, LogUniformConfig, RandIntConfig
from mtl_ray.data.dataset import Prepared
from mtl_ray.data.loader import Shard, read_directly
from mtl_ray.schema import SplitName
from mtl_ray.training.trainer import Trainer
from mtl_ray.tuning.space import Domain, Draw

TREE: dict[str, Any] = {
    "name": "small",
    "seed": 3,
    "defaults": "fixed",
    "data": {
        "source": {"kind": "synthetic", "num_users": 200, "num_items": 100, "num_interactions": 6000},
        "time": "timestamp",
        "split": {"kind": "time"},
        "bucket_rows": 2000,
    },
    "features": {
        "user_id": {"kind": "id", "entity": "user"},
        "item_id": {"kind": "id", "entity": "item"},
        "age": {"kind": "numeric", "entity": "user"},
        "gender": {"kind": "categorical", "entity": "user"},
        "occupation": {"kind": "categorical", "entity": "user"},
        "category": {"kind": "categorical", "entity": "item"},
        "tags": {"kind": "multi_categorical", "entity": "item", "max_length": 3},
        "price": {"kind": "numeric", "entity": "item", "buckets": 8},
        "history": {"kind": "sequence", "of": "item_id", "max_length": 10},
    },
    "tasks": {
        "click": "binary",
        "rating": {"kind": "regression", "weight": 0.7},
        "purchase": {"kind": "binary", "where": {"click": 1}},
        "gender": {"kind": "binary", "positive": "F", "masked_input": 0.2},
        "occupation": {"kind": "multiclass", "masked_input": 0.2},
        "tags": {"kind": "multilabel", "masked_input": 0.2},
    },
    "model": {"embedding_dim": 8, "encoder": {"hidden": [32]}, "tower": {"hidden": [8]}, "interaction": "dot"},
    "training": {"batch_size": 256, "epochs": 2, "precision": "float64", "early_stopping": None},
}


OWN: dict[str, Any] = {
    "data": {**TREE["data"], "source": {"kind": "custom", "class": "shop.parts:Synthetic"}},
    "model": {**TREE["model"], "kind": "custom", "class": "shop.parts:Wide", "settings": {"width": 8}},
    "balancing": {"kind": "custom", "class": "shop.parts:Cautious"},
    "features": {
        **TREE["features"],
        "age": {"kind": "numeric", "entity": "user", "encoder": {"kind": "custom", "class": "shop.parts:Plain"}},
        "history": {**TREE["features"]["history"], "encoder": {"kind": "custom", "class": "shop.parts:Plain"}},
    },
    "tasks": {
        **TREE["tasks"],
        "rating": {
            "kind": "regression",
            "loss": {"kind": "custom", "class": "shop.parts:Pinball", "settings": {"quantile": 0.6}},
            "metrics": ["rmse", {"kind": "custom", "class": "shop.parts:HitShare"}],
        },
    },
}
"""Sections with parts of the user's own, from the package that `write_parts` writes, in place of those of `TREE`."""


def small_experiment(**changes: Any) -> Experiment:
    """The small experiment with dotted-path changes."""
    from mtl_ray.config import override

    return override(parse(TREE, "test"), {key.replace("__", "."): value for key, value in changes.items()})


def wait_for(condition: Callable[[], Any], seconds: float = 240) -> Any:
    """What the condition gives as soon as it holds."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(0.05)
    raise AssertionError("timed out")


REQUIRED: dict[str, dict[str, Any]] = {
    "custom": {"class": "tests.custom_parts:Cautious", "settings": {"power": 0.5}},
    "scheduled": {"weights": {"click": {0: 1.0, 1: 0.2}}},
    "gradient_to_target": {"target": "rating"},
    "bandit": {"targets": ["rating", "click"], "every": 2, "rows": 200},
    "guarded": {"every": 1, "rows": 200},
}


WIDE = {"class": "tests.custom_parts:Wide", "settings": {"width": 16}}
"""Settings of the architecture `custom` beside those of all."""


def architectures() -> dict[str, dict[str, Any]]:
    """By kind, small settings of every member of the architecture union."""
    small = {"embedding_dim": 8, "encoder": {"hidden": [8, 8]}, "tower": {"hidden": [4]}}
    kinds = [member.model_fields["kind"].default for member in get_args(get_args(ArchitectureConfig)[0])]
    return {kind: {"kind": kind, **small, **(WIDE if kind == "custom" else {})} for kind in kinds}


def cold_starts() -> dict[str, dict[str, Any]]:
    """By kind, settings of every member of the union of what stands for an unseen id."""
    kinds = [member.model_fields["kind"].default for member in get_args(get_args(ColdStartConfig)[0])]
    return {kind: {"kind": kind} | ({"step": 0.5} if kind == "meta_embedding" else {}) for kind in kinds}


def balancings() -> dict[str, dict[str, Any]]:
    """By kind, settings of every member of the balancing union; a new member is in without being named here."""
    kinds = [member.model_fields["kind"].default for member in get_args(get_args(BalancingConfig)[0])]
    return {kind: {"kind": kind, "diagnostics_every": 4, **REQUIRED.get(kind, {})} for kind in kinds}


def shard(prepared: Prepared, split: SplitName, rank: int = 0, world_size: int = 1, memory: int = 1 << 30) -> Shard:
    return Shard(prepared.folder, prepared.schema, split, rank, world_size, memory, read_directly)


def parameters(trainer: Trainer) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in trainer.model.named_parameters()}


def test_data(name: str) -> Path:
    """A folder of real data; skips the test, with the reason, where it is not given."""
    root = os.environ.get("MTL_RAY_TEST_DATA")
    if not root or not (Path(root) / name).is_dir():
        pytest.skip(f"real data: MTL_RAY_TEST_DATA does not name a folder with {name}")
    return Path(root) / name


test_data.__test__ = False  # pyright: ignore[reportFunctionMemberAccess]


def write_parts(folder: Path, more: str = "") -> None:
    """Write a package `shop` with the module `parts`: the classes of `custom_parts`, and `more`."""
    (folder / "shop").mkdir(parents=True)
    (folder / "shop/__init__.py").touch()
    (folder / "shop/parts.py").write_text(Path(__file__).with_name("custom_parts.py").read_text() + more)


@contextmanager
def importable(folder: Path, package: str) -> Iterator[None]:
    """Have a package outside of the repository on the path, and forget it afterwards: others bring one of its name."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        try:
            yield
        finally:
            for name in [name for name in sys.modules if name.split(".")[0] == package]:
                del sys.modules[name]


def random_draw(seed: int) -> Draw:
    """Independent draws from each domain."""
    generator = random.Random(seed)  # noqa: S311 - no secret

    def draw(_: str, domain: Domain) -> Any:
        match domain:
            case ChoiceConfig():
                return generator.choice(list(domain.values))
            case LogUniformConfig():
                return domain.low * (domain.high / domain.low) ** generator.random()
            case RandIntConfig():
                return generator.randint(domain.low, domain.high)
            case _:
                return generator.uniform(domain.low, domain.high)

    return draw
