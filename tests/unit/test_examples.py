"""The public classes and functions of the parts: each says what it takes and has an example, and the examples hold."""

import ast
import doctest
import importlib
import inspect
import re
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import is_dataclass
from types import ModuleType, UnionType
from typing import Any, Union, get_args, get_origin

import pytest

from mtl_ray import config
from mtl_ray.config.base import Section

PACKAGES = ("mtl_ray.balancing", "mtl_ray.config", "mtl_ray.evaluation", "mtl_ray.models", "mtl_ray.tasks")
LAZY = tuple(package for package in PACKAGES if package != "mtl_ray.config")
"""The packages that import a name when somebody asks for it; settings are light, and there at once."""
PUBLIC = [(package, name) for package in PACKAGES for name in importlib.import_module(package).__all__]


def is_part(kind: Any) -> bool:
    """Whether a class is a section of an experiment, which is shown within an experiment and not alone."""
    return inspect.isclass(kind) and issubclass(kind, Section) and kind is not config.Experiment


SHOWN_ALONE = [(p, n) for p, n in PUBLIC if not is_part(getattr(importlib.import_module(p), n))]


@pytest.mark.parametrize(("package", "name"), SHOWN_ALONE)
def test_a_public_name_has_an_example_that_holds(package: str, name: str):
    found = getattr(importlib.import_module(package), name)
    home = sys.modules[found.__module__]
    tests = doctest.DocTestFinder().find(found, name, module=home, globs=dict(vars(home)))
    assert any(test.examples for test in tests)
    for test in tests:
        assert doctest.DocTestRunner().run(test).failed == 0


@pytest.mark.parametrize(("package", "name"), PUBLIC)
def test_a_public_name_says_what_it_is_what_it_takes_and_what_it_raises(package: str, name: str):
    found = getattr(importlib.import_module(package), name)
    assert found.__doc__
    if inspect.isclass(found) and (is_part(found) or issubclass(found, tuple) or is_dataclass(found)):
        return  # a field has a docstring of its own where its name does not say all
    made = found if inspect.isfunction(found) else vars(found).get("__init__")
    if made is None:
        return
    bases = inspect.getmro(found) if inspect.isclass(found) else ()
    text = "\n".join(filter(None, [found.__doc__, made.__doc__, *(base.__doc__ for base in bases)]))
    for parameter in inspect.signature(made).parameters:
        assert parameter == "self" or re.search(rf"^ +{parameter}: ", text, re.MULTILINE), parameter
    body = ast.parse(textwrap.dedent(inspect.getsource(made)))
    assert "Raises:" in text or not any(isinstance(node, ast.Raise) for node in ast.walk(body))


def unions(node: Any) -> Iterator[tuple[type[Section], ...]]:
    """The unions of sections in a type, and in the fields of these sections."""
    if inspect.isclass(node) and issubclass(node, Section):
        for field in node.model_fields.values():
            yield from unions(field.annotation)
        return
    inner = get_args(node)
    if get_origin(node) in (Union, UnionType):
        members = tuple(get_args(each)[0] if get_origin(each) else each for each in inner)
        sections = tuple(each for each in members if inspect.isclass(each) and issubclass(each, Section))
        if len(sections) > 1:
            yield sections
    for each in inner:
        yield from unions(each)


def test_the_example_of_all_settings_holds_and_has_a_member_of_each_union():
    assert doctest.testmod(config).failed == 0
    text, found = str(config.__doc__), set(unions(config.Experiment))
    assert len(found) > 10
    for members in found:
        assert any(f"{member.__name__}(" in text for member in members), members


@pytest.mark.parametrize("package", LAZY)
def test_a_package_has_the_names_that_editors_see(package: str):
    module: ModuleType = importlib.import_module(package)
    assert {*module.__all__} <= {*dir(module)}
    for name in module.__all__:
        home = getattr(module, name).__module__
        assert f"from {home} import" in inspect.getsource(module)
    with pytest.raises(AttributeError, match=f"module '{package}' has no attribute 'Nothing'"):
        module.Nothing  # noqa: B018


def test_a_package_loads_what_is_asked_for_alone():
    code = f"import sys; import {', '.join(LAZY)}; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    assert not {"torch", "ray", "numpy", "pydantic"} & set(loaded)
