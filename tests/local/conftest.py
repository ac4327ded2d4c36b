import pytest
import ray

from mtl_ray.data.prepare import Prepared, prepare
from tests.support import small_experiment


@pytest.fixture(scope="package")
def local_ray():
    ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="warning")
    yield
    ray.shutdown()


@pytest.fixture(scope="package")
def prepared(local_ray, tmp_path_factory) -> Prepared:
    return prepare(small_experiment(data__output=str(tmp_path_factory.mktemp("datasets"))))
