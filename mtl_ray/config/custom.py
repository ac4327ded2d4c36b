"""Parts that the user brings: a class outside of this package, named by its path, with settings of its own.

Reading a file that comes from elsewhere imports nothing: whoever reads settings says whether they are trusted.
"""

import difflib
import importlib
import importlib.util
import inspect
import pkgutil
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

from pydantic import (
    BeforeValidator,
    ConfigDict,
    Field,
    FieldSerializationInfo,
    PrivateAttr,
    ValidationError,
    ValidationInfo,
    field_serializer,
    model_validator,
)

from mtl_ray.config.base import Section
from mtl_ray.config.explain import SettingError, explain
from mtl_ray.errors import InputError, first_line

Trust = bool | Collection[str]
"""The `custom` classes that may be imported: all, none, or those of these names."""

TRUST, MODEL_ALONE = "trust", "model alone"
"""Keys of the context of a validation: the `Trust`, without which all are trusted, as in Python code of the user; and
whether a class that no model is built from may be missing, such as a source where a model only scores."""


def _class_path(value: Any) -> Any:
    """Return the path of a class, given as such or in Python as itself. Raises ValueError if it has none."""
    path = f"{value.__module__}:{value.__qualname__}" if isinstance(value, type) else value
    module, colon, name = path.partition(":") if isinstance(path, str) else ("", "", "")
    if not colon or not name.isidentifier() or not all(part.isidentifier() for part in module.split(".")):
        raise ValueError(f"expected `package.module:Name`, a class at the top of a module; found {path!r}")
    return path


class _Found(NamedTuple):
    """An imported class with its settings."""

    implementation: type
    settings: Section


class CustomConfig(Section):
    """A class of the user's own. Its settings are those of its nested class `Config`, a `Section`."""

    model_config = ConfigDict(serialize_by_alias=True, validate_by_alias=True, validate_by_name=True)

    base: ClassVar[str]
    """`module:Class` that the class must inherit from."""
    is_part_of_model: ClassVar[bool] = False
    """True if no model can be built without the class."""

    kind: Literal["custom"] = "custom"
    class_: Annotated[str, BeforeValidator(_class_path, json_schema_input_type=str)] = Field(alias="class")
    """Path of the class: `package.module:Name`."""
    settings: dict[str, Any] = Field(default={})
    """Settings of the class."""
    _found: _Found | None = PrivateAttr(default=None)

    @model_validator(mode="after")
    def _import(self, info: ValidationInfo) -> "CustomConfig":
        trust: Trust = (info.context or {}).get(TRUST, True)
        if trust is not True and (trust is False or self.class_ not in trust):
            return self
        try:
            implementation = _import_class(self.class_, self.base)
            self._found = _Found(implementation, _settings(self.class_, implementation, self.settings))
        except SettingError:
            if self.is_part_of_model or not (info.context or {}).get(MODEL_ALONE):
                raise
        return self

    @field_serializer("settings")
    def _with_defaults(self, settings: dict[str, Any], info: FieldSerializationInfo) -> dict[str, Any]:
        if self._found is None:
            return settings
        return self._found.settings.model_dump(mode=info.mode, exclude_unset=info.exclude_unset)

    @property
    def is_imported(self) -> bool:
        """True if the class was trusted, and there, when the settings were read."""
        return self._found is not None

    def fact(self, name: str, default: Any = None) -> Any:
        """Return an attribute of the class; the default if the class has none, or is not imported."""
        return default if self._found is None else getattr(self._found.implementation, name, default)

    def _implemented(self) -> tuple[Any, Section]:
        if self._found is None:
            raise InputError(untrusted({"": self}))
        return self._found


