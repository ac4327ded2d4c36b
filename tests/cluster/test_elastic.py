"""A run of `num_workers: {min, max}` goes on with fewer workers when a node is lost, and grows when one comes."""

import json
from pathlib import Path

import pytest
import torch
import yaml

from mtl_ray.data.dataset import open_prepared
from mtl_ray.models import checkpoint
from mtl_ray.training.fit import fit
from mtl_ray.training.trainer import Trainer
from tests.cluster.machines import Driver, Machines
from tests.support import shard, small_experiment, wait_for

EPOCHS = 80


@pytest.fixture
def machines():
    machines = Machines(2)
    yield machines
    machines.close()


def num_workers(machines: Machines) -> int:
    return len(machines.processes("RayTrainWorker"))


def num_epochs(folder: Path) -> int:
    history = next(folder.glob("runs/*/history.json"), None)
    return len(json.loads(history.read_text())) if history else 0


@pytest.mark.long
def test_a_lost_node_shrinks_and_a_new_one_grows_the_run_and_the_result_is_the_same(machines, tmp_path: Path):
    experiment = small_experiment(
        data__output=str(tmp_path / "datasets"),
        training__output=str(tmp_path / "runs"),
        training__num_workers={"min": 1, "max": 2, "every": 2},
        training__cpus_per_worker=0.8,
        training__threads_per_worker=1,
        training__epochs=EPOCHS,
        tracking__uri=f"sqlite:///{tmp_path}/mlflow.db",
    )
    file = tmp_path / "experiment.yaml"
    file.write_text(yaml.safe_dump(experiment.model_dump(mode="json", exclude_unset=True), sort_keys=False))
    elastic = Driver(machines, tmp_path, "train", str(file))

    def after_epochs(number: int) -> int:
        """How many workers there are when so many more epochs are done."""
        first = num_epochs(tmp_path)
        wait_for(lambda: num_epochs(tmp_path) >= first + number or elastic.ended)
        assert not elastic.ended, elastic.log.read_text()[-3000:]
        return num_workers(machines)

    sizes = [after_epochs(1)]
    machines.lose_node(0, replace=False)
    sizes.append(after_epochs(3))
    machines.nodes.append(machines.add())
    wait_for(lambda: num_workers(machines) == 2 or elastic.ended)
    sizes.append(after_epochs(2))
    assert sizes == [2, 1, 2]
    grown = elastic.result()
    prepared = open_prepared(grown["dataset"])
    alone = Trainer(experiment, prepared.schema, torch.device("cpu"))
    fit(alone, shard(prepared, "train"), shard(prepared, "valid"), lambda _: None, title=None)
    weights = checkpoint.load(Path(grown["checkpoint"])).model.state_dict()
    for name, value in alone.evaluated.state_dict().items():
        torch.testing.assert_close(weights[name], value, rtol=0, atol=1e-9)
    expected = alone.evaluate(shard(prepared, "test"))
    both = expected.keys() & grown["metrics"].keys()
    assert "test/rating/rmse" in both
    assert {key: grown["metrics"][key] for key in both} == pytest.approx({key: expected[key] for key in both}, abs=1e-9)
