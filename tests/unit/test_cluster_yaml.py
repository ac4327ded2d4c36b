import copy
from pathlib import Path

import pytest
import yaml
from jsonschema import ValidationError
from ray.autoscaler._private.util import prepare_config, validate_config

ROOT = Path(__file__).parents[2]


@pytest.fixture
def config():
    return yaml.safe_load((ROOT / "cluster.yaml").read_text())


def validate(config):
    validate_config(prepare_config(copy.deepcopy(config)))


def test_ray_accepts_the_cluster_file(config):
    validate(config)


def test_every_worker_has_an_address(config):
    assert config["max_workers"] == len(config["provider"]["worker_ips"])


def test_a_misspelt_key_would_be_refused(config):
    with pytest.raises(ValidationError, match="setup_comands"):
        validate(config | {"setup_comands": []})
