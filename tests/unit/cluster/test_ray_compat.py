"""One module alone uses what Ray keeps private."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import mtl_ray

PACKAGE = Path(mtl_ray.__file__).parent
COMPAT = PACKAGE / "cluster/ray_compat.py"
PRIVATE_PATH = re.compile(
    r"\bray\.(\w+\.)*(_\w+|experimental|dashboard)\b|\bv2/_internal\b|checkpoint_manager_snapshot"
)
INHERITED = {"_create_default_callbacks", "_initialize_and_run_controller", "_completed_trials", "_ot_trials"}
INHERITED |= {"_ot_study", "_base_exc"}
"""Private attributes of Ray's classes, which look like our own."""


def private_uses(code: str) -> Iterator[str]:
    """Each private name of Ray in a module, with its line."""
    for node in ast.walk(ast.parse(code)):
        names: list[str] = []
        match node:
            case ast.Import():
                names = [alias.name for alias in node.names]
            case ast.ImportFrom(module=str() as module):
                names = [f"{module}.{alias.name}" for alias in node.names]
            case ast.Attribute():
                names = [ast.unparse(node), *({node.attr} & INHERITED)]
            case ast.FunctionDef(name=name):
                names = [*({name} & INHERITED)]
            case ast.Constant(value=str() as text):
                names = [text]
        for name in names:
            if PRIVATE_PATH.search(name) or name in INHERITED:
                yield f"line {node.lineno}: {name}"


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_module_but_one_uses_private_names_of_ray(path: Path):
    found = list(private_uses(path.read_text()))
    assert bool(found) == (path == COMPAT), found


@pytest.mark.parametrize(
    "code",
    [
        "import ray._raylet",
        "from ray._private.state import state",
        "from ray.train.v2._internal.callbacks.datasets import DatasetsCallback",
        "from ray.experimental import tqdm_ray",
        "ray._private.worker.global_worker",
        "logging.getLogger('ray.train._internal.storage')",
        "class T(TorchTrainer):\n    def _create_default_callbacks(self): ...",
        "search._ot_trials",
        "getattr(error, '_base_exc')",
    ],
)
def test_a_private_name_would_be_found(code: str):
    assert list(private_uses(code))
