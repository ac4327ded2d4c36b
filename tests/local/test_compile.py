"""A compiled network makes the same steps."""

import os
from typing import Any

import pytest
import torch

from mtl_ray.errors import InputError
from mtl_ray.training.trainer import Trainer
from tests.support import architectures, parameters, small_experiment
from tests.unit.conftest import batch_of, schema_of
from tests.unit.models.architectures.test_architectures import labels_of


def trainer_of(**changes: Any) -> Trainer:
    settings = {"tasks": {"click": "binary", "rating": "regression"}, "model": architectures()["mmoe"]}
    experiment = small_experiment(**{**settings, "balancing": {"kind": "equal", "diagnostics_every": 3}, **changes})
    return Trainer(experiment, schema_of(experiment), torch.device("cpu"))


def batches() -> list[dict[str, torch.Tensor]]:
    return [batch_of(n, n) | labels_of(n) | {"row": torch.arange(n)} for n in (32, 32, 31, 32, 20)]


@pytest.fixture(params=["aot_eager", "inductor"])
def backend(request, monkeypatch) -> None:
    """That of the package, which takes most of a minute, and one that makes the same graphs and no C++ of them."""
    if request.param == "inductor" and not os.environ.get("MTL_RAY_TEST_COMPILE"):
        pytest.skip("MTL_RAY_TEST_COMPILE is not set")
    of_torch = torch.compile
    monkeypatch.setattr(torch, "compile", lambda model, **options: of_torch(model, backend=request.param, **options))
    torch.compiler.reset()


@pytest.mark.filterwarnings("ignore")  # of the compiler about its own parts
def test_a_compiled_network_makes_the_same_steps_under_the_same_names(backend):
    plain, compiled = trainer_of(), trainer_of(training__compile=True)
    assert compiled.compiled
    assert list(plain.model.state_dict()) == list(compiled.model.state_dict())
    for batch in batches():
        torch.testing.assert_close(compiled.step(batch), plain.step(batch))
    for name, expected in parameters(plain).items():
        torch.testing.assert_close(parameters(compiled)[name], expected, rtol=1e-9, atol=1e-12)
    seen = [trainer.monitor.end_epoch() for trainer in (plain, compiled)]
    assert seen[0].keys() == seen[1].keys()
    assert any("cosine" in key for key in seen[0]), seen[0].keys()
    for key, value in seen[0].items():
        assert seen[1][key] == pytest.approx(value, nan_ok=True), key


def test_without_a_compiler_training_goes_on_with_one_warning(monkeypatch):
    def compile_nothing(*_: Any, **__: Any) -> None:
        raise RuntimeError("no C++ compiler\nand more lines")

    monkeypatch.setattr(torch, "compile", compile_nothing)
    with pytest.warns(UserWarning, match="training.compile: no working compiler, .* without it: no C") as told:
        trainer = trainer_of(training__compile=True)
    assert len(told) == 1
    assert not trainer.compiled
    trainer.step(batches()[0])


@pytest.mark.parametrize("balancing", [{"kind": "mgda"}, {"kind": "graddrop"}, {"kind": "db_mtl"}])
def test_weightings_that_look_inside_are_refused(balancing: dict[str, Any]):
    with pytest.raises(InputError, match=r"training\.compile: balancing\.kind .* compares gradients inside"):
        trainer_of(training__compile=True, balancing=balancing)
