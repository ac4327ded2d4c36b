import pytest
import torch

from mtl_ray import checkpoint
from mtl_ray.errors import InputError
from mtl_ray.models import MultiTaskModel
from mtl_ray.models.masks import draw_hidden, hidden_by, trainable
from mtl_ray.schema import NULL, PADDING, UNKNOWN, FittedFeature, FittedTask, Schema
from tests.support import small_experiment

SIZES = {"user_id": 20, "item_id": 15, "gender": 5, "occupation": 9, "category": 8, "tags": 12, "price": 11}


@pytest.fixture
def experiment():
    return small_experiment(training__precision="float32", features__history__values="rating")


@pytest.fixture
def schema(experiment) -> Schema:
    features = {n: FittedFeature(num_embeddings=size) for n, size in SIZES.items()}
    features |= {"age": FittedFeature(mean=40, std=10), "history": FittedFeature(num_embeddings=15, mean=3, std=1)}
    return Schema(
        features=features,
        tasks={n: FittedTask(classes=("a", "b", "c"), mean=0.5) for n in experiment.tasks},
        num_rows={"train": 10},
        train_offsets=(0, 10),
        num_lanes=1,
        fingerprint="f",
        content_hash="c",
    )


def batch_of(size: int, seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)

    def rows(high: int, *shape: int) -> torch.Tensor:
        return torch.randint(NULL, high, shape, generator=generator, dtype=torch.int32)

    batch = {name: rows(high, size) for name, high in SIZES.items() if name != "tags"}
    history = rows(15, size, 10)
    history[:, 6:] = PADDING
    return {
        **batch,
        "tags": rows(12, size, 3),
        "age": torch.randn(size, generator=generator),
        "history": history,
        "history.values": torch.randn(size, 10, generator=generator),
    }


@pytest.fixture
def model(experiment, schema) -> MultiTaskModel:
    torch.manual_seed(0)
    return MultiTaskModel(experiment, schema).eval()


def test_outputs_have_the_width_of_their_task(model: MultiTaskModel):
    widths = {name: tuple(o.shape) for name, o in model(batch_of(4)).items()}
    assert widths == {
        "click": (4, 1),
        "rating": (4, 1),
        "purchase": (4, 1),
        "gender": (4, 1),
        "occupation": (4, 3),
        "tags": (4, 3),
    }


@pytest.mark.parametrize("interaction", ["concat", "dot"])
def test_every_parameter_gets_a_gradient(schema: Schema, interaction: str):
    experiment = small_experiment(
        training__precision="float32", features__history__values="rating", model__interaction=interaction
    )
    model = MultiTaskModel(experiment, schema)
    batch = batch_of(64)
    batch["history"][:5] = PADDING
    sum(o.square().sum() for o in model(batch).values()).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_a_row_does_not_depend_on_its_batch(model: MultiTaskModel):
    batch = batch_of(16)
    whole = model.evaluation_logits(batch)
    alone = model.evaluation_logits({n: c[3:4] for n, c in batch.items()})
    for name in whole:
        torch.testing.assert_close(alone[name], whole[name][3:4], atol=1e-6, rtol=0)


def test_padding_does_not_change_a_row(model: MultiTaskModel):
    batch = batch_of(8)
    cut = {**batch, "history": batch["history"][:, :6], "history.values": batch["history.values"][:, :6]}
    for name, output in model(batch).items():
        torch.testing.assert_close(model(cut)[name], output, atol=1e-6, rtol=0)


def test_an_empty_batch_has_empty_outputs(model: MultiTaskModel):
    assert all(len(o) == 0 for o in model({n: c[:0] for n, c in batch_of(2).items()}).values())


def test_hidden_inputs_read_the_unknown_and_null_rows(model: MultiTaskModel):
    batch = batch_of(6)
    hide = torch.ones(6, dtype=torch.bool)
    hidden = model(batch, dict.fromkeys(("user_id", "gender", "tags", "age", "history"), hide))
    nothing = torch.full_like(batch["tags"], PADDING)
    nothing[:, 0] = NULL
    written = model(
        {
            **batch,
            "user_id": torch.full_like(batch["user_id"], UNKNOWN),
            "gender": torch.full_like(batch["gender"], NULL),
            "tags": nothing,
            "age": torch.full_like(batch["age"], float("nan")),
            "history": torch.full_like(batch["history"], PADDING),
        }
    )
    assert all(torch.equal(hidden[name], written[name]) for name in hidden)


def test_a_masked_input_task_cannot_see_its_label_or_the_id(model: MultiTaskModel):
    batch = batch_of(6)
    other = {**batch, "user_id": batch["user_id"].flip(0), "gender": batch["gender"].flip(0)}
    assert torch.equal(model.evaluation_logits(batch)["gender"], model.evaluation_logits(other)["gender"])
    assert not torch.equal(model.evaluation_logits(batch)["click"], model.evaluation_logits(other)["click"])


def test_masks_have_their_rates_and_depend_on_the_row_alone(experiment):
    rows = torch.arange(40_000)
    hidden = draw_hidden(experiment, rows, seed=1, epoch=0)
    rate = 1 - 0.9 * 0.8 * 0.8  # new users, and the two profile tasks that hide the user's id
    assert hidden["user_id"].double().mean() == pytest.approx(rate, abs=0.01)
    assert hidden["history"].double().mean() == pytest.approx(0.1, abs=0.01)
    shuffled = torch.randperm(len(rows))
    again = draw_hidden(experiment, rows[shuffled], seed=1, epoch=0)
    assert all(torch.equal(hidden[name][shuffled], again[name]) for name in hidden)
    other = draw_hidden(experiment, rows, seed=1, epoch=1)
    assert not torch.equal(hidden["user_id"], other["user_id"])


def test_a_masked_input_task_learns_only_where_its_inputs_are_hidden(experiment):
    rows = torch.arange(1000)
    hidden = draw_hidden(experiment, rows, seed=0, epoch=0)
    assert hidden_by(experiment, "gender") == {"gender", "user_id"}
    assert hidden_by(experiment, "tags") == {"tags", "item_id"}
    mask = trainable(experiment, "gender", hidden, 1000)
    assert torch.equal(mask, hidden["gender"] & hidden["user_id"])
    assert trainable(experiment, "click", hidden, 1000).all()


def test_a_checkpoint_rebuilds_the_model(experiment, schema, model: MultiTaskModel, tmp_path):
    checkpoint.save(tmp_path / "c", experiment, schema, model, {"step": 3})
    loaded = checkpoint.load(tmp_path / "c")
    assert (loaded.experiment, loaded.schema) == (experiment, schema)
    batch = batch_of(5)
    for name, values in model.predict(batch).items():
        assert torch.equal(loaded.model.predict(batch)[name], values)
    assert checkpoint.load_trainer(tmp_path / "c") == {"step": 3}


def test_an_incomplete_checkpoint_is_refused(experiment, schema, model: MultiTaskModel, tmp_path):
    checkpoint.save(tmp_path / "c", experiment, schema, model, {})
    (tmp_path / "c" / "model.safetensors").unlink()
    with pytest.raises(InputError, match=r"expected a checkpoint folder; model\.safetensors is missing"):
        checkpoint.load(tmp_path / "c")
