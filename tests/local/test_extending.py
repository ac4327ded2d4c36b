"""The examples of docs/extending.md run as they stand there."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from mtl_ray.config import parse
from mtl_ray.config.custom import classes_of
from mtl_ray.data.prepare import prepare
from mtl_ray.training.fit import fit
from mtl_ray.training.trainer import Trainer
from tests.support import TREE, importable, shard

PAGE = (Path(__file__).parents[2] / "docs/extending.md").read_text()
BLOCKS = re.findall(r"```(python|yaml)\n(.*?)```", PAGE, re.DOTALL)
MODULES = {text.splitlines()[0].removeprefix("# "): text for kind, text in BLOCKS if kind == "python"}
CHANGES = [yaml.safe_load(text) for kind, text in BLOCKS if kind == "yaml"]


@pytest.fixture
def shop(tmp_path: Path):
    """The package of the page."""
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop/__init__.py").touch()
    for name, text in MODULES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    with importable(tmp_path, "shop"):
        yield


@pytest.mark.parametrize("name", MODULES)
def test_an_example_is_short(name: str):
    assert len(MODULES[name].splitlines()) < 25


@pytest.mark.parametrize("changes", CHANGES, ids=lambda changes: next(iter(changes)))
def test_an_example_trains(changes: dict[str, Any], shop, tmp_path: Path):
    is_whole = {"features", "tasks"} <= {*changes}  # of another log
    tree = {**TREE, **changes} if is_whole else _merged(TREE, changes)
    tree["data"] = {**tree["data"], "output": str(tmp_path / "data")}
    experiment = parse(tree, "extending.md")
    assert classes_of(experiment)
    prepared = prepare(experiment)
    trainer, reports = Trainer(experiment, prepared.schema, torch.device("cpu")), []
    fit(trainer, shard(prepared, "train"), shard(prepared, "valid"), reports.append, None)
    losses = [value for key, value in reports[-1].items() if key.endswith("/loss")]
    assert losses
    assert torch.tensor(losses).isfinite().all()


def _merged(tree: Any, changes: Any) -> Any:
    """Return a tree with changes; a section of another kind replaces what was there."""
    if not isinstance(tree, dict) or not isinstance(changes, dict) or "kind" in changes:
        return changes
    return {**tree, **{key: _merged(tree.get(key), value) for key, value in changes.items()}}
