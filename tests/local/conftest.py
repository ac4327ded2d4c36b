import pytest
import ray

from mtl_ray.cluster.session import connect
from mtl_ray.data.dataset import Prepared
from mtl_ray.data.prepare import prepare
from tests.support import small_experiment


@pytest.fixture(scope="package")
def local_ray():
    """Ray, for the few tests of this folder that need it."""
    connect(num_cpus=2, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.fixture(scope="package")
def prepared(tmp_path_factory) -> Prepared:
    return prepare(small_experiment(data__output=str(tmp_path_factory.mktemp("datasets"))))
