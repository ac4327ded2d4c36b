"""Evaluated rows: the same in any batches and parts, in the order of their numbers."""

import pytest
import torch

from mtl_ray.evaluation.evaluate import by_row, evaluated, metrics_of
from mtl_ray.schema import ROW, USER_KEY, label_column
from tests.unit.conftest import batch_of

NUM_ROWS = 30


@pytest.fixture
def rows(model) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    batch = batch_of(NUM_ROWS) | {ROW: torch.randperm(NUM_ROWS, generator=generator)}
    batch[USER_KEY] = batch["user_id"].long()
    for name, task in model.tasks.items():
        shape = model.evaluation_logits(batch)[name].shape
        if task.spec.kind == "multiclass":
            label = torch.randint(0, 3, (NUM_ROWS,), generator=generator, dtype=torch.int32)
        elif task.spec.kind == "multilabel":
            label = torch.randint(0, 2, shape, generator=generator, dtype=torch.int8)
        else:
            label = torch.randint(0, 2, (NUM_ROWS,), generator=generator).float()
        batch[label_column(name)] = label
    return batch


def test_rows_do_not_depend_on_batches_and_parts(model, rows, experiment):
    def cut(first: int, last: int) -> dict[str, torch.Tensor]:
        return {name: column[first:last] for name, column in rows.items()}

    whole = by_row([evaluated(model, [rows])])
    batches = by_row([evaluated(model, [cut(0, 11), cut(11, 30)])])
    parts = by_row([evaluated(model, [cut(17, 30)]), evaluated(model, [cut(0, 17)])])
    assert whole[ROW].tolist() == list(range(NUM_ROWS))
    for name, column in whole.items():
        torch.testing.assert_close(batches[name], column)
        torch.testing.assert_close(parts[name], column)
    found = metrics_of(model, whole, "test")
    assert metrics_of(model, parts, "test") == pytest.approx(found, abs=1e-6)
    assert found["test/click/count"] == NUM_ROWS


def test_predictions_are_those_of_the_model_and_losses_sums_over_labelled_rows(model, rows):
    rows[label_column("rating")][:10] = torch.nan
    found = evaluated(model, [rows])
    for name, prediction in model.predict(rows).items():
        torch.testing.assert_close(found[name], prediction)
    total, count = found["rating.loss"].tolist()
    assert count == 20
    task, label = model.tasks["rating"], rows[label_column("rating")].double()
    logits = model.evaluation_logits(rows)["rating"].double()
    assert total == pytest.approx(task.loss(logits, label, task.labelled(label))[0].item())
