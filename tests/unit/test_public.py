"""The library: what is public, what importing it costs, and that signatures change on purpose only.

To renew the signatures: `python -m tests.unit.test_public > tests/unit/public.txt`
"""

import doctest
import importlib
import inspect
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

import mtl_ray as mtl

SIGNATURES = Path(__file__).with_name("public.txt")
WITH_RAY = ["prepare", "train", "Trained", "Prepared", "evaluate", "predict", "load_model", "Model"]
"""Names whose examples need a trained model: `tests/cluster/test_library.py` runs them."""
NAMES = [name for name in mtl.__all__ if not inspect.ismodule(getattr(mtl, name))]


def signatures() -> Iterator[str]:
    for name in NAMES:
        found = getattr(mtl, name)
        if inspect.isclass(found) and issubclass(found, BaseModel):
            yield f"{name}: {', '.join(found.model_fields)}"
        else:
            yield shown(name, found)
        if inspect.isclass(found) and found.__module__.startswith("mtl_ray"):
            yield from (shown(f"{name}.{member}", value) for member, value in members(found))


def members(kind: type) -> Iterator[tuple[str, Any]]:
    """The public methods and properties of a class that are the package's own."""
    bases = [base for base in reversed(kind.__mro__) if base.__module__.startswith("mtl_ray")]
    found = {name: value for base in bases for name, value in vars(base).items()}
    for name, value in sorted(found.items()):
        if not name.startswith("_") and (inspect.isfunction(value) or isinstance(value, property)):
            yield name, value


def shown(name: str, found: Any) -> str:
    text = str(inspect.signature(found.fget if isinstance(found, property) else found))
    text = re.sub("<function <lambda> at 0x[0-9a-f]+>", "...", text).replace("<built-in function print>", "print")
    text = re.sub(r"\b(?:[a-z_]\w*\.)+(?=\w)", "", text)  # the modules of types
    return name + (text.removeprefix("(self)") if isinstance(found, property) else text)


def test_signatures_are_those_that_were_agreed_on():
    assert list(signatures()) == SIGNATURES.read_text().splitlines()


def test_importing_the_library_loads_nothing_else():
    code = "import sys, mtl_ray; dir(mtl_ray); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    assert not {name.partition(".")[0] for name in loaded} & {"ray", "torch", "mlflow", "pandas", "pydantic", "pyarrow"}
    assert [name for name in loaded if name.startswith("mtl_ray")] == ["mtl_ray"]


def test_a_name_comes_from_the_module_that_editors_see():
    source = inspect.getsource(mtl)
    for name, home in mtl._HOMES.items():
        assert re.search(rf"from mtl_ray\.{home} import [^\n]*\b{name}\b", source), name
        assert getattr(mtl, name) is getattr(importlib.import_module(f"mtl_ray.{home}"), name)
    assert set(mtl.__all__) <= set(dir(mtl))


def test_a_name_that_is_not_there_is_an_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'trian'"):
        mtl.trian  # noqa: B018


@pytest.mark.parametrize("name", NAMES)
def test_every_public_name_says_what_it_is_with_an_example_that_holds(name: str):
    found = getattr(mtl, name)
    assert ">>>" in (found.__doc__ or ""), name
    if inspect.isfunction(found):
        for parameter in inspect.signature(found).parameters:
            assert f"        {parameter}: " in found.__doc__, f"{name}: {parameter}"
        assert "Raises:" in found.__doc__, name
    for test in (
        []
        if name in WITH_RAY
        else doctest.DocTestFinder(recurse=False).find(found, name, sys.modules[found.__module__])
    ):
        assert doctest.DocTestRunner(optionflags=doctest.ELLIPSIS, verbose=False).run(test).failed == 0


def test_the_example_of_the_package_holds():
    assert doctest.testmod(mtl).failed == 0


if __name__ == "__main__":
    print(*signatures(), sep="\n")
