"""Large tables are trained row by row, and only the rows of a batch move."""

from typing import Any

import pytest
import torch
from torch import nn

from mtl_ray.config import Experiment
from mtl_ray.errors import InputError
from mtl_ray.models import checkpoint
from mtl_ray.models.sparse import sparse_parameters
from mtl_ray.training.optimizer import clip_gradients
from mtl_ray.training.sparse_embeddings import LazyAdam, RowwiseAdagrad, share_rows
from mtl_ray.training.state import resume, state_of
from mtl_ray.training.trainer import Trainer
from tests.support import small_experiment
from tests.unit.conftest import batch_of, schema_of
from tests.unit.models.architectures.test_architectures import labels_of

KINDS = ("lazy_adam", "rowwise_adagrad")


def experiment_of(rows: int = 10, **changes: Any) -> Experiment:
    """With the tables of users and items above the threshold, and those of attributes below it."""
    tasks = {"click": "binary", "rating": "regression"}
    return small_experiment(**{"tasks": tasks, "training__sparse_tables__rows": rows, **changes})


def trainer_of(experiment: Experiment) -> Trainer:
    return Trainer(experiment, schema_of(experiment), torch.device("cpu"))


def training_batch(size: int) -> dict[str, torch.Tensor]:
    return batch_of(size) | labels_of(size) | {"row": torch.arange(size)}


@pytest.mark.parametrize("kind", KINDS)
def test_only_the_rows_of_the_batch_move(kind: str):
    trainer = trainer_of(
        experiment_of(training__sparse_tables__kind=kind, training__optimizer__embedding_weight_decay=0.1)
    )
    tables = sparse_parameters(trainer.model)
    (name,) = (n for n in tables if "user_id" in n)
    before = tables[name].detach().clone()
    batch = training_batch(4)
    trainer.step(batch)
    moved = (tables[name] != before).any(1).nonzero()[:, 0].tolist()
    assert set(moved) <= {*batch["user_id"].tolist(), 2}  # 2 is read where the id is hidden
    assert set(batch["user_id"].tolist()) & set(moved)


def test_decay_by_epoch_reaches_all_rows_and_is_that_of_dense_tables():
    size, epochs = 64, 3  # an epoch has one step, so all rows decay in each
    changes = {"training__optimizer__embedding_decay": 0.2, "training__batch_size": size}
    sparse, dense = trainer_of(experiment_of(**changes)), trainer_of(experiment_of(rows=1000, **changes))
    dense.model.load_state_dict(sparse.model.state_dict())
    (name,) = (n for n in sparse_parameters(sparse.model) if "user_id" in n)
    first, batch = sparse.model.state_dict()[name].clone(), training_batch(4)
    for trainer in (sparse, dense):
        for _ in range(epochs):
            trainer.step(batch)
    unread = sorted(set(range(len(first))) - {*batch["user_id"].tolist(), 2})
    for trainer in (sparse, dense):
        torch.testing.assert_close(trainer.model.state_dict()[name][unread], first[unread] * 0.8**epochs)


def test_small_tables_and_null_leave_all_dense():
    assert not sparse_parameters(trainer_of(experiment_of(rows=1000)).model)
    assert not sparse_parameters(trainer_of(small_experiment(training__sparse_tables=None)).model)


def test_lazy_adam_is_adam_where_every_step_reads_every_row():
    dense, sparse = nn.Embedding(4, 3), nn.Embedding(4, 3, sparse=True)
    sparse.load_state_dict(dense.state_dict())
    target = torch.randn(4, 3)
    for table, optimizer in (
        (dense, torch.optim.Adam(dense.parameters(), lr=0.1)),
        (sparse, torch.optim.SparseAdam(list(sparse.parameters()), lr=0.1)),
    ):
        for _ in range(5):
            (table(torch.arange(4)) - target).square().sum().backward()
            share_rows(p for p in table.parameters() if p.grad is not None and p.grad.is_sparse)
            optimizer.step()
            optimizer.zero_grad()
    torch.testing.assert_close(sparse.weight, dense.weight)


