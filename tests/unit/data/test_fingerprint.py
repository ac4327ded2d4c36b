"""Data sets that were prepared are found again, and none that would differ is taken for them."""

from pathlib import Path
from typing import Annotated, Any

import pytest

from mtl_ray.config import Experiment, load, override, parse
from mtl_ray.config.base import NOT_ENCODED
from mtl_ray.config.data import DataConfig
from mtl_ray.data.fingerprint import fingerprint_of
from mtl_ray.data.sources import Raw
from tests.support import TREE, small_experiment

JOBS = Path(__file__).parents[3] / "jobs"
RAW = Raw(chunks=[], columns=[], num_rows=0, fingerprint="raw")
RECORDED = {
    "balancing_kuairand": "5f74c7c094d341d3dbb1f409d7a6786c9e1fc1aa70bde39ad97b58cc7561ab17",
    "balancing_movielens": "9b8ec6e3807440ef271d58f880585a0a3e5b31468721ffb5c896f10402cf5d39",
    "content_signal": "bc913e2aedc189639784eb9236c26bbd0dca792549fa4a85c2544b917724433a",
    "correlation": "7a567851b15967fd5deb424babcc5978f03713c1523090f9f086259241594361",
    "daily": "6bf54ccb7a1d7a9ed861e8164271cd49aab8939f58845039510f1cdadc80667a",
    "kuairand": "5f74c7c094d341d3dbb1f409d7a6786c9e1fc1aa70bde39ad97b58cc7561ab17",
    "kuairand_cold": "a6bec29db7a2acb1cbecb5fd39797b60072653dd0bafc4bc1c38ec09a06cece8",
    "movielens": "9b8ec6e3807440ef271d58f880585a0a3e5b31468721ffb5c896f10402cf5d39",
    "movielens_cold": "5bcb0084c1c76a419b15a4c04c71dcfe72cb9392bfcbce624a82b91ee66d4d74",
    "movielens_profile": "e7defcf5c3a1df3947f2a20223a0b8f9fbddc0cb6cdc15d928fd58a74f92c1a7",
    "movielens_tune": "3537feb6162a940baf9d217e4609afbd610d37e06ea2f5c48d1bd5d466ae0d45",
    "profile_image": "f51721f6c3d0248c349630d2cfe2bed8bff38a6f5160ec1b3d015c6af7371ea2",
    "profile_vector": "5a29eabbbc76753611291ea74f3fa3247f85d21782036b90df6baf6c8e83fa18",
    "static_kuairand": "5f74c7c094d341d3dbb1f409d7a6786c9e1fc1aa70bde39ad97b58cc7561ab17",
    "static_movielens": "8947a367ccb63d0907bddeb141056309524a8caef877008d199fa906abdc1243",
    "synthetic": "96bb690c0b6aa8c1e71f3c09cf6fe69a695f0a807b4d706ab7acbafb89ab709a",
    "synthetic_tune": "34915ecab480f0cb00c7f93a1eaecc81fa09e3e7a1d4a3586af03e1e9335c420",
}
"""Of the shipped experiments, as a released version made them: a new value means that users prepare anew."""

EVERY_KIND: dict[str, Any] = TREE | {
    "features": TREE["features"]
    | {
        "title": "text",
        "shown": {"kind": "statistic", "entity": "item", "of": "click"},
        "vector": {"kind": "vector", "entity": "item", "size": 3},
        "photo": {"kind": "image", "entity": "item", "shape": [4, 4, 3]},
    },
    "tasks": TREE["tasks"]
    | {
        "stars": {"kind": "ordinal", "relevant": 4},
        "plays": "count",
        "spent": "value",
        "taken": {"kind": "ranking", "relevant": 4},
    },
    "model": {"embedding_dim": 8},
}
RECORDED_OF_EVERY_KIND = "b087d77cfbd73ee605e22acc3babb17134f07eaf597127af2cfd6b1b6fbea641"


def fingerprint(experiment: Experiment) -> str:
    return fingerprint_of(experiment, RAW)


@pytest.mark.parametrize("job", RECORDED)
def test_a_data_set_of_an_earlier_version_is_found_again(job: str):
    assert fingerprint(load(JOBS / f"{job}.yaml")) == RECORDED[job]


def test_so_is_one_with_every_kind_of_feature_and_task():
    assert fingerprint(parse(EVERY_KIND, "test")) == RECORDED_OF_EVERY_KIND


@pytest.mark.parametrize(
    ("path", "value", "same"),
    [
        ("data.output", "elsewhere", True),
        ("data.max_bad_share", 0.5, True),
        ("seed", 4, False),
        ("data.seed", 3, True),  # as the experiment's own
        ("data.seed", 4, False),
        ("data.lanes", 8, False),
        ("features.price.buckets", 4, False),
        ("features.price.dim", 4, True),
        ("features.item_id.min_count", 2, False),
        ("features.item_id.cold_start", "content_gate", True),
        ("features.item_id.compression", {"kind": "hash", "rows": 10}, True),
        ("features.history.encoder", "rnn", True),
        ("features.photo.encoder", {"channels": [2]}, True),
        ("features.photo.scale", 2.0, False),
        ("features.price.format", "money", False),
        ("tasks.spent.format", "money", False),
        ("tasks.purchase.map", {"taken": 1}, False),
        ("data.time_format", "%d.%m.%Y", False),
        ("data.time_format", ["iso"], True),
        ("tasks.rating.weight", 0.1, True),
        ("tasks.rating.metrics", ["mae"], True),
        ("tasks.gender.masked_input", 0.3, True),
        ("tasks.purchase.where", None, False),
        ("tasks.taken.temperature", 2.0, True),
        ("tasks.taken.dim", 8, True),
        ("tasks.taken.relevant", 3, False),  # here it makes the label
        ("tasks.stars.relevant", 3, True),  # here only metrics read it
        ("model.embedding_dim", 16, True),
        ("training.epochs", 3, True),
    ],
)
def test_a_setting_changes_the_fingerprint_if_it_shapes_the_rows(path: str, value: Any, same: bool):
    experiment = parse(EVERY_KIND, "test")
    changes = {path: value}
    if path.endswith("content_gate"):
        changes["training.masking.item.new"] = 0.1
    assert (fingerprint(override(experiment, changes)) == fingerprint(experiment)) is same


def test_a_new_field_changes_the_fingerprint_unless_it_is_marked():
    class Unmarked(DataConfig):
        new: int = 0

    class Marked(DataConfig):
        new: Annotated[int, NOT_ENCODED] = 0

    class WithUnmarked(Experiment):
        data: Unmarked

    class WithMarked(Experiment):
        data: Marked

    before = fingerprint(small_experiment())
    assert fingerprint(WithUnmarked.model_validate(TREE)) != before
    assert fingerprint(WithMarked.model_validate(TREE)) == before
