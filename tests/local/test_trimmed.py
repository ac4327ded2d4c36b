"""Lists of a batch are cut to its longest one: the steps are the same, with less to read."""

import pytest
import torch

from mtl_ray.data.loader import trimmed
from mtl_ray.data.prepare import prepare
from mtl_ray.features.base import feature_kinds
from mtl_ray.schema import PADDING
from mtl_ray.training.trainer import Trainer
from tests.support import parameters, shard, small_experiment

LENGTH = 120


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    """Lists that are all shorter than their columns, read by encoders, and seen in part."""
    source = {"kind": "synthetic", "num_users": 100, "num_items": 60, "num_interactions": 1500}
    lists = {"kind": "sequence", "max_length": LENGTH, "known": "all", "values": "rating"}
    return small_experiment(
        data__source=source,
        data__split={"kind": "random"},
        data__output=str(tmp_path_factory.mktemp("data")),
        features__history={**lists, "of": "item_id", "encoder": {"kind": "rnn", "hidden": 8}},
        features__audience={**lists, "of": "user_id", "entity": "item"},
        training__masking__values=0.1,
        training__optimizer={"kind": "sgd", "lr": 0.05},
    )


def test_only_padding_is_cut_and_only_of_lists(experiment):
    lists = [kind.padded_columns for kind in feature_kinds(experiment).values() if kind.padded_columns]
    assert lists == [("tags",), ("history", "history.values"), ("audience", "audience.values")]
    batch = next(shard(prepare(experiment), "train").training_batches(0, 0, 64))
    cut = trimmed(batch, lists)
    assert cut.keys() == batch.keys()
    for names in lists:
        longest = int((batch[names[0]] != PADDING).sum(1).max())
        for name in names:
            assert torch.equal(cut[name], batch[name][:, :longest])
    assert cut["history"].shape[1] < LENGTH
    others = batch.keys() - {name for names in lists for name in names}
    assert all(cut[name] is batch[name] for name in others)
    nothing = trimmed({name: column[:0] for name, column in batch.items()}, lists)
    assert nothing["history.values"].shape == (0, 1)


def test_an_epoch_makes_the_steps_of_untrimmed_batches(experiment):
    prepared = prepare(experiment)
    found, expected = (Trainer(experiment, prepared.schema, torch.device("cpu")) for _ in range(2))
    found.epoch(shard(prepared, "train"))
    expected.parallel.train()
    for batch in shard(prepared, "train").training_batches(experiment.seed, 0, experiment.training.batch_size):
        expected.step(batch)
    for name, value in parameters(expected).items():
        torch.testing.assert_close(parameters(found)[name], value, rtol=0, atol=1e-10)
