"""What `check` says of a model that no machine holds, and where its cost is kept."""

from pathlib import Path
from typing import Any

import pytest

from mtl_ray.config.cost import Complexity
from mtl_ray.workflows import plan as plans
from mtl_ray.workflows.plan import Plan
from tests.support import small_experiment
from tests.unit.conftest import schema_of


def plan(table: int, **changes: Any) -> Plan:
    size = 4 * table
    cost = Complexity(
        parameters={"table user_id": table, "network": 10},
        multiply_adds=1,
        parameter_bytes=size,
        summed_bytes=size,
        row_bytes=0,
        optimizer_bytes=2 * size,
        activation_bytes=0,
    )
    experiment = small_experiment(**changes)
    return Plan(experiment, schema_of(experiment), exact=True, complexity=cost, findings=[])


def test_a_model_beyond_the_memory_of_the_machine_is_told_with_its_largest_part():
    (line,) = [line for line in plan(10**13).lines() if line.startswith("too large")]
    assert "74,506 GiB of optimizer alone" in line
    assert "the largest part of the model is table user_id, with 10,000,000,000,000 numbers" in line
    assert plan(10**13).to_dict()["is_too_large_for_this_machine"]


def test_an_ensemble_costs_as_many_trainings_as_it_has_members():
    whole = plan(2**18, training__ensemble=3)
    (line,) = [line for line in whole.lines() if line.startswith("ensemble")]
    assert "3 members, so 3 such trainings, 786,462 parameters, and 12.0 MiB of memory" in line
    assert whole.to_dict()["trainings"] == 3
    assert not any(line.startswith("ensemble") for line in plan(2**18).lines())


def test_a_model_that_fits_is_not_called_too_large():
    assert not any("too large" in line for line in plan(1000).lines())
    assert not plan(1000).to_dict()["is_too_large_for_this_machine"]


@pytest.mark.parametrize("kept", [0, 0.5, 0.9])
def test_a_damaged_cost_is_told_and_computed_again(tmp_path: Path, kept: float):
    experiment = small_experiment(data__cache=str(tmp_path))
    schema = schema_of(experiment)
    cost = plans._cost(experiment, schema)
    (file,) = (tmp_path / "costs").iterdir()
    whole = file.read_text()
    file.write_text(whole[: int(len(whole) * kept)])
    with pytest.warns(UserWarning, match=f"{file}: expected a model's cost, found a damaged file"):
        assert plans._cost(experiment, schema) == cost
    assert file.read_text() == whole
    assert plans._cost(experiment, schema) == cost
