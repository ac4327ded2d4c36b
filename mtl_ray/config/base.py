"""The base of every section of the experiment file."""

import pkgutil
from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from functools import cache
from typing import Annotated, Any, ClassVar, TypeVar, Union

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError
from pydantic.fields import FieldInfo

from mtl_ray.config.explain import explained
from mtl_ray.errors import InputError

SectionT = TypeVar("SectionT", bound="Section")


class _SectionType(type(BaseModel)):
    """The type of sections: what a person makes of one in Python is as if a file had said it.

    Pydantic makes the sections of a file without this call, so that it knows where in the file an error is.
    """

    def __call__(cls: type[SectionT], *args: Any, **values: Any) -> SectionT:  # pyright: ignore[reportGeneralTypeIssues]
        try:
            made = super().__call__(*args, **values)  # pyright: ignore[reportAttributeAccessIssue]
        except ValidationError as error:
            raise InputError(f"{cls.__name__}: {explained(error, values, cls)}") from None
        if "kind" in cls.model_fields:
            made.model_fields_set.add("kind")  # the class has named it; without it the section cannot be read again
        return made


class Section(BaseModel, metaclass=_SectionType):
    """A frozen section of settings. An unknown key is an error, never ignored."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)

    implementation: ClassVar[str] = ""
    """`module:Class` of what the section describes, if that is a class of its own; see `implementation_of`."""

    def _implemented(self) -> "tuple[Any, Section]":
        """Return the class or function that it describes, and the settings that this takes."""
        return _imported(self.implementation), self


def implementation_of(section: Section) -> Any:
    """Import the class or function that a section describes; the settings themselves import nothing of it."""
    return section._implemented()[0]


def settings_of(section: Section) -> Any:
    """Return the settings that the implementation takes: the section itself, or those of a `custom` class."""
    return section._implemented()[1]


_imported = cache(pkgutil.resolve_name)  # it is asked for in every step and every request


class _Mark:
    """Metadata of a field's annotation."""


NOT_ENCODED = _Mark()
"""Marks, as in `Annotated[int, NOT_ENCODED]`, a setting that the prepared rows do not depend on: a data set prepared
with another value of it is used again. A field without the mark changes the fingerprint of the data set."""

ENCODED_UNLESS_DEFAULT = _Mark()
"""Marks a setting that was added when data sets were there already, and whose default is how they were prepared."""


def iso_date(value: Any) -> Any:
    """Return the text of a date or a time, as which YAML reads one without quotes; other values as they are."""
    return str(value) if isinstance(value, date) else value


def texts_of(node: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Yield the texts in a tree of settings, plain or of sections, with their dotted paths."""
    if isinstance(node, str):
        yield path, node
    elif isinstance(node, Mapping | Sequence | Section):
        entries = node.items() if isinstance(node, Mapping) else node if isinstance(node, Section) else enumerate(node)
        for key, child in entries:
            yield from texts_of(child, f"{path}.{key}" if path else str(key))


Scalar = Annotated[bool | int | float | str, BeforeValidator(iso_date)]
"""A value of a raw column, as the experiment file names it."""


def not_encoded(node: Any) -> dict[str, Any]:
    """Return the fields below a section, or a dict of sections, that are marked `NOT_ENCODED`, or by their default.

    They come as `model_dump(exclude=...)` takes them: true, or a dict of the marked fields further down, by name.
    """
    if isinstance(node, Mapping):
        children = {key: not_encoded(value) for key, value in node.items()}
    elif isinstance(node, Section):
        fields = type(node).model_fields.items()
        children = {n: _is_left_out(field, getattr(node, n)) or not_encoded(getattr(node, n)) for n, field in fields}
    else:
        return {}
    return {name: marked for name, marked in children.items() if marked}


def _is_left_out(field: FieldInfo, value: Any) -> bool:
    return NOT_ENCODED in field.metadata or (ENCODED_UNLESS_DEFAULT in field.metadata and value == field.default)


def name_alone(union: Any) -> BeforeValidator:
    """Let the name of a member of a union stand for the member: `split: time` for `split: {kind: time}`."""
    either = Union[union, str]  # noqa: UP007 - of a value, not of a type
    return BeforeValidator(
        lambda value: {"kind": value} if isinstance(value, str) else value, json_schema_input_type=either
    )
