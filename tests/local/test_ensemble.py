"""Ensembles that are trained in one process, as `compare` does, and what their checkpoints are good for."""

import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from mtl_ray.config import Experiment, override
from mtl_ray.data.dataset import Prepared
from mtl_ray.data.item_catalog import ITEMS
from mtl_ray.data.preparation.write import RAW_TEST
from mtl_ray.data.prepare import prepare
from mtl_ray.data.sources.csv_dialect import Dialect
from mtl_ray.errors import InputError
from mtl_ray.evaluation.evaluate import evaluate_model
from mtl_ray.inference.batch import read_whole
from mtl_ray.inference.drift import Limits, drift, write_reference
from mtl_ray.inference.evaluate import evaluate_checkpoint
from mtl_ray.inference.export import Format, export
from mtl_ray.inference.predict import predict
from mtl_ray.models import build_model, checkpoint
from mtl_ray.models.ensemble import Ensemble
from mtl_ray.promotion.gate import run_gate
from mtl_ray.runs.earlier_models import stage_models
from mtl_ray.runs.members import train_members
from mtl_ray.runs.records import TrainedMember
from mtl_ray.runs.run_folder import RunFolder
from mtl_ray.scoring.recommender import Recommender
from mtl_ray.scoring.scorer import Scorer
from mtl_ray.tracking.tracked_run import Run
from mtl_ray.training.fit import fit
from mtl_ray.training.members import members_of, seed_of
from mtl_ray.training.single_process import run_single_process
from mtl_ray.training.trainer import Trainer
from mtl_ray.training.warm_start import start_from
from mtl_ray.values.vocabulary import VOCABULARY
from tests.support import shard, small_experiment
from tests.unit.conftest import schema_of, vocabulary_table


@pytest.fixture(scope="module")
def experiment() -> Experiment:
    return small_experiment(training__ensemble=2, training__epochs=1)


def trained(settings: Experiment, prepared: Prepared) -> Trainer:
    trainer = Trainer(settings, prepared.schema, torch.device("cpu"))
    fit(trainer, shard(prepared, "train"), shard(prepared, "valid"), lambda _: None, None)
    return trainer


def result_of(settings: Experiment, prepared: Prepared) -> dict:
    tree = settings.model_dump(mode="json", exclude_unset=True)
    return run_single_process(tree, prepared.folder.location, "test", None, 1)


def test_members_have_seeds_of_their_own_and_one_split(experiment: Experiment, tmp_path: Path):
    first, second = members_of(experiment)
    assert first.seed == experiment.seed
    assert second.seed != first.seed
    assert {each.data_seed for each in (first, second)} == {experiment.data_seed}
    folders = {
        prepare(e.model_copy(update={"data": e.data.model_copy(update={"output": str(tmp_path)})})).folder.name
        for e in (experiment, first, second)
    }
    assert len(folders) == 1
    assert members_of(small_experiment()) == [small_experiment()]


def test_no_two_ensembles_of_neighbouring_seeds_share_a_member():
    seeds = [seed_of(seed, member) for seed in range(50) for member in range(1, 20)]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**31 for seed in seeds)


def test_its_metrics_are_those_of_the_mean_of_two_trainings(experiment: Experiment, prepared: Prepared):
    models = [trained(settings, prepared).evaluated for settings in members_of(experiment)]
    mean = Ensemble(models, [1, 1], list(experiment.tasks))
    rows = shard(prepared, "test")
    expected = evaluate_model(mean, rows)
    found = result_of(experiment, prepared)
    assert found["metrics"] == expected
    alone = [evaluate_model(model, rows) for model in models]
    assert len({metrics["test/rating/rmse"] for metrics in (expected, *alone)}) == 3


def test_of_one_member_it_is_the_plain_training(prepared: Prepared):
    settings = small_experiment(training__epochs=1)
    trainer = trained(settings, prepared)
    assert result_of(settings, prepared)["metrics"] == trainer.evaluate(shard(prepared, "test"))


