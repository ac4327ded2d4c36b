"""Distillation: a student learns the outputs of its teacher, for every kind of task."""

from pathlib import Path
from typing import Any

import pytest
import torch

from mtl_ray.config import Experiment, override
from mtl_ray.errors import InputError
from mtl_ray.models import MultiTaskModel, build_masking, build_model, checkpoint
from mtl_ray.schema import ROW, FittedTask, Schema, label_column
from mtl_ray.tasks.base import build_task
from mtl_ray.training.kept_epoch import chooses_epochs
from mtl_ray.training.losses import LossComputer
from mtl_ray.training.precision import Precision
from mtl_ray.training.teacher import Teacher
from tests.unit.conftest import batch_of, schema_of

CPU = torch.device("cpu")
KINDS: dict[str, tuple[Any, FittedTask]] = {
    "regression": ("regression", FittedTask(mean=3.0, std=1.0)),
    "binary": ("binary", FittedTask(mean=0.3)),
    "multiclass": ("multiclass", FittedTask(classes=("a", "b", "c"))),
    "multilabel": ("multilabel", FittedTask(classes=("a", "b", "c"))),
    "ordinal": ("ordinal", FittedTask(classes=("1", "2", "3"))),
    "count": ("count", FittedTask(mean=2.0)),
    "value": ("value", FittedTask(mean=2.0, std=3.0)),
}


def teacher_at(folder: Path, experiment: Experiment, schema: Schema, seeds: tuple[int, ...] = (1,)) -> Teacher:
    """A teacher with a member for each seed, which counts so often."""
    members = []
    for seed in seeds:
        torch.manual_seed(seed)
        members.append((experiment, build_model(experiment, schema).eval(), seed))
    checkpoint.save_ensemble(folder, experiment, schema, members)
    return Teacher(str(folder), schema, CPU, torch.float32)


def rows_of(experiment: Experiment, size: int = 20) -> dict[str, torch.Tensor]:
    """Encoded rows with a label of the rating alone."""
    tasks = schema_of(experiment).tasks
    heads = {name: build_task(spec, tasks[name]) for name, spec in experiment.tasks.items()}
    absent = {label_column(n): head.label_zeros(size, torch.float32) for n, head in heads.items()}
    absent = {n: column.fill_(torch.nan if column.is_floating_point() else -1) for n, column in absent.items()}
    labels = torch.rand(size, generator=torch.Generator().manual_seed(1))
    return batch_of(size) | absent | {label_column("rating"): labels, ROW: torch.arange(size)}


def losses_of(experiment: Experiment, student: MultiTaskModel, teacher: Teacher | None = None) -> LossComputer:
    return LossComputer(student, build_masking(experiment), Precision("float32", CPU), CPU, teacher)


@pytest.mark.parametrize(("config", "fitted"), KINDS.values(), ids=KINDS)
def test_the_loss_is_least_at_the_outputs_of_the_teacher(config, fitted: FittedTask, experiment: Experiment):
    changes = {"tasks": {"rating": config, "click": "binary"}}
    spec = override(experiment, changes).tasks["rating"]
    head, generator = build_task(spec, fitted), torch.Generator().manual_seed(0)
    teacher = torch.randn(6, head.num_outputs, generator=generator)
    logits, mask = teacher.clone().requires_grad_(), torch.tensor([True] * 4 + [False] * 2)
    loss, count = head.distilled(logits, teacher, mask)
    loss.backward()
    assert count == 4
    assert logits.grad is not None
    assert logits.grad.abs().max() < 1e-6
    assert head.distilled(teacher + 3 * torch.randn(teacher.shape, generator=generator), teacher, mask)[0] > loss


def test_a_teacher_gives_the_mean_outputs_of_its_members(experiment: Experiment, schema: Schema, tmp_path: Path):
    teacher = teacher_at(tmp_path / "e", experiment, schema, (1, 3))
    batch = build_masking(experiment).draw(rows_of(experiment), epoch=0)
    own = [member(batch.columns, batch.hidden).logits for member in teacher.model.members]
    for task, found in teacher(batch).items():
        torch.testing.assert_close(found, (own[0][task] + 3 * own[1][task]) / 4)
        assert not found.requires_grad


def test_a_student_learns_on_rows_without_a_label(experiment: Experiment, schema: Schema, tmp_path: Path):
    teacher = teacher_at(tmp_path / "e", experiment, schema)
    student = build_model(experiment, schema)
    columns = rows_of(experiment)
    columns[label_column("rating")].fill_(torch.nan)
    batch, losses = build_masking(experiment).draw(columns, epoch=0), losses_of(experiment, student, teacher)
    found = losses.of_outputs(losses.forward(student, batch), batch)
    place = list(student.tasks).index("rating")
    assert found.totals is not None
    assert found.totals[len(student.tasks) + place] == 20
    assert found.values[place] > 0


def test_a_student_that_is_its_teacher_has_no_loss_of_a_number(experiment: Experiment, schema: Schema, tmp_path: Path):
    teacher = teacher_at(tmp_path / "e", experiment, schema)
    student: Any = teacher.model.members[0]
    batch = build_masking(experiment).draw(rows_of(experiment), epoch=0)
    losses = losses_of(experiment, student, teacher)
    found = losses.of_outputs(losses.forward(student, batch), batch)
    assert found.values[list(student.tasks).index("rating")] == 0


def test_validation_rows_are_judged_by_their_labels(experiment: Experiment, schema: Schema, tmp_path: Path):
    student = build_model(experiment, schema).eval()
    taught = losses_of(experiment, student, teacher_at(tmp_path / "e", experiment, schema))
    plain = losses_of(experiment, student)
    assert torch.equal(*(each.of_validation(rows_of(experiment), 0).values for each in (taught, plain)))


def test_a_teacher_of_another_data_set_is_refused(experiment: Experiment, schema: Schema, tmp_path: Path):
    teacher_at(tmp_path / "e", experiment, schema)
    other = schema_of(experiment).model_copy(update={"fingerprint": "another"})
    with pytest.raises(InputError, match=r"training\.distill: expected a model of the data set another"):
        Teacher(str(tmp_path / "e"), other, CPU, torch.float32)


def test_the_number_of_epochs_is_not_chosen_on_another_data_set(experiment: Experiment):
    assert not chooses_epochs(override(experiment, {"training.distill": "folder"}))
