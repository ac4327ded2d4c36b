"""A run of `num_workers: {min, max}` goes on with fewer workers when a node is lost, and grows when one comes."""

from pathlib import Path

import pytest
import torch
import yaml

from mtl_ray import checkpoint
from tests.cluster.machines import Driver, Machines
from tests.support import small_experiment, wait_for

EPOCHS = 40


@pytest.fixture
def machines():
    machines = Machines(2)
    yield machines
    machines.close()


def num_workers(machines: Machines) -> int:
    return len(machines.processes("RayTrainWorker"))


def test_a_lost_node_shrinks_and_a_new_one_grows_the_run_and_the_result_is_the_same(machines, tmp_path: Path):
    experiment = small_experiment(
        data__output=str(tmp_path / "datasets"),
        training__output=str(tmp_path / "runs"),
        training__num_workers={"min": 1, "max": 2, "every": 2},
        training__cpus_per_worker=0.8,
        training__threads_per_worker=1,
        training__epochs=EPOCHS,
        training__checkpoint_steps=8,
        tracking__uri=f"sqlite:///{tmp_path}/mlflow.db",
    )
    file = tmp_path / "experiment.yaml"
    file.write_text(yaml.safe_dump(experiment.model_dump(mode="json", exclude_unset=True), sort_keys=False))
    elastic = Driver(machines, tmp_path, "train", str(file))
    wait_for(lambda: (num_workers(machines) == 2 and list(tmp_path.glob("runs/*/history.json"))) or elastic.ended)
    assert not elastic.ended, elastic.log.read_text()[-3000:]
    sizes = [num_workers(machines)]
    machines.lose_node(0, replace=False)
    sizes.append(wait_for(lambda: (num_workers(machines) == 1 and 1) or elastic.ended))
    assert not elastic.ended, elastic.log.read_text()[-3000:]
    machines.nodes.append(machines.add())
    sizes.append(wait_for(lambda: (num_workers(machines) == 2 and 2) or elastic.ended))
    assert not elastic.ended, elastic.log.read_text()[-3000:]
    assert sizes == [2, 1, 2]
    grown = elastic.result()
    one = Driver(machines, tmp_path, "train", str(file), "--set", "training.num_workers=1").result()
    assert grown["metrics"] == pytest.approx(one["metrics"], abs=1e-9)
    weights = [checkpoint.load(Path(result["checkpoint"])).model.state_dict() for result in (grown, one)]
    for name, value in weights[0].items():
        torch.testing.assert_close(value, weights[1][name], rtol=0, atol=1e-9)