@pytest.fixture(scope="module")
def saved(experiment: Experiment, prepared: Prepared, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of two members with random weights."""
    members = []
    for settings in members_of(experiment):
        torch.manual_seed(settings.seed)
        members.append((settings, build_model(settings, prepared.schema).double(), 1))
    folder = tmp_path_factory.mktemp("saved") / "ensemble"
    checkpoint.save_ensemble(folder, experiment, prepared.schema, members)
    prepared.folder.copy_to(VOCABULARY, folder / VOCABULARY)
    write_reference(folder, prepared)
    return folder


def raw_test_rows(prepared: Prepared) -> tuple[str, pa.Table]:
    place = f"{prepared.folder}/{RAW_TEST}"
    return place, read_whole(place, Dialect())


def test_raw_rows_are_scored_ids_never_seen_included(saved: Path, prepared: Prepared):
    scorer = Scorer(saved)
    scorer.check("here")
    _, rows = raw_test_rows(prepared)
    inputs = scorer.inputs(rows)
    loaded = checkpoint.load(saved).model
    assert isinstance(loaded, Ensemble)
    own = [member.evaluation_logits(inputs)["click"].detach() for member in loaded.members]  # pyright: ignore
    np.testing.assert_allclose(scorer.score(rows)["click"], torch.sigmoid((own[0] + own[1]) / 2)[:, 0], atol=1e-12)
    unseen = pa.table({"user_id": ["nobody"], "item_id": ["nothing"]})
    assert all(np.isfinite(values).all() for values in scorer.score(unseen).values())


def test_predictions_come_with_their_uncertainty(saved: Path, prepared: Prepared, tmp_path: Path):
    place, rows = raw_test_rows(prepared)
    predict(saved, place, str(tmp_path / "out"), keys=["user_id"], uncertainty=True)
    found = read_whole(str(tmp_path / "out"), Dialect())
    scores, spread = Scorer(saved).score_with_spread(rows)
    tasks = list(Scorer(saved).experiment.tasks)
    added = [*(f"predicted_{task}" for task in tasks), *(f"{task}_std" for task in tasks)]
    assert found.column_names == ["user_id", *added]
    np.testing.assert_allclose(found.column("predicted_rating"), scores["rating"], atol=1e-9)
    np.testing.assert_allclose(found.column("rating_std"), spread["rating"], atol=1e-9)
    assert min(spread["rating"]) > 0
    assert len(found.column("occupation_std")[0].as_py()) == spread["occupation"].shape[1]


def test_the_uncertainty_of_a_single_model_is_refused(saved: Path, prepared: Prepared, tmp_path: Path):
    member = tmp_path / "single"
    shutil.copytree(saved / "members/1", member)
    prepared.folder.copy_to(VOCABULARY, member / VOCABULARY)
    with pytest.raises(InputError, match=r"expected an ensemble.*training\.ensemble"):
        predict(member, raw_test_rows(prepared)[0], str(tmp_path / "out"), uncertainty=True)
    assert not (tmp_path / "out").exists()


def test_it_recommends_by_its_own_predictions(saved: Path, prepared: Prepared):
    items = prepared.folder.read_table(ITEMS)
    recommender = Recommender(saved, items, "rating")
    best = recommender.recommend({"user_id": "u1", "age": 33}, k=5)
    rows = pa.Table.from_pylist([{"user_id": "u1", "age": 33, **item} for item in recommender.items.to_pylist()])
    scores = Scorer(saved).score(rows)["rating"]
    assert [each["score"] for each in best] == pytest.approx(sorted(scores, reverse=True)[:5], abs=1e-9)


def test_its_evaluation_says_how_far_the_spread_explains_the_error(saved: Path, prepared: Prepared, tmp_path: Path):
    folder = tmp_path / "noted"
    shutil.copytree(saved, folder)
    checkpoint.note_noise(folder, {"rating": 1000.0})
    evaluation = evaluate_checkpoint(folder, prepared, "test")
    check = evaluation.spread["rating"]
    assert check.error == pytest.approx(evaluation.metrics["test/rating/rmse"])
    assert check.rows == evaluation.metrics["test/rating/count"]
    scorer, (_, rows) = Scorer(folder), raw_test_rows(prepared)
    labelled = ~np.isnan(scorer.encoder.label("rating", rows))
    assert check.spread == pytest.approx(scorer.score_with_spread(rows)[1]["rating"][labelled].mean())
    assert check.inside == 1
    assert evaluation.spread["click"].inside is None
    assert evaluate_checkpoint(saved, prepared, "test").spread["rating"].inside is None
    member = saved / "members/1"
    assert evaluate_checkpoint(member, prepared, "test").spread == {}


def test_new_rows_are_compared_with_its_reference(saved: Path, prepared: Prepared):
    found = drift(saved, raw_test_rows(prepared)[0], Limits(10.0, 1.0, 1.0))
    assert not found.drifted


def test_the_gate_compares_it_with_one_of_its_members(saved: Path, prepared: Prepared, tmp_path: Path):
    member = tmp_path / "single"
    shutil.copytree(saved / "members/1", member)
    prepared.folder.copy_to(VOCABULARY, member / VOCABULARY)
    _, rows = raw_test_rows(prepared)
    result = run_gate(Scorer(saved), Scorer(member), [rows], len(rows))
    assert {finding.requirement.task for finding in result.findings} >= {"click"}


@pytest.mark.filterwarnings("ignore")  # of the exporter about its own parts
@pytest.mark.parametrize("kind", ["onnx", "torch"])
def test_it_is_exported_as_one_model(kind: Format, tmp_path: Path):
    settings = small_experiment(training__precision="float32", training__ensemble=2)
    schema = schema_of(settings)
    members = [(each, build_model(each, schema), 1) for each in members_of(settings)]
    checkpoint.save_ensemble(tmp_path / "e", settings, schema, members)
    pq.write_table(vocabulary_table(), tmp_path / "e" / VOCABULARY)
    assert export(tmp_path / "e", kind, str(tmp_path / "out")).largest_difference < 1e-5


def test_each_member_starts_from_that_of_its_number(experiment: Experiment, saved: Path, prepared: Prepared):
    settings = override(experiment, {"training.warm_start": str(saved)})
    staged = stage_models(settings, RunFolder.of(settings, "run"))
    loaded = checkpoint.load(saved).model
    assert isinstance(loaded, Ensemble)
    for member, before in zip(members_of(staged), loaded.members, strict=True):
        trainer = Trainer(member, prepared.schema, torch.device("cpu"))
        start_from(trainer, prepared, str(member.training.warm_start))
        found = trainer.model.state_dict()
        assert all(torch.equal(value, found[name]) for name, value in before.state_dict().items())


def test_a_training_of_another_number_of_members_starts_from_one_of_them(saved: Path):
    settings = small_experiment(training__warm_start=str(saved))
    with pytest.raises(InputError, match=r"training\.warm_start: .* an ensemble of 2 members.*members/1"):
        stage_models(settings, RunFolder.of(settings, "run"))
    single = small_experiment(training__warm_start=f"{saved}/members/2")
    assert stage_models(single, RunFolder.of(single, "run")).training.warm_start == f"{saved}/members/2"


def test_members_that_have_ended_are_joined_without_another_training(
    experiment: Experiment, saved: Path, prepared: Prepared, tmp_path: Path
):
    """As after a kill at that moment, in which nothing but the members' folders is there."""
    settings = override(experiment, {"training.output": str(tmp_path)})
    folder = RunFolder.of(settings, "run")
    for number, member in enumerate(members_of(experiment), 1):
        own = RunFolder(f"{folder.members}/{number}").create()
        shutil.copytree(saved / "members" / str(number), Path(own.path) / "checkpoint_7")
        own.write_history({1: {"train/loss": 1.0}, 2: {"train/loss": 0.5}})
        own.write_members([TrainedMember(member.seed, 2, 2, "checkpoint_7")])
    said: list[str] = []
    run = Run(f"sqlite:///{tmp_path}/mlflow.db", None, folder)
    for _ in range(2):  # the second time as after a kill at the end
        joined = train_members(settings, prepared, folder, run, said.append, "again")
        assert said[-2] == f"kept: epoch 2 of 2 in member 2, of seed {seed_of(experiment.seed, 2)}"
        assert sorted(folder.entries()) == ["ensemble", "history.json", "members.json"]
        loaded, before = checkpoint.load(joined), checkpoint.load(saved)
        assert loaded.experiment == settings
        expected = before.model.state_dict()
        assert all(torch.equal(value, expected[name]) for name, value in loaded.model.state_dict().items())
        checks = evaluate_checkpoint(joined, prepared, "valid").spread
        assert loaded.noise == {"rating": pytest.approx(checks["rating"].error)}
        assert checkpoint.load(joined / "members/2").experiment == members_of(settings)[1]
