import pytest
import torch

from mtl_ray.errors import InputError
from mtl_ray.models import MultiTaskModel, checkpoint
from tests.unit.conftest import batch_of


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


@pytest.mark.parametrize("name", ["experiment.json", "schema.json", "model.safetensors"])
def test_the_missing_file_is_named(experiment, schema, model: MultiTaskModel, tmp_path, name: str):
    checkpoint.save(tmp_path / "c", experiment, schema, model, {})
    (tmp_path / "c" / name).unlink()
    with pytest.raises(InputError, match=f"expected a checkpoint folder; {name} is missing"):
        checkpoint.load(tmp_path / "c")


def test_a_checkpoint_without_trainer_cannot_be_continued(experiment, schema, model: MultiTaskModel, tmp_path):
    checkpoint.save(tmp_path / "c", experiment, schema, model, {})
    (tmp_path / "c" / "trainer.pt").unlink()
    assert not checkpoint.load(tmp_path / "c").model.training
    with pytest.raises(InputError, match=r"to continue from; trainer\.pt is missing"):
        checkpoint.load_trainer(tmp_path / "c")


def test_a_save_that_stops_midway_leaves_no_complete_folder(experiment, schema, model, tmp_path, monkeypatch):
    def stop(*_):
        raise OSError("disk full")

    monkeypatch.setattr(checkpoint, "save_file", stop)
    with pytest.raises(OSError, match="disk full"):
        checkpoint.save(tmp_path / "c", experiment, schema, model, {})
    with pytest.raises(InputError, match=r"model\.safetensors is missing"):
        checkpoint.load(tmp_path / "c")


def test_a_loaded_model_can_be_trained_on(experiment, schema, model: MultiTaskModel, tmp_path):
    checkpoint.save(tmp_path / "c", experiment, schema, model, {})
    loaded = checkpoint.load(tmp_path / "c").model
    sum(o.square().sum() for o in loaded(batch_of(32)).logits.values()).backward()
    assert all(p.requires_grad and p.grad is not None for p in loaded.parameters())
    assert all(torch.equal(p, q) for p, q in zip(loaded.parameters(), model.parameters(), strict=True))


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_a_checkpoint_with_weights_that_are_not_finite_is_refused(experiment, schema, model, tmp_path, value: float):
    with torch.no_grad():
        name, weight = next((n, p) for n, p in model.named_parameters() if p.numel() > 1)
        weight.view(-1)[-1] = value
    checkpoint.save(tmp_path / "c", experiment, schema, model, {})
    with pytest.raises(InputError, match="expected finite weights; found NaN or infinity in") as told:
        checkpoint.load(tmp_path / "c")
    assert name in str(told.value)
    assert "\n" not in str(told.value)
