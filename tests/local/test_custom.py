"""A model with parts of the user's own, from a package outside of the repository: trained, joined, registered,
loaded again."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from mtl_ray.config import Experiment, override, parse
from mtl_ray.data.dataset import Prepared
from mtl_ray.data.prepare import prepare
from mtl_ray.errors import InputError
from mtl_ray.models import checkpoint
from mtl_ray.scoring.scorer import Scorer
from mtl_ray.storage import Folder
from mtl_ray.tracking.registry import checkpoint_folder, example_of, register, signature_of
from mtl_ray.tracking.tracked_run import Run
from mtl_ray.training.members import members_of
from mtl_ray.training.state import resume, save_checkpoint
from mtl_ray.training.trainer import Trainer
from mtl_ray.values.vocabulary import VOCABULARY
from tests.support import OWN, TREE, importable, shard, write_parts

CPU = torch.device("cpu")

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
    write_parts(folder)
    with importable(folder, "shop"):
        yield folder


@pytest.fixture(scope="module")
def made(shop, tmp_path_factory) -> tuple[Experiment, Prepared]:
    place = tmp_path_factory.mktemp("own")
    tracking = {"uri": f"sqlite:///{place}/mlflow.db", "register_as": "own"}
    tree = {**TREE, **OWN, "data": {**OWN["data"], "output": str(place / "data")}}
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


@pytest.fixture(scope="module")
def ensemble(made, tmp_path_factory) -> Path:
    """The checkpoint of two members, each after an epoch."""
    experiment, prepared = made
    both, members = override(experiment, {"training.ensemble": 2}), []
    for settings in members_of(both):
        trainer = Trainer(settings, prepared.schema, CPU)
        trainer.epoch(shard(prepared, "train"))
        members.append((settings, trainer.evaluated, 1))
    folder = tmp_path_factory.mktemp("run") / "ensemble"
    checkpoint.save_ensemble(folder, both, prepared.schema, members)
    prepared.folder.copy_to(VOCABULARY, folder / VOCABULARY)
    return folder


def test_an_ensemble_is_loaded_with_trust_alone(ensemble: Path):
    with pytest.raises(InputError, match=r"the model needs shop.parts:Plain \(features.age.encoder\), "):
        checkpoint.load(ensemble)
    first, second = checkpoint.load(ensemble, trust=True).model.members
    assert not torch.equal(first.network.layer.weight, second.network.layer.weight)


def test_the_registered_ensemble_brings_its_code(made, ensemble: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    experiment, prepared = made
    monkeypatch.chdir(tmp_path)
    scorer = Scorer(ensemble, trust=True)
    run = Run.start(experiment, "own", Folder(str(tmp_path / "run")).create())
    example = example_of(scorer, prepared)
    uri = register(experiment, run, ensemble, prepared, signature_of(scorer), example, {})
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
    assert (checkpoint_folder(uri, str(experiment.tracking.uri)) / checkpoint.ENSEMBLE).is_file()
