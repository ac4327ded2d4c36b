"""The classes and functions to use in a training loop of one's own: each has an example, and the examples hold."""

import doctest
import importlib
import inspect
import subprocess
import sys
from types import ModuleType

import pytest

PACKAGES = ("mtl_ray.balancing", "mtl_ray.evaluation", "mtl_ray.models", "mtl_ray.tasks")
NAMES = [(package, name) for package in PACKAGES for name in importlib.import_module(package).__all__]


@pytest.mark.parametrize(("package", "name"), NAMES)
def test_a_public_name_has_an_example_that_holds(package: str, name: str):
    found = getattr(importlib.import_module(package), name)
    home = sys.modules[found.__module__]
    tests = doctest.DocTestFinder().find(found, name, module=home, globs=dict(vars(home)))
    assert any(test.examples for test in tests)
    for test in tests:
        assert doctest.DocTestRunner().run(test).failed == 0


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_has_the_names_that_editors_see(package: str):
    module: ModuleType = importlib.import_module(package)
    assert {*module.__all__} <= {*dir(module)}
    for name in module.__all__:
        home = getattr(module, name).__module__
        assert f"from {home} import" in inspect.getsource(module)
    with pytest.raises(AttributeError, match=f"module '{package}' has no attribute 'Nothing'"):
        module.Nothing  # noqa: B018


def test_a_package_loads_what_is_asked_for_alone():
    code = f"import sys; import {', '.join(PACKAGES)}; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    assert not {"torch", "ray", "numpy", "pydantic"} & set(loaded)