def test_rowwise_adagrad_divides_by_the_root_mean_square_of_a_row():
    table = nn.Embedding(3, 2, sparse=True)
    before, optimizer = table.weight.detach().clone(), RowwiseAdagrad(table.parameters(), lr=0.5)
    for _ in range(2):
        (table(torch.tensor([1, 1])) * torch.tensor([3.0, 4.0])).sum().backward()
        share_rows(table.parameters())
        optimizer.step()
        optimizer.zero_grad()
    gradient = torch.tensor([6.0, 8.0])  # the row is read twice
    steps = sum(gradient / (n * 50) ** 0.5 for n in (1, 2))
    torch.testing.assert_close(table.weight, before - 0.5 * torch.stack([torch.zeros(2), steps, torch.zeros(2)]))


def test_the_norm_of_a_gradient_counts_each_row_once():
    model = nn.ModuleDict({"table": nn.Embedding(5, 2, sparse=True), "layer": nn.Linear(2, 1, bias=False)})
    model["layer"](model["table"](torch.tensor([1, 1, 3]))).sum().backward()
    share_rows([model["table"].weight])
    whole = torch.cat([model["table"].weight.grad.to_dense().flatten(), model["layer"].weight.grad.flatten()])
    clip_gradients(model, whole.norm().item() / 2)
    after = torch.cat([model["table"].weight.grad.to_dense().flatten(), model["layer"].weight.grad.flatten()])
    torch.testing.assert_close(after, whole / 2, rtol=1e-5, atol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_training_goes_on_as_if_never_interrupted(kind: str, tmp_path):
    experiment = experiment_of(training__sparse_tables__kind=kind)
    batches = [training_batch(32 + n) for n in range(4)]
    whole, first = trainer_of(experiment), trainer_of(experiment)
    for batch in batches:
        whole.step(batch)
    for batch in batches[:2]:
        first.step(batch)
    checkpoint.save(tmp_path, experiment, first.schema, first.evaluated, state_of(first))
    second = trainer_of(experiment)
    resume(second, tmp_path)
    for batch in batches[2:]:
        second.step(batch)
    expected = whole.model.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in second.model.state_dict().items())


@pytest.mark.parametrize("kind", ["mgda", "imtl_g", "gradnorm"])
def test_gradients_on_the_representation_go_with_them(kind: str):
    trainer = trainer_of(experiment_of(balancing={"kind": kind}))
    before = {name: p.detach().clone() for name, p in trainer.model.named_parameters()}
    trainer.step(training_batch(64))
    assert all((p != before[name]).any() for name, p in sparse_parameters(trainer.model).items())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"balancing": {"kind": "mgda", "space": "parameters"}}, "`mgda` compares gradients on all parameters"),
        ({"balancing": {"kind": "db_mtl"}}, "`db_mtl` compares gradients on all parameters"),
        ({"training__affinity_every": 5}, "lookahead affinity tries steps on all parameters"),
        ({"model__kind": "soft_sharing"}, "`soft_sharing` ties all rows"),
    ],
)
def test_what_wants_whole_gradients_is_refused(changes: dict[str, Any], message: str):
    with pytest.raises(InputError, match=rf"training\.sparse_tables: .*{message}.* the 10 rows .* to null"):
        trainer_of(experiment_of(**changes))


def test_lazy_adam_is_sparse_adam_of_torch():
    torch.manual_seed(0)
    ours, theirs = (nn.Parameter(torch.arange(80.0).reshape(20, 4)) for _ in range(2))
    optimizers = [LazyAdam([ours], lr=0.1), torch.optim.SparseAdam([theirs], lr=0.1)]
    torch.sparse.check_sparse_tensor_invariants.disable()
    for step in range(6):
        rows = torch.randint(20, (5 + step,))
        gradient = torch.sparse_coo_tensor(rows[None], torch.randn(len(rows), 4), (20, 4)).coalesce()
        for parameter, optimizer in zip((ours, theirs), optimizers, strict=True):
            parameter.grad = gradient
            optimizer.step()
        torch.testing.assert_close(ours, theirs)
