"""A model that distils an ensemble comes close to it, and is a model like any other."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from mtl_ray.config import Experiment, override
from mtl_ray.data.dataset import Prepared
from mtl_ray.errors import InputError
from mtl_ray.models import checkpoint
from mtl_ray.runs.earlier_models import stage_models
from mtl_ray.runs.run_folder import RunFolder
from mtl_ray.training.fit import fit
from mtl_ray.training.members import members_of
from mtl_ray.training.state import resume, save_checkpoint
from mtl_ray.training.trainer import Trainer
from tests.support import parameters, shard, small_experiment


def trained(settings: Experiment, prepared: Prepared) -> Trainer:
    trainer = Trainer(settings, prepared.schema, torch.device("cpu"))
    fit(trainer, shard(prepared, "train"), shard(prepared, "valid"), lambda _: None, None)
    return trainer


@pytest.fixture(scope="module")
def teacher(prepared: Prepared, tmp_path_factory: pytest.TempPathFactory) -> Path:
    experiment = small_experiment(training__ensemble=2, training__epochs=3)
    members = [(each, trained(each, prepared).model, 1) for each in members_of(experiment)]
    folder = tmp_path_factory.mktemp("teacher") / "ensemble"
    checkpoint.save_ensemble(folder, experiment, prepared.schema, members)
    return folder


def outputs(model, prepared: Prepared) -> Tensor:
    parts = [model.evaluation_logits(batch)["rating"] for batch in shard(prepared, "test").evaluation_batches(8192)]
    return torch.cat(parts)


def test_the_student_is_closer_to_its_teacher_than_one_that_learns_labels(teacher: Path, prepared: Prepared):
    wanted = outputs(checkpoint.load(teacher).model, prepared)
    distances = []
    for distill in (None, str(teacher)):
        settings = small_experiment(seed=11, data__seed=3, training__epochs=3, training__distill=distill)
        student = trained(settings, prepared).model.eval()
        distances.append((outputs(student, prepared) - wanted).square().mean().item())
    assert distances[1] < 0.7 * distances[0]


def test_a_resumed_distillation_equals_one_that_was_never_interrupted(
    teacher: Path, prepared: Prepared, tmp_path: Path
):
    settings = small_experiment(training__distill=str(teacher))
    whole = trained(settings, prepared)
    first = trained(override(settings, {"training.last_epoch": 1}), prepared)
    save_checkpoint(first, tmp_path / "c")
    second = Trainer(settings, prepared.schema, torch.device("cpu"))
    resume(second, tmp_path / "c")
    fit(second, shard(prepared, "train"), shard(prepared, "valid"), lambda _: None, None)
    expected, found = parameters(whole), parameters(second)
    assert all(torch.equal(expected[name], found[name]) for name in expected)


def test_the_teacher_is_staged_as_a_location_that_workers_read(teacher: Path, tmp_path: Path):
    settings = small_experiment(training__distill=str(teacher), training__output=str(tmp_path))
    assert stage_models(settings, RunFolder.of(settings, "run")).training.distill == str(teacher)
    missing = override(settings, {"training.distill": str(tmp_path / "nothing")})
    with pytest.raises(InputError, match=r"training\.distill: expected a checkpoint folder or a model URI; found"):
        stage_models(missing, RunFolder.of(missing, "run"))
