"""What a command does not need is not loaded."""

import subprocess
import sys

import pytest

HEAVY = {"ray", "torch", "mlflow", "pandas", "pyarrow", "scipy", "matplotlib", "torchjd", "torchmetrics"}

PLAN = """
from mtl_ray.config import parse
from mtl_ray.workflows.plan import plan

tree = {{
    "name": "small",
    "data": {{"source": {{"kind": "synthetic", "num_interactions": 500}}, "cache": {0!r}, "output": {0!r}}},
    "features": {{"user_id": {{"kind": "id", "entity": "user"}}, "item_id": {{"kind": "id", "entity": "item"}}}},
    "tasks": {{"click": "binary"}},
}}
print(*plan(parse(tree, "test")).lines(), sep="\\n")
"""

HELP = """
import contextlib, io, sys
import typer
from mtl_ray.cli.main import app, main

commands = typer.main.get_command(app).commands
for words in ([], *([name] for name in commands)):
    with contextlib.redirect_stdout(io.StringIO()):
        main([*words, "--help"])
print(*commands)
print(*{name.split(".")[1] for name in sys.modules if name.startswith("mtl_ray.")})
"""


def run(code: str) -> tuple[set[str], list[str]]:
    """Heavy packages that a new process has loaded after `code`, and what it printed."""
    code += "\nimport sys\nprint(*{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    *lines, modules = done.stdout.splitlines()
    return set(modules.split()) & HEAVY, lines


@pytest.mark.parametrize("code", ["import mtl_ray.cli.main", "import mtl_ray.config, mtl_ray.schema"])
def test_the_door_and_the_words_load_nothing_heavy(code: str):
    assert run(code)[0] == set()


def test_the_help_of_the_program_and_of_its_commands_loads_nothing_but_the_command_line():
    loaded, (commands, packages) = run(HELP)
    assert {"train", "serve", "submit"} <= {*commands.split()}
    assert loaded == set()
    assert {*packages.split()} == {"cli", "cluster", "credentials", "errors"}


def test_a_plan_loads_no_ray_and_torch_only_for_the_cost_of_a_model_that_is_new(tmp_path):
    code = PLAN.format(str(tmp_path))
    loaded, lines = run(code)
    assert loaded == {"torch", "pandas", "pyarrow"}
    assert run(code) == ({"pandas", "pyarrow"}, lines)


def test_a_training_with_declared_weights_loads_no_method_and_nothing_that_draws():
    assert run("import mtl_ray.training.trainer, mtl_ray.evaluation.evaluate")[0] == {"torch", "pandas", "pyarrow"}


def test_what_logs_epochs_loads_no_driver():
    """The controller of Ray Train loads it before it starts a worker."""
    loaded, (driver,) = run("import sys, mtl_ray.runs.callbacks\nprint('mtl_ray.runs.train' in sys.modules)")
    assert driver == "False"
    assert not loaded & {"torchjd", "torchmetrics", "matplotlib"}
