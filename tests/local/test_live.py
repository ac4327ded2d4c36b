"""An alias that is followed: what is loaded when it moves, and what a version that cannot be loaded costs."""

import shutil

import pytest
import torch
from mlflow import MlflowClient
from safetensors.torch import load_file, save_file

from mtl_ray.errors import InputError
from mtl_ray.inference import live
from mtl_ray.inference.live import Follower, load
from mtl_ray.models.checkpoint import WEIGHTS
from tests.local.conftest import CHECKPOINT


@pytest.fixture(scope="module")
def uri(registry: str, tmp_path_factory) -> str:
    """The registry, with a second version whose weights are NaN."""
    place = tmp_path_factory.mktemp("broken")
    shutil.copytree(CHECKPOINT, place / "artifacts/checkpoint")
    file = place / "artifacts/checkpoint" / WEIGHTS
    weights = load_file(file)
    save_file({n: w.fill_(torch.nan) if w.is_floating_point() else w for n, w in weights.items()}, file)
    MlflowClient(registry).create_model_version("shop", f"file://{place}")
    return registry


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [0.0]
    monkeypatch.setattr(live.time, "monotonic", lambda: now[0])
    return now


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The versions that were loaded, or tried."""
    versions: list[str] = []

    def counted(model: str, tracking_uri: str, version: str, trust: bool):
        versions.append(version)
        return load(model, tracking_uri, version, trust)

    monkeypatch.setattr(live, "load", counted)
    return versions


def test_a_version_with_weights_that_are_no_numbers_is_not_served(uri: str):
    assert load("models:/shop/1", uri, "1").version == "1"
    with pytest.raises(InputError, match="expected finite weights"):
        load("models:/shop/2", uri, "2")


def test_a_broken_version_never_answers_and_is_tried_seldom(uri: str, clock: list[float], loaded: list[str], caplog):
    client = MlflowClient(uri)
    client.set_registered_model_alias("shop", "champion", "1")
    follower = Follower("models:/shop@champion", uri, poll=1.0)
    client.set_registered_model_alias("shop", "champion", "2")
    for second in range(60):
        clock[0] = float(second)
        follower.look()
    assert follower.live.version == "1"
    assert loaded == ["1", "2", "2", "2", "2", "2"]  # at 0, 2, 6, 14, 30 s
    assert "version 1 goes on" in caplog.text
    assert "expected finite weights" in caplog.text
    client.set_registered_model_alias("shop", "champion", "1")
    follower.look()
    client.set_registered_model_alias("shop", "champion", "2")
    follower.look()
    assert loaded[6:] == ["2"]  # it moved meanwhile, so it is tried at once


def test_an_alias_that_moves_to_a_sound_version_is_followed(uri: str, loaded: list[str]):
    client = MlflowClient(uri)
    third = client.create_model_version("shop", client.get_model_version("shop", "1").source).version
    client.set_registered_model_alias("shop", "live", "1")
    follower = Follower("models:/shop@live", uri, poll=1.0)
    client.set_registered_model_alias("shop", "live", str(third))
    follower.look()
    assert follower.live.version == str(third)
    follower.look()
    assert loaded == ["1", str(third)]


def test_a_registry_that_is_away_changes_nothing(uri: str, monkeypatch: pytest.MonkeyPatch, caplog):
    MlflowClient(uri).set_registered_model_alias("shop", "champion", "1")
    follower = Follower("models:/shop@champion", uri, poll=1.0)

    def away(*_):
        raise ConnectionError("no route")

    monkeypatch.setattr(MlflowClient, "get_model_version_by_alias", away)
    follower.look()
    assert follower.live.version == "1"
    assert "no route" in caplog.text
