import os

import pytest
import ray

from mtl_ray.cluster.session import connect
from mtl_ray.runs.train import train
from tests.cluster.world import World
from tests.support import small_experiment

# A dead worker is noticed soon. Benchmarks look as seldom as users do: it costs time.
os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.2")


def pytest_collection_modifyitems(items):
    for item in items:
        if item.get_closest_marker("long") and not os.environ.get("MTL_RAY_TEST_LONG"):
            item.add_marker(pytest.mark.skip(reason="takes minutes; on request: MTL_RAY_TEST_LONG=1"))


@pytest.fixture(scope="package")
def cluster():
    connect(num_cpus=2, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.fixture(scope="package")
def work(tmp_path_factory):
    return tmp_path_factory.mktemp("work")


@pytest.fixture(scope="package")
def settings(work):
    """The small experiment with all its outputs under one temporary folder, two workers, a checkpoint every epoch."""
    return small_experiment(
        data__output=str(work / "datasets"),
        training__output=str(work / "runs"),
        training__num_workers=2,
        training__epochs=6,
        tracking__uri=f"sqlite:///{work}/mlflow.db",
        tracking__register_as="small",
    )


@pytest.fixture(scope="package")
def trained(cluster, settings, work):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(work)
        return train(settings, echo=lambda _: None, profile=True)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "environ", os.environ)
        world = World(tmp_path_factory.mktemp("world"))
        yield world
        world.close()
