"""A model with parts of the user's own, from a package outside of the repository: trained, registered, loaded again."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from mtl_ray.config import Experiment, parse
from mtl_ray.data.dataset import Prepared
from mtl_ray.data.prepare import prepare
from mtl_ray.models.checkpoint import WEIGHTS
from mtl_ray.scoring.scorer import Scorer
from mtl_ray.storage import Folder
from mtl_ray.tracking.registry import checkpoint_folder, example_of, register, signature_of
from mtl_ray.tracking.tracked_run import Run
from mtl_ray.training.state import resume, save_checkpoint
from mtl_ray.training.trainer import Trainer
from mtl_ray.values.vocabulary import VOCABULARY
from tests.support import TREE, importable, shard

ROOT = Path(__file__).parents[2]
CPU = torch.device("cpu")

OWN: dict[str, Any] = {
    "data": {"source": {"kind": "custom", "class": "shop.parts:Synthetic"}},
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

PREDICT = """
import sys, mlflow, pandas as pd
mlflow.set_tracking_uri(sys.argv[1])
rows = pd.read_parquet(sys.argv[2])
mlflow.pyfunc.load_model("models:/own/1").predict(rows).to_parquet(sys.argv[3])
assert "shop" in sys.modules and "site" not in sys.modules["shop"].__file__
"""


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """The package, on the path."""
    folder = tmp_path_factory.mktemp("elsewhere")
    (folder / "shop").mkdir()
    (folder / "shop/__init__.py").touch()
    (folder / "shop/parts.py").write_text((ROOT / "tests/custom_parts.py").read_text())
    with importable(folder, "shop"):
        yield folder


@pytest.fixture(scope="module")
def made(shop, tmp_path_factory) -> tuple[Experiment, Prepared]:
    place = tmp_path_factory.mktemp("own")
    tracking = {"uri": f"sqlite:///{place}/mlflow.db", "register_as": "own"}
    tree = {**TREE, **OWN, "data": {**TREE["data"], "output": str(place / "data"), **OWN.get("data", {})}}
    experiment = parse({**tree, "tracking": tracking}, "own.yaml")
    return experiment, prepare(experiment)


@pytest.fixture(scope="module")
def trained(made, tmp_path_factory) -> Path:
    """A checkpoint after an epoch."""
    experiment, prepared = made
    trainer = Trainer(experiment, prepared.schema, CPU)
    trainer.epoch(shard(prepared, "train"))
    folder = tmp_path_factory.mktemp("run") / "checkpoint"
    save_checkpoint(trainer, folder)
    prepared.folder.copy_to(VOCABULARY, folder / VOCABULARY)
    return folder


def test_a_resumed_training_equals_an_undisturbed_one(made, trained: Path):
    experiment, prepared = made
    whole, resumed = (Trainer(experiment, prepared.schema, CPU) for _ in range(2))
    whole.epoch(shard(prepared, "train"))
    resume(resumed, trained)
    for trainer in (whole, resumed):
        trainer.epoch(shard(prepared, "train"))
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[name]), name
    metrics = whole.evaluate(shard(prepared, "valid"))
    assert metrics == resumed.evaluate(shard(prepared, "valid"))
    assert 0 < metrics["valid/rating/HitShare"] < 1


def test_the_registered_model_brings_its_code(made, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    experiment, prepared = made
    monkeypatch.chdir(tmp_path)
    scorer = Scorer(trained, trust=True)
    run = Run.start(experiment, "own", Folder(str(tmp_path / "run")).create())
    example = example_of(scorer, prepared)
    uri = register(experiment, run, trained, prepared, signature_of(scorer), example, {})
    assert uri == "models:/own/1"
    example.to_parquet(tmp_path / "rows.parquet")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    words = [str(experiment.tracking.uri), str(tmp_path / "rows.parquet"), str(tmp_path / "found.parquet")]
    subprocess.run([sys.executable, "-c", PREDICT, *words], check=True, env=environment, cwd=tmp_path)
    found = pd.read_parquet(tmp_path / "found.parquet")
    import pyarrow as pa

    expected = scorer.score(pa.Table.from_pandas(example))
    for task, values in expected.items():
        np.testing.assert_allclose(np.stack(found[task].tolist()), values, rtol=1e-6, atol=1e-9)
    assert (checkpoint_folder(uri, str(experiment.tracking.uri)) / WEIGHTS).is_file()
