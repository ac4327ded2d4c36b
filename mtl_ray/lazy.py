"""Packages whose public names are imported when they are first asked for (PEP 562)."""

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def lazy(package: str, places: Mapping[str, str]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return the `__getattr__` and the `__dir__` of a package.

    Args:
        package: its name, `__name__`.
        places: the module of each public name, as it is called within the package.

    Example:
        >>> __getattr__, __dir__ = lazy("mtl_ray.balancing", {"Balancer": "base"})
        >>> __getattr__("Balancer").__name__
        'Balancer'
        >>> __getattr__("Balance")
        Traceback (most recent call last):
        AttributeError: module 'mtl_ray.balancing' has no attribute 'Balance'
    """

    def find(name: str) -> Any:
        if name not in places:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        found = getattr(import_module(f"{package}.{places[name]}"), name)
        setattr(sys.modules[package], name, found)  # the next time it is there
        return found

    def names() -> list[str]:
        return sorted({*vars(sys.modules[package]), *places})

    return find, names