def _import_class(path: str, base: str) -> type:
    """Import a class. Raises SettingError unless it is there and inherits from `base`."""
    module_name, _, name = path.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        missing = str(error.name)
        own = f"{module_name}.".startswith(f"{missing}.")
        needs = f"needs the module `{missing}`" if own else f"is in a module that needs `{missing}`"
        raise _wrong(
            f"`{path}` {needs}, which cannot be found here; install its package or put its folder on PYTHONPATH"
        ) from None
    except Exception as error:
        raise _wrong(
            f"`{path}` cannot be imported: {type(error).__name__}: {first_line(error)}; correct `{module_name}`"
        ) from error
    found = getattr(module, name, None)
    if found is None:
        near = difflib.get_close_matches(name, vars(module), n=1)
        hint = f"did you mean `{near[0]}`?" if near else f"add it to {module_name}"
        raise _wrong(f"the module `{module_name}` has no `{name}`; {hint}")
    wanted = pkgutil.resolve_name(base)
    if not isinstance(found, type) or not issubclass(found, wanted):
        what = "a class that does not" if isinstance(found, type) else type(found).__name__
        raise _wrong(f"expected `{path}` to inherit from `{base.replace(':', '.')}`; found {what}")
    if inspect.isabstract(found):
        names = ", ".join(f"`{method}`" for method in sorted(found.__abstractmethods__))
        raise _wrong(f"`{path}` lacks {names}, see `{base.replace(':', '.')}`; add it")
    return found


def _settings(path: str, implementation: type, given: Mapping[str, Any]) -> Section:
    """Return the settings of a class. Raises SettingError unless they are valid."""
    config = getattr(implementation, "Config", _NoSettings)
    if not isinstance(config, type) or not issubclass(config, Section):
        raise _wrong(f"expected `{path}.Config` to inherit from `mtl_ray.config.base.Section`; found {config!r}")
    try:
        return config.model_validate(given)
    except ValidationError as error:
        mistakes = explain(error, given, config)
        raise SettingError([(f"settings.{at}".rstrip("."), f"{text} (`{path}`)") for at, text in mistakes]) from None


class _NoSettings(Section):
    """The settings of a class without `Config`."""


def _wrong(text: str) -> SettingError:
    return SettingError([("class", text)])


def custom_parts(node: Any, path: str = "") -> Iterator[tuple[str, CustomConfig]]:
    """Yield the `custom` sections of settings with their dotted paths."""
    if isinstance(node, CustomConfig):
        yield path, node
    elif isinstance(node, Section):
        node = {name: getattr(node, name) for name in type(node).model_fields}
    children: Any = ()
    if isinstance(node, Mapping):
        children = node.items()
    elif isinstance(node, Sequence) and not isinstance(node, str):
        children = enumerate(node)
    for name, child in children:
        yield from custom_parts(child, f"{path}.{name}" if path else str(name))


def classes_of(settings: Section) -> frozenset[str]:
    """Return the paths of the `custom` classes that settings name."""
    return frozenset(part.class_ for _, part in custom_parts(settings))


def is_trusted(settings: Section) -> bool:
    """Return whether all `custom` classes of settings are imported."""
    return all(part.is_imported for _, part in custom_parts(settings))


def untrusted(parts: Mapping[str, CustomConfig]) -> str:
    """Return the end of an error about classes, by path in the file, that were not imported."""
    named = ", ".join(f"{part.class_} ({path})" if path else part.class_ for path, part in parts.items())
    packages = ", ".join(f"`{name}`" for name in sorted({_package(part) for part in parts.values()}))
    return (
        f"needs {named}, and files from elsewhere run no code; if you trust {packages}, make it importable and pass "
        "--trust (in Python trust=True)"
    )


def _package(part: CustomConfig) -> str:
    return part.class_.partition(":")[0].partition(".")[0]


def code_of(settings: Section) -> dict[str, Path]:
    """Return the folder or file of each top package that the `custom` classes of settings are in, by its name.

    Raises:
        InputError: a class is not in a file, as one of a notebook is not, so that it cannot be sent elsewhere.
    """
    found = {}
    for path, part in custom_parts(settings):
        name = _package(part)
        if name in ("mtl_ray", *found):
            continue
        spec = importlib.util.find_spec(name) if name != "__main__" else None
        place = next(iter(spec.submodule_search_locations or ()), spec.origin) if spec else None
        if place is None or not Path(place).exists():
            raise InputError(f"{path}.class: expected a class in a file, which can be sent; found {part.class_}")
        found[name] = Path(place)
    return found
